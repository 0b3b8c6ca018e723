"""Random operations: every request that reads or writes keys, over few keys, so that they meet.

An operation is the request itself, with its revisions relative to the current one (`revisions.CURRENT`).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from google.protobuf.message import Message
from hypothesis import strategies as st

from fetch.api import rpc_pb2
from tests.endpoints.client import FROM_KEY
from tests.property.revisions import CURRENT, FARTHEST_BACK

M = TypeVar("M", bound=Message)


@dataclass(frozen=True, slots=True)
class Streamed:
    """A range asked for as RangeStream."""

    request: rpc_pb2.RangeRequest


Operation = (
    rpc_pb2.RangeRequest
    | Streamed
    | rpc_pb2.PutRequest
    | rpc_pb2.DeleteRangeRequest
    | rpc_pb2.TxnRequest
    | rpc_pb2.CompactionRequest
    | rpc_pb2.LeaseGrantRequest
    | rpc_pb2.LeaseRevokeRequest
    | rpc_pb2.LeaseTimeToLiveRequest
    | rpc_pb2.LeaseLeasesRequest
    | rpc_pb2.WatchCreateRequest
)

KEYS = (b"a", b"b", b"b\0", b"c", b"\0", b"\xff\xff")
LEASES = (1, 2, 3)
GRANTED = (1, 2)
"""Those that there are when an example begins; all are granted and revoked in it."""

keys = st.sampled_from((b"a", b"a", *KEYS))
# a single key, some keys, all that follow, and now and then an end before the start
ends = st.sampled_from((b"", b"", b"", b"c", b"d", FROM_KEY, b"b", b"\0\0", b"\xff"))
values = st.sampled_from((b"x", b"y", b"", b"\0y"))
leases = st.sampled_from((0, 0, 1, 1, 2, 2, 3))
rarely = st.sampled_from((False, False, False, True))
# mostly a revision there is, now and then one to come or one that is none
revisions = st.sampled_from((*(CURRENT - back for back in range(7)), CURRENT + 1, -1))
filters = st.sampled_from(tuple(CURRENT - back for back in range(-1, 7)))


def messages(
    kind: type[M], required: Mapping[str, st.SearchStrategy[Any]], optional: Mapping[str, st.SearchStrategy[Any]]
) -> st.SearchStrategy[M]:
    """Messages with all of the required fields and any of the optional ones."""
    return st.fixed_dictionaries(dict(required), optional=dict(optional)).map(lambda fields: kind(**fields))


plain_puts = messages(rpc_pb2.PutRequest, {"key": keys, "value": values, "lease": leases}, {"prev_kv": st.booleans()})
# with value and lease given now and then all the same, which is refused
ignoring_puts = messages(
    rpc_pb2.PutRequest,
    {"key": keys},
    {
        "ignore_value": st.just(True),
        "ignore_lease": st.just(True),
        "prev_kv": st.booleans(),
        "lease": st.sampled_from((0, 0, 0, 0, 1)),
        "value": st.sampled_from((b"", b"", b"", b"", b"x")),
    },
)
puts = st.one_of(plain_puts, ignoring_puts)
deletes = messages(rpc_pb2.DeleteRangeRequest, {"key": keys}, {"range_end": ends, "prev_kv": st.booleans()})
ranges = messages(
    rpc_pb2.RangeRequest,
    {"key": keys, "range_end": ends},
    {
        "limit": st.sampled_from((1, 2, 3, -1)),
        "revision": revisions,
        "sort_order": st.sampled_from((1, 2)),
        "sort_target": st.sampled_from((0, 1, 2, 3, 4)),
        "serializable": st.booleans(),
        "keys_only": st.booleans(),
        "count_only": rarely,
        "min_mod_revision": filters,
        "max_mod_revision": filters,
        "min_create_revision": filters,
        "max_create_revision": filters,
    },
)
plain_ranges = messages(
    rpc_pb2.RangeRequest,
    {"key": keys, "range_end": ends},
    {"limit": st.sampled_from((1, 2, -1)), "revision": revisions, "keys_only": st.booleans()},
)

_small = st.sampled_from((0, 1, 2))
_revision = st.one_of(st.just(0), filters)
_targets = st.one_of(
    st.fixed_dictionaries({"target": st.just("VERSION"), "version": _small}),
    st.fixed_dictionaries({"target": st.just("CREATE"), "create_revision": _revision}),
    st.fixed_dictionaries({"target": st.just("MOD"), "mod_revision": _revision}),
    st.fixed_dictionaries({"target": st.just("VALUE"), "value": values}),
    st.fixed_dictionaries({"target": st.just("LEASE"), "lease": leases}),
    st.fixed_dictionaries({"target": st.sampled_from(("MOD", "VALUE", "LEASE"))}),
)
compares = st.builds(
    lambda target, **fields: rpc_pb2.Compare(**target, **fields),
    _targets,
    key=keys,
    range_end=ends,
    result=st.sampled_from(("EQUAL", "NOT_EQUAL", "GREATER", "LESS")),
)


def _transactions(depth: int) -> st.SearchStrategy[rpc_pb2.TxnRequest]:
    kinds = [
        st.builds(rpc_pb2.RequestOp, request_put=puts),
        st.builds(rpc_pb2.RequestOp, request_delete_range=deletes),
        st.builds(rpc_pb2.RequestOp, request_range=ranges),
    ]
    if depth:
        kinds.append(st.builds(rpc_pb2.RequestOp, request_txn=_transactions(depth - 1)))
    branches = st.lists(st.one_of(kinds), max_size=4)
    return st.builds(rpc_pb2.TxnRequest, compare=st.lists(compares, max_size=2), success=branches, failure=branches)


def _spare_etcd(transaction: rpc_pb2.TxnRequest) -> rpc_pb2.TxnRequest:
    """Leaves out what etcd 3.7.3 dies of: a put that ignores value or lease of a key its transaction has deleted.

    Only a delete without an end can precede such a put; every other is refused as a duplicate.
    """
    if _deletes_without_end(transaction):
        _ignore_nothing(transaction)
    return transaction


def _operations(transaction: rpc_pb2.TxnRequest) -> list[rpc_pb2.RequestOp]:
    return [*transaction.success, *transaction.failure]


def _deletes_without_end(transaction: rpc_pb2.TxnRequest) -> bool:
    return any(
        operation.request_delete_range.range_end == FROM_KEY or _deletes_without_end(operation.request_txn)
        for operation in _operations(transaction)
        if operation.WhichOneof("request") in ("request_delete_range", "request_txn")
    )


def _ignore_nothing(transaction: rpc_pb2.TxnRequest) -> None:
    for operation in _operations(transaction):
        if operation.HasField("request_put"):
            operation.request_put.ClearField("ignore_value")
            operation.request_put.ClearField("ignore_lease")
        elif operation.HasField("request_txn"):
            _ignore_nothing(operation.request_txn)


transactions = _transactions(depth=2).map(_spare_etcd)
compactions = st.builds(
    # only a compaction that is over leaves nothing to chance
    rpc_pb2.CompactionRequest,
    revision=revisions,
    physical=st.just(True),
)
grants = st.builds(rpc_pb2.LeaseGrantRequest, ID=st.sampled_from(LEASES), TTL=st.sampled_from((1000, 5000)))
revokes = st.builds(rpc_pb2.LeaseRevokeRequest, ID=st.sampled_from(LEASES))
times_to_live = st.builds(rpc_pb2.LeaseTimeToLiveRequest, ID=st.sampled_from(LEASES), keys=st.booleans())
watches = messages(
    rpc_pb2.WatchCreateRequest,
    {"key": keys, "range_end": ends},
    {
        "start_revision": st.sampled_from((*(CURRENT - back for back in range(-2, FARTHEST_BACK)), -1)),
        "filters": st.sampled_from((["NOPUT"], ["NODELETE"], ["NOPUT", "NODELETE"])),
        "prev_kv": st.booleans(),
        "fragment": st.booleans(),
    },
)

WEIGHTS: dict[st.SearchStrategy[Operation], int] = {
    puts: 9,
    transactions: 8,
    ranges: 6,
    deletes: 2,
    watches: 2,
    st.builds(Streamed, plain_ranges): 1,
    compactions: 1,
    grants: 2,
    revokes: 1,
    times_to_live: 1,
    st.just(rpc_pb2.LeaseLeasesRequest()): 1,
}
operations: st.SearchStrategy[Operation] = st.sampled_from(
    [kind for kind, weight in WEIGHTS.items() for _ in range(weight)]
).flatmap(lambda kind: kind)

# lists of lists come out longer on average, and shrink as well
sequences: st.SearchStrategy[list[Operation]] = st.lists(st.lists(operations, max_size=6), max_size=16).map(
    lambda parts: [operation for part in parts for operation in part]
)

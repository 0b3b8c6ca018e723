"""Classification: what kind of operation a call is.

kube-apiserver sends few shapes of transactions, and each of them is one operation of the storage engine: these are the
fast path. Every other valid transaction is a `txn`. The parsed request is kept with the call, so it is parsed once.

Kinds: create, update, delete, get, list, count, put, delete_range, txn, compact, watch, lease, lock, election,
status, other.
"""

from typing import Any

from google.protobuf.message import DecodeError

from fetch.api.rpc_pb2 import CompactionRequest, Compare, DeleteRangeRequest, PutRequest, RangeRequest, TxnRequest
from fetch.chain import Call, Proceed, Setup
from fetch.chain.parsing import PARSED_AT_ONCE, parse_txn

_KV = "/etcdserverpb.KV/"
_REQUESTS: dict[str, type[Any]] = {
    _KV + "Range": RangeRequest,
    _KV + "RangeStream": RangeRequest,
    _KV + "Put": PutRequest,
    _KV + "DeleteRange": DeleteRangeRequest,
    _KV + "Txn": TxnRequest,
    _KV + "Compact": CompactionRequest,
}
_KINDS = {
    _KV + "Put": "put",
    _KV + "DeleteRange": "delete_range",
    _KV + "Compact": "compact",
    "/etcdserverpb.Watch/Watch": "watch",
    "/etcdserverpb.Maintenance/Status": "status",
}
_SERVICES = {"/etcdserverpb.Lease": "lease", "/v3lockpb.Lock": "lock", "/v3electionpb.Election": "election"}


class Classification:
    """Sets `call.kind` and, for the key-value service, `call.message`."""

    def __init__(self, setup: Setup) -> None:
        """Has no settings."""

    async def intercept(self, call: Call, proceed: Proceed) -> Any:
        """A request that cannot be parsed is refused where the chain ends: see `fetch.chain`."""
        method = call.method
        request = _REQUESTS.get(method)
        if request is not None:
            if request is TxnRequest:
                if len(call.request) > PARSED_AT_ONCE:
                    call.message = await _in_pieces(call)
                else:
                    try:
                        call.message = TxnRequest.FromString(call.request)
                    except DecodeError:
                        call.message = await _in_pieces(call)  # nested too deeply for protobuf, unless it is malformed
                call.kind = classify_txn(call.message)
            else:
                call.message = request.FromString(call.request)
                call.kind = classify_range(call.message) if request is RangeRequest else _KINDS[method]
        else:
            call.kind = _KINDS.get(method) or _SERVICES.get(method.rpartition("/")[0], "other")
        return await proceed(call)


async def _in_pieces(call: Call) -> TxnRequest:
    """The request of a transaction, parsed in turns with other tenants' work; it is no tenant's without one."""
    if call.tenant is None:
        return TxnRequest.FromString(call.request)
    return await parse_txn(call.request, call.tenant.turns, call.tenant.tenant)


def classify_range(request: RangeRequest) -> str:
    """get, list or count."""
    if request.count_only:
        return "count"
    return "list" if request.range_end else "get"


def classify_txn(request: TxnRequest) -> str:
    """create, update or delete where the transaction is one of kube-apiserver's shapes, else txn.

    `If mod_revision(k) == r Then put(k) [Else get(k)]`, and the same with a delete: `OptimisticPut` and
    `OptimisticDelete` of etcd's `client/v3/kubernetes`.
    """
    if len(request.compare) != 1 or len(request.success) != 1 or len(request.failure) > 1:
        return "txn"
    compare, then = request.compare[0], request.success[0]
    key = compare.key
    if (
        compare.target != Compare.MOD
        or compare.result != Compare.EQUAL
        or compare.range_end
        or not key
        or compare.mod_revision < 0
    ):
        return "txn"
    if request.failure and not _is_plain_get(request.failure[0].request_range, key):
        return "txn"
    if then.HasField("request_put"):
        put = then.request_put
        if put.key != key or put.prev_kv or put.ignore_value or put.ignore_lease:
            return "txn"
        return "update" if compare.mod_revision else "create"
    if then.HasField("request_delete_range"):
        delete = then.request_delete_range
        if delete.key != key or delete.range_end or delete.prev_kv:
            return "txn"
        return "delete"
    return "txn"


def _is_plain_get(request: RangeRequest, key: bytes) -> bool:
    """Whether a range reads just this key, as it is now. Unset, it has an empty key."""
    return request.key == key and request == RangeRequest(key=key)

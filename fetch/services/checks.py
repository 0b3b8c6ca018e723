"""What etcd refuses before it evaluates anything, in its order (`server/etcdserver/api/v3rpc/key.go`)."""

import itertools
from collections.abc import Iterator

import grpc
from google.protobuf.message import Message

from fetch import errors
from fetch.api.rpc_pb2 import PutRequest, RangeRequest, RequestOp, TxnRequest
from fetch.engine.records import varint
from fetch.engine.requests import is_filtered
from fetch.engine.turns import Work

# protobuf makes the lists anew each time, which is a fifth of a get's Python
_SORT_ORDERS = frozenset(RangeRequest.SortOrder.values())
_SORT_TARGETS = frozenset(RangeRequest.SortTarget.values())

_RAFT_HEADER_BYTES = 13
_RAFT_TAG_BYTES = 1


def check_size(request: bytes, message: Message, most: int) -> None:
    """Refuses what would be too large as an entry of etcd's log, which is what its bound is on.

    The entry (`InternalRaftRequest`, `server/etcdserver/v3_server.go`) has a header with the request's ID, nine bytes
    in most clusters, and the request as a field, encoded by the server: what is not as short as it could be is.

    :raises RequestTooLarge:
    """
    if _entry_bytes(len(request)) > most and _entry_bytes(message.ByteSize()) > most:
        raise errors.RequestTooLarge


def _entry_bytes(request_bytes: int) -> int:
    return _RAFT_HEADER_BYTES + _RAFT_TAG_BYTES + len(varint(request_bytes)) + request_bytes


def check_key(key: bytes) -> None:
    """:raises EmptyKey:"""
    if not key:
        raise errors.EmptyKey


def check_range(request: RangeRequest) -> None:
    """:raises EmptyKey: :raises InvalidSortOption:"""
    check_key(request.key)
    if request.sort_order not in _SORT_ORDERS or request.sort_target not in _SORT_TARGETS:
        raise errors.InvalidSortOption


def check_stream(request: RangeRequest) -> None:
    """:raises Refused: UNIMPLEMENTED"""
    by_key_ascending = request.sort_target == RangeRequest.KEY and request.sort_order == RangeRequest.ASCEND
    if request.sort_order != RangeRequest.NONE and not by_key_ascending:
        raise errors.Refused(grpc.StatusCode.UNIMPLEMENTED, "RangeStream does not support custom sort orders")
    if is_filtered(request):
        raise errors.Refused(grpc.StatusCode.UNIMPLEMENTED, "RangeStream does not support revision filters")


def check_put(request: PutRequest) -> None:
    """:raises EmptyKey: :raises ValueProvided: :raises LeaseProvided:"""
    check_key(request.key)
    if request.ignore_value and request.value:
        raise errors.ValueProvided
    if request.ignore_lease and request.lease:
        raise errors.LeaseProvided


async def check_txn(request: TxnRequest, most_ops: int, work: Work) -> None:
    """Nested transactions share what the outer one leaves of the bound, so they end.

    :raises TooManyOps: :raises KeyNotFound: an operation is none, and what its operations are refused with
    """
    within = [_enter(request, most_ops)]
    while within:
        operations, left = within[-1]
        operation = next(operations, None)
        if operation is None:
            within.pop()
            continue
        match operation.WhichOneof("request"):
            case "request_range":
                check_range(operation.request_range)
            case "request_put":
                check_put(operation.request_put)
            case "request_delete_range":
                check_key(operation.request_delete_range.key)
            case "request_txn":
                within.append(_enter(operation.request_txn, left))
            case _:
                raise errors.KeyNotFound
        if work.is_spent():
            await work.give_way()


def _enter(request: TxnRequest, most_ops: int) -> tuple[Iterator[RequestOp], int]:
    """The operations of a transaction, and what it leaves of the bound."""
    operations = max(len(request.compare), len(request.success), len(request.failure))
    if operations > most_ops:
        raise errors.TooManyOps
    for compare in request.compare:
        check_key(compare.key)
    return itertools.chain(request.success, request.failure), most_ops - operations

"""A transaction may change each key once.

etcd refuses a put that meets another put or a delete of the same branch, nested transactions included, before it
evaluates anything (`checkIntervals` in `server/etcdserver/api/v3rpc/key.go`). A key may be put in both branches of
one nested transaction, since only one of them is taken; deletes may overlap each other. A delete of everything from a
key on (an end of 0x00) overlaps nothing here, as in etcd.
"""

from collections.abc import Sequence

from fetch import errors
from fetch.api.rpc_pb2 import DeleteRangeRequest, RequestOp

_Span = tuple[bytes, bytes]


def check_intervals(operations: Sequence[RequestOp]) -> tuple[set[bytes], list[_Span]]:
    """The keys that the operations put, and the spans that they delete.

    :raises DuplicateKey:
    """
    deletes = [
        _span(operation.request_delete_range)
        for operation in operations
        if operation.WhichOneof("request") == "request_delete_range"
    ]
    puts: set[bytes] = set()
    for operation in operations:
        if operation.WhichOneof("request") != "request_txn":
            continue
        then_puts, then_deletes = check_intervals(operation.request_txn.success)
        else_puts, else_deletes = check_intervals(operation.request_txn.failure)
        for key in then_puts | else_puts:
            if key in puts or _is_deleted(key, deletes):
                raise errors.DuplicateKey
        puts |= then_puts | else_puts
        deletes += then_deletes + else_deletes
    for operation in operations:
        if operation.WhichOneof("request") == "request_put":
            key = operation.request_put.key
            if key in puts or _is_deleted(key, deletes):
                raise errors.DuplicateKey
            puts.add(key)
    return puts, deletes


def _span(request: DeleteRangeRequest) -> _Span:
    if not request.range_end:
        return request.key, request.key + b"\x00"
    return request.key, request.range_end


def _is_deleted(key: bytes, deletes: Sequence[_Span]) -> bool:
    return any(begin <= key < end for begin, end in deletes)

"""What a request asks for, told from it alone."""

from fetch.api.rpc_pb2 import RangeRequest, RequestOp, TxnRequest


def is_filtered(request: RangeRequest) -> bool:
    """Whether the request leaves keys out by their revisions."""
    return bool(
        request.min_mod_revision
        or request.max_mod_revision
        or request.min_create_revision
        or request.max_create_revision
    )


def is_read_only(request: TxnRequest) -> bool:
    """Whether neither branch of the transaction has anything but ranges, as etcd's `IsTxnReadonly` tells."""
    return all(operation.WhichOneof("request") == "request_range" for operation in operations(request))


def operations(request: TxnRequest) -> list[RequestOp]:
    """The operations of both branches, those of nested transactions left aside."""
    return [*request.success, *request.failure]

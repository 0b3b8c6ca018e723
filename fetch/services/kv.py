"""The KV service. Kubernetes' shapes of requests go the short way, all others the general one; answers are the same.

Follows `server/etcdserver/api/v3rpc/key.go` for what is refused and in which order.
"""

from collections.abc import Mapping, Sequence

import grpc

from fetch import errors
from fetch.api.rpc_pb2 import (
    CompactionRequest,
    CompactionResponse,
    DeleteRangeRequest,
    PutRequest,
    RangeRequest,
    RequestOp,
    TxnRequest,
)
from fetch.chain import Call
from fetch.config import Settings
from fetch.engine.engine import StorageEngine
from fetch.engine.operations import Outcome
from fetch.engine.reads import is_filtered, without_values
from fetch.engine.records import varint
from fetch.services.intervals import check_intervals
from fetch.services.wire import fill, framed_header, range_answer, tenant_of

# protobuf makes the lists anew each time, which is a fifth of a get's Python
_SORT_ORDERS = frozenset(RangeRequest.SortOrder.values())
_SORT_TARGETS = frozenset(RangeRequest.SortTarget.values())

# tags and whole fields of TxnResponse, ResponseOp, RangeResponse and DeleteRangeResponse
_SUCCEEDED = b"\x10\x01"
_RESPONSES = b"\x1a"
_RANGE = b"\x0a"
_PUT = b"\x12"
_DELETE = b"\x1a"
_ONE_FOUND = b"\x20\x01"
_ONE_DELETED = b"\x10\x01"


class KV:
    """The handlers of `etcdserverpb.KV`, on raw bytes."""

    name = "etcdserverpb.KV"

    def __init__(self, settings: Settings) -> None:
        self._most_ops = settings.max_txn_ops
        self._most_bytes = settings.max_request_bytes

    def handlers(self) -> Mapping[str, grpc.RpcMethodHandler]:
        """The service's methods."""
        return {
            "Range": grpc.unary_unary_rpc_method_handler(self.range),
            "RangeStream": grpc.unary_stream_rpc_method_handler(self.range_stream),
            "Put": grpc.unary_unary_rpc_method_handler(self.put),
            "DeleteRange": grpc.unary_unary_rpc_method_handler(self.delete_range),
            "Txn": grpc.unary_unary_rpc_method_handler(self.txn),
            "Compact": grpc.unary_unary_rpc_method_handler(self.compact),
        }

    async def range(self, request: bytes, call: Call) -> bytes:
        """Range. A get of one key, as it is now, is one read."""
        message: RangeRequest = call.message or RangeRequest.FromString(request)
        engine = tenant_of(call)
        _check_range(message)
        if call.kind == "get" and not message.revision and _is_plain(message):
            got = await engine.get_latest(message.key)
            header = framed_header(engine, got.revision)
            return header if got.current is None else header + got.current + _ONE_FOUND
        found = await engine.range_keys(message)
        return range_answer(framed_header(engine, found.revision), found.frames, more=found.more, count=found.count)

    async def range_stream(self, request: bytes, call: Call) -> None:
        """RangeStream: the range in chunks as they are read; the last carries header, more and count."""
        message: RangeRequest = call.message or RangeRequest.FromString(request)
        engine = tenant_of(call)
        _check_range(message)
        _check_stream(message)
        async for piece in engine.stream_range(message):
            frames = without_values(piece.frames) if message.keys_only else piece.frames
            header = framed_header(engine, piece.revision) if piece.last else b""
            more, count = (piece.more, piece.count) if piece.last else (False, 0)
            answer = range_answer(header, frames, more=more, count=count)
            await call.write(b"\x0a" + varint(len(answer)) + answer)

    async def put(self, request: bytes, call: Call) -> bytes:
        """Put."""
        message: PutRequest = call.message or PutRequest.FromString(request)
        engine = tenant_of(call)
        _check_put(message)
        self._check_size(request)
        response = await engine.put(message)
        fill(response.header, engine)
        return response.SerializeToString()

    async def delete_range(self, request: bytes, call: Call) -> bytes:
        """DeleteRange."""
        message: DeleteRangeRequest = call.message or DeleteRangeRequest.FromString(request)
        engine = tenant_of(call)
        _check_key(message.key)
        self._check_size(request)
        response = await engine.delete_range(message)
        fill(response.header, engine)
        return response.SerializeToString()

    async def txn(self, request: bytes, call: Call) -> bytes:
        """Txn. What classification found to be one operation is carried out as that."""
        message: TxnRequest = call.message or TxnRequest.FromString(request)
        engine = tenant_of(call)
        match call.kind:
            case "create" | "update":
                self._check_size(request)
                put = message.success[0].request_put
                revision = message.compare[0].mod_revision
                outcome = await engine.update_at_revision(put.key, revision, put.value, put.lease)
                return _outcome(engine, message, outcome, _PUT, b"")
            case "delete":
                self._check_size(request)
                compare = message.compare[0]
                outcome = await engine.delete_key(compare.key, compare.mod_revision)
                return _outcome(engine, message, outcome, _DELETE, b"" if outcome.current is None else _ONE_DELETED)
        _check_txn(message, self._most_ops)
        check_intervals(message.success)
        check_intervals(message.failure)
        self._check_size(request)
        response = await engine.txn(message)
        fill(response.header, engine)
        return response.SerializeToString()

    async def compact(self, request: bytes, call: Call) -> bytes:
        """Compact."""
        message: CompactionRequest = call.message or CompactionRequest.FromString(request)
        engine = tenant_of(call)
        response = CompactionResponse()
        fill(response.header, engine, await engine.compact(message.revision, physical=message.physical))
        return response.SerializeToString()

    def _check_size(self, request: bytes) -> None:
        if len(request) > self._most_bytes:
            raise errors.RequestTooLarge


def _outcome(engine: StorageEngine, request: TxnRequest, outcome: Outcome, field: bytes, behind: bytes) -> bytes:
    """The TxnResponse of a named operation. Nested headers carry the revision alone, as etcd's do.

    `field` is that of the response when the condition held, `behind` what this has behind its header.
    """
    header = framed_header(engine, outcome.revision)
    revision = b"\x18" + varint(outcome.revision)
    nested = b"\x0a" + varint(len(revision)) + revision
    if outcome.succeeded:
        inner = nested + behind
        return header + _SUCCEEDED + _framed(_RESPONSES, _framed(field, inner))
    if not request.failure:
        return header
    inner = nested if outcome.current is None else nested + outcome.current + _ONE_FOUND
    return header + _framed(_RESPONSES, _framed(_RANGE, inner))


def _framed(field: bytes, message: bytes) -> bytes:
    return field + varint(len(message)) + message


def _is_plain(request: RangeRequest) -> bool:
    """Whether a get has nothing that would change its answer: its one key is neither stripped nor filtered away."""
    return not (request.keys_only or is_filtered(request))


def _check_key(key: bytes) -> None:
    if not key:
        raise errors.EmptyKey


def _check_range(request: RangeRequest) -> None:
    _check_key(request.key)
    if request.sort_order not in _SORT_ORDERS or request.sort_target not in _SORT_TARGETS:
        raise errors.InvalidSortOption


def _check_stream(request: RangeRequest) -> None:
    by_key_ascending = request.sort_target == RangeRequest.KEY and request.sort_order == RangeRequest.ASCEND
    if request.sort_order != RangeRequest.NONE and not by_key_ascending:
        raise errors.Refused(grpc.StatusCode.UNIMPLEMENTED, "RangeStream does not support custom sort orders")
    if is_filtered(request):
        raise errors.Refused(grpc.StatusCode.UNIMPLEMENTED, "RangeStream does not support revision filters")


def _check_put(request: PutRequest) -> None:
    _check_key(request.key)
    if request.ignore_value and request.value:
        raise errors.ValueProvided
    if request.ignore_lease and request.lease:
        raise errors.LeaseProvided


def _check_txn(request: TxnRequest, most_ops: int) -> None:
    """Nested transactions share what the outer one leaves of the bound."""
    operations = max(len(request.compare), len(request.success), len(request.failure))
    if operations > most_ops:
        raise errors.TooManyOps
    for compare in request.compare:
        _check_key(compare.key)
    for branch in (request.success, request.failure):
        _check_operations(branch, most_ops - operations)


def _check_operations(operations: Sequence[RequestOp], most_ops: int) -> None:
    for operation in operations:
        match operation.WhichOneof("request"):
            case "request_range":
                _check_range(operation.request_range)
            case "request_put":
                _check_put(operation.request_put)
            case "request_delete_range":
                _check_key(operation.request_delete_range.key)
            case "request_txn":
                _check_txn(operation.request_txn, most_ops)
            case _:
                raise errors.KeyNotFound

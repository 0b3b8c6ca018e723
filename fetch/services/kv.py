"""The KV service. Kubernetes' shapes of requests go the short way, all others the general one; answers are the same.

Follows `server/etcdserver/api/v3rpc/key.go` for what is refused and in which order.
"""

from collections.abc import Mapping

import grpc

from fetch.api.rpc_pb2 import (
    CompactionRequest,
    CompactionResponse,
    DeleteRangeRequest,
    PutRequest,
    RangeRequest,
    TxnRequest,
)
from fetch.chain import Call
from fetch.chain.parsing import parse_txn
from fetch.config import Settings
from fetch.engine.answers import COUNT, DELETE_RANGE, PUT, RANGE, RESPONSES, SUCCEEDED, Found, range_message
from fetch.engine.protocol import Outcome, StorageEngine
from fetch.engine.records import varint
from fetch.engine.requests import is_filtered, is_read_only
from fetch.services.checks import check_key, check_put, check_range, check_size, check_stream, check_txn
from fetch.services.intervals import check_intervals
from fetch.services.wire import fill, framed_header, joined, tenant_of

_SHORT = 1 << 10
"""A transaction of so many bytes is checked within a few hundred microseconds."""

# whole fields of RangeResponse and DeleteRangeResponse, and the one field of RangeStreamResponse
_ONE_FOUND = COUNT + b"\x01"
_ONE_DELETED = b"\x10\x01"
_STREAMED = b"\x0a"


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
        check_range(message)
        if call.kind == "get" and _is_plain(message):
            # etcd takes a negative revision for none
            got = (
                await engine.get_latest(message.key)
                if message.revision <= 0
                else await engine.get_at_revision(message.key, message.revision)
            )
            header = framed_header(engine, got.revision)
            return header if got.current is None else header + got.current + _ONE_FOUND
        if message.count_only:
            count, revision = await engine.count_keys(message.key, message.range_end, message.revision)
            return framed_header(engine, revision) + (COUNT + varint(count) if count else b"")
        found = await engine.range_keys(message)
        header = framed_header(engine, found.revision)
        answer = range_message(header, found)
        del found  # only the parts hold the frames then
        return await joined(answer.parts, answer.size)

    async def range_stream(self, request: bytes, call: Call) -> None:
        """RangeStream: the range in chunks as they are read; the last carries header, more and count."""
        message: RangeRequest = call.message or RangeRequest.FromString(request)
        engine = tenant_of(call)
        check_range(message)
        check_stream(message)
        async for piece in engine.stream_range(message):
            header = framed_header(engine, piece.revision) if piece.last else b""
            more, count = (piece.more, piece.count) if piece.last else (False, 0)
            found = Found(piece.frames, more, count, piece.revision, sum(map(len, piece.frames)))
            answer = range_message(header, found)
            await call.write(b"".join([_STREAMED, varint(answer.size), *answer.parts]))

    async def put(self, request: bytes, call: Call) -> bytes:
        """Put."""
        message: PutRequest = call.message or PutRequest.FromString(request)
        engine = tenant_of(call)
        check_put(message)
        check_size(request, message, self._most_bytes)
        response = await engine.put(message)
        fill(response.header, engine)
        return response.SerializeToString()

    async def delete_range(self, request: bytes, call: Call) -> bytes:
        """DeleteRange."""
        message: DeleteRangeRequest = call.message or DeleteRangeRequest.FromString(request)
        engine = tenant_of(call)
        check_key(message.key)
        check_size(request, message, self._most_bytes)
        response = await engine.delete_range(message)
        fill(response.header, engine)
        return response.SerializeToString()

    async def txn(self, request: bytes, call: Call) -> bytes:
        """Txn. What classification found to be one operation is carried out as that."""
        engine = tenant_of(call)
        message: TxnRequest = call.message or await parse_txn(request, engine.turns, engine.tenant)
        match call.kind:
            case "create":
                check_size(request, message, self._most_bytes)
                put = message.success[0].request_put
                outcome = await engine.create_if_absent(put.key, put.value, put.lease)
                return _outcome(engine, message, outcome, PUT, b"")
            case "update":
                check_size(request, message, self._most_bytes)
                put = message.success[0].request_put
                revision = message.compare[0].mod_revision
                outcome = await engine.update_at_revision(put.key, revision, put.value, put.lease)
                return _outcome(engine, message, outcome, PUT, b"")
            case "delete":
                check_size(request, message, self._most_bytes)
                compare = message.compare[0]
                outcome = await engine.delete_key(compare.key, compare.mod_revision)
                return _outcome(
                    engine, message, outcome, DELETE_RANGE, b"" if outcome.current is None else _ONE_DELETED
                )
        async with (
            engine.turns.short(engine.tenant) if len(request) <= _SHORT else engine.turns.work(engine.tenant) as work
        ):
            await check_txn(message, self._most_ops, work)
            await check_intervals(message.success, work)
            await check_intervals(message.failure, work)
        if is_read_only(message):
            answer = await engine.read_only_txn(message)
        else:
            check_size(request, message, self._most_bytes)
            answer = await engine.txn(message, len(request))
        parts = [framed_header(engine, answer.revision), *answer.message.parts]
        size = answer.message.size
        del answer  # only the parts hold what was found then
        return await joined(parts, size)

    async def compact(self, request: bytes, call: Call) -> bytes:
        """Compact."""
        message: CompactionRequest = call.message or CompactionRequest.FromString(request)
        engine = tenant_of(call)
        check_size(request, message, self._most_bytes)
        response = CompactionResponse()
        fill(response.header, engine, await engine.compact(message.revision, physical=message.physical))
        return response.SerializeToString()


def _outcome(engine: StorageEngine, request: TxnRequest, outcome: Outcome, field: bytes, behind: bytes) -> bytes:
    """The TxnResponse of a named operation. Nested headers carry the revision alone, as etcd's do.

    `field` is that of the response when the condition held, `behind` what this has behind its header.
    """
    header = framed_header(engine, outcome.revision)
    revision = b"\x18" + varint(outcome.revision)
    nested = b"\x0a" + varint(len(revision)) + revision
    if outcome.succeeded:
        inner = nested + behind
        return header + SUCCEEDED + _framed(RESPONSES, _framed(field, inner))
    if not request.failure:
        return header
    inner = nested if outcome.current is None else nested + outcome.current + _ONE_FOUND
    return header + _framed(RESPONSES, _framed(RANGE, inner))


def _framed(field: bytes, message: bytes) -> bytes:
    return field + varint(len(message)) + message


def _is_plain(request: RangeRequest) -> bool:
    """Whether a get has nothing that would change its answer: its one key is neither stripped nor filtered away."""
    return not (request.keys_only or is_filtered(request))

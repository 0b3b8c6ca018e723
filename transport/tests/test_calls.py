"""The four kinds of calls, metadata and statuses, as a client sees them."""

import asyncio
import re
from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest
from conftest import BOUND, SERVICE, Kind, Serve, handlers_of, path
from google.protobuf import any_pb2
from google.rpc import error_details_pb2, status_pb2
from grpc_status import rpc_status

Context = grpc.aio.ServicerContext


async def echo(request: bytes, context: Context) -> bytes:
    return request


async def echo_later(request: bytes, context: Context) -> bytes:
    await asyncio.sleep(0.001)
    return request


@pytest.mark.parametrize("handler", [echo, echo_later])
@pytest.mark.parametrize("size", [0, 1, 16 * 1024 - 5, 16 * 1024, 100_000, 3_000_000])
async def test_a_unary_call_is_answered(serve: Serve, handler: Any, size: int) -> None:
    running = await serve({"Echo": grpc.unary_unary_rpc_method_handler(handler)})
    assert await running.channel.unary_unary(path("Echo"))(b"x" * size, timeout=BOUND) == b"x" * size


async def test_a_blocking_client_is_answered(serve: Serve) -> None:
    running = await serve({"Echo": grpc.unary_unary_rpc_method_handler(echo)})

    def call() -> bytes:
        with grpc.insecure_channel(f"127.0.0.1:{running.port}") as channel:
            return channel.unary_unary(path("Echo"))(b"x", timeout=BOUND)

    assert await asyncio.to_thread(call) == b"x"


async def test_messages_pass_through_the_handlers_serializers(serve: Serve) -> None:
    async def double(request: int, context: Context) -> int:
        return 2 * request

    handler = grpc.unary_unary_rpc_method_handler(double, request_deserializer=int, response_serializer=b"%d".__mod__)
    running = await serve({"Double": handler})
    assert await running.channel.unary_unary(path("Double"))(b"21", timeout=BOUND) == b"42"


async def count_by_yielding(request: bytes, context: Context) -> AsyncIterator[bytes]:
    for number in range(int(request)):
        yield b"%d" % number


async def count_by_writing(request: bytes, context: Context) -> None:
    for number in range(int(request)):
        await context.write(b"%d" % number)


@pytest.mark.parametrize("handler", [count_by_yielding, count_by_writing])
@pytest.mark.parametrize("number", [0, 1, 1000])
async def test_responses_are_streamed_in_order(serve: Serve, handler: Any, number: int) -> None:
    running = await serve({"Count": grpc.unary_stream_rpc_method_handler(handler)})
    call = running.channel.unary_stream(path("Count"))(b"%d" % number, timeout=BOUND)
    assert [response async for response in call] == [b"%d" % sent for sent in range(number)]


async def join_by_iterating(requests: AsyncIterator[bytes], context: Context) -> bytes:
    return b",".join([request async for request in requests])


async def join_by_reading(requests: AsyncIterator[bytes], context: Context) -> bytes:
    parts = []
    while (request := await context.read()) is not grpc.aio.EOF:
        parts.append(request)
    return b",".join(parts)


async def sent(number: int) -> AsyncIterator[bytes]:
    for request in range(number):
        yield b"%d" % request


@pytest.mark.parametrize("handler", [join_by_iterating, join_by_reading])
@pytest.mark.parametrize("number", [0, 1, 1000])
async def test_requests_are_streamed_in_order(serve: Serve, handler: Any, number: int) -> None:
    running = await serve({"Join": grpc.stream_unary_rpc_method_handler(handler)})
    joined = await running.channel.stream_unary(path("Join"))(sent(number), timeout=BOUND)
    assert joined == b",".join([b"%d" % request for request in range(number)])


async def reply_to_each(requests: AsyncIterator[bytes], context: Context) -> AsyncIterator[bytes]:
    async for request in requests:
        yield b"re: " + request


async def test_both_sides_stream_at_once(serve: Serve) -> None:
    running = await serve({"Talk": grpc.stream_stream_rpc_method_handler(reply_to_each)})
    call = running.channel.stream_stream(path("Talk"))(timeout=BOUND)
    for number in range(100):
        await call.write(b"%d" % number)
        assert await call.read() == b"re: %d" % number
    await call.done_writing()
    assert await call.read() is grpc.aio.EOF
    assert await call.code() is grpc.StatusCode.OK


async def test_a_handler_may_answer_before_the_first_request(serve: Serve) -> None:
    async def greet(requests: AsyncIterator[bytes], context: Context) -> AsyncIterator[bytes]:
        yield b"hello"
        async for request in requests:
            yield request

    running = await serve({"Greet": grpc.stream_stream_rpc_method_handler(greet)})
    call = running.channel.stream_stream(path("Greet"))(timeout=BOUND)
    assert await call.read() == b"hello"
    await call.done_writing()
    assert await call.read() is grpc.aio.EOF


async def test_a_background_task_of_a_handler_may_read(serve: Serve) -> None:
    async def relay(requests: AsyncIterator[bytes], context: Context) -> None:
        queue: asyncio.Queue[bytes | None] = asyncio.Queue()

        async def read() -> None:
            async for request in requests:
                queue.put_nowait(request)
            queue.put_nowait(None)

        reader = asyncio.create_task(read())
        while (message := await queue.get()) is not None:
            await context.write(message)
        await reader

    running = await serve({"Relay": grpc.stream_stream_rpc_method_handler(relay)})
    call = running.channel.stream_stream(path("Relay"))(sent(50), timeout=BOUND)
    assert [response async for response in call] == [b"%d" % number for number in range(50)]


async def test_reading_after_the_only_request_is_the_end(serve: Serve) -> None:
    async def read_on(request: bytes, context: Context) -> AsyncIterator[bytes]:
        yield b"end" if await context.read() is grpc.aio.EOF else b"more"

    running = await serve({"Read": grpc.unary_stream_rpc_method_handler(read_on)})
    call = running.channel.unary_stream(path("Read"))(b"", timeout=BOUND)
    assert [response async for response in call] == [b"end"]


async def test_metadata_goes_both_ways(serve: Serve) -> None:
    received = []

    async def exchange(request: bytes, context: Context) -> bytes:
        received.extend(context.invocation_metadata())
        await context.send_initial_metadata((("initial", "a"), ("initial-bin", b"\x00\xff")))
        context.set_trailing_metadata((("trailing", "z"), ("trailing", "y"), ("trailing-bin", b"\xff\x00")))
        return b""

    running = await serve({"Exchange": grpc.unary_unary_rpc_method_handler(exchange)})
    sent_metadata = (("one", "1"), ("two", "2"), ("two", "3"), ("raw-bin", bytes(range(256))))
    call = running.channel.unary_unary(path("Exchange"))(b"", metadata=sent_metadata, timeout=BOUND)
    await call
    own = [pair for pair in received if pair.key != "user-agent"]
    assert own == list(sent_metadata)
    assert tuple(await call.initial_metadata()) == (("initial", "a"), ("initial-bin", b"\x00\xff"))
    trailing = (("trailing", "z"), ("trailing", "y"), ("trailing-bin", b"\xff\x00"))
    assert tuple(await call.trailing_metadata()) == trailing


async def test_initial_metadata_arrives_before_the_first_response(serve: Serve) -> None:
    finish = asyncio.Event()

    async def wait(request: bytes, context: Context) -> AsyncIterator[bytes]:
        await context.send_initial_metadata((("early", "yes"),))
        await finish.wait()
        yield b""

    running = await serve({"Wait": grpc.unary_stream_rpc_method_handler(wait)})
    call = running.channel.unary_stream(path("Wait"))(b"", timeout=BOUND)
    assert tuple(await call.initial_metadata()) == (("early", "yes"),)
    finish.set()
    assert [response async for response in call] == [b""]


async def test_initial_metadata_is_sent_once(serve: Serve) -> None:
    async def twice(request: bytes, context: Context) -> bytes:
        await context.send_initial_metadata(())
        with pytest.raises(grpc.aio.UsageError):
            await context.send_initial_metadata(())
        return b"refused"

    running = await serve({"Twice": grpc.unary_unary_rpc_method_handler(twice)})
    assert await running.channel.unary_unary(path("Twice"))(b"", timeout=BOUND) == b"refused"


async def ending(running: Any, method: str, request: bytes = b"", **arguments: Any) -> grpc.aio.AioRpcError:
    with pytest.raises(grpc.aio.AioRpcError) as raised:
        await running.channel.unary_unary(path(method))(request, timeout=BOUND, **arguments)
    return raised.value


async def test_an_unknown_method_is_unimplemented(serve: Serve) -> None:
    error = await ending(await serve({}), "Nothing")
    assert (error.code(), error.details()) == (grpc.StatusCode.UNIMPLEMENTED, "Method not found!")


@pytest.mark.parametrize("code", [code for code in grpc.StatusCode if code is not grpc.StatusCode.OK])
async def test_abort_ends_a_call_with_any_code(serve: Serve, code: grpc.StatusCode) -> None:
    async def abort(request: bytes, context: Context) -> bytes:
        await context.abort(code, "é 100%\n", (("why", "so"), ("raw-bin", b"\x00")))

    error = await ending(await serve({"Abort": grpc.unary_unary_rpc_method_handler(abort)}), "Abort")
    assert (error.code(), error.details()) == (code, "é 100%\n")
    assert tuple(error.trailing_metadata()) == (("why", "so"), ("raw-bin", b"\x00"))


async def test_abort_raises_aborterror_in_the_handler(serve: Serve) -> None:
    raised = []

    async def abort(request: bytes, context: Context) -> bytes:
        try:
            await context.abort(grpc.StatusCode.ABORTED, "no")
        except BaseException as error:
            raised.append(type(error))
            raise

    await ending(await serve({"Abort": grpc.unary_unary_rpc_method_handler(abort)}), "Abort")
    assert raised == [grpc.aio.AbortError]


async def test_status_details_reach_the_client(serve: Serve) -> None:
    detail = any_pb2.Any()
    detail.Pack(error_details_pb2.RetryInfo())
    rich = status_pb2.Status(code=grpc.StatusCode.UNAVAILABLE.value[0], message="later", details=[detail])

    async def abort(request: bytes, context: Context) -> bytes:
        await context.abort_with_status(rpc_status.to_status(rich))

    error = await ending(await serve({"Abort": grpc.unary_unary_rpc_method_handler(abort)}), "Abort")
    assert (error.code(), error.details()) == (grpc.StatusCode.UNAVAILABLE, "later")
    sent_details = dict(error.trailing_metadata())["grpc-status-details-bin"]
    assert status_pb2.Status.FromString(sent_details) == rich


@pytest.mark.parametrize("code", [grpc.StatusCode.NOT_FOUND, grpc.StatusCode.NOT_FOUND.value[0]])
async def test_a_code_that_is_set_ends_the_call(serve: Serve, code: Any) -> None:
    async def set_code(request: bytes, context: Context) -> bytes:
        context.set_code(code)
        context.set_details("gone")
        assert (context.code(), context.details()) == (code, "gone")
        return b"not sent"

    error = await ending(await serve({"Set": grpc.unary_unary_rpc_method_handler(set_code)}), "Set")
    assert (error.code(), error.details()) == (grpc.StatusCode.NOT_FOUND, "gone")


async def test_a_stream_may_end_with_an_error_after_responses(serve: Serve) -> None:
    async def fail(request: bytes, context: Context) -> AsyncIterator[bytes]:
        yield b"first"
        await context.abort(grpc.StatusCode.DATA_LOSS, "rest lost")

    running = await serve({"Fail": grpc.unary_stream_rpc_method_handler(fail)})
    call = running.channel.unary_stream(path("Fail"))(b"", timeout=BOUND)
    assert await call.read() == b"first"
    with pytest.raises(grpc.aio.AioRpcError, match="rest lost"):
        await call.read()
    assert await call.code() is grpc.StatusCode.DATA_LOSS


@pytest.mark.parametrize("later", [False, True])
async def test_an_exception_is_unknown(serve: Serve, kind: Kind, *, later: bool) -> None:
    async def fail(request: bytes, context: Context) -> bytes:
        if later:
            await asyncio.sleep(0.001)
        raise ValueError("boom é")

    error = await ending(await serve({"Fail": grpc.unary_unary_rpc_method_handler(fail)}), "Fail")
    assert error.code() is grpc.StatusCode.UNKNOWN
    # grpcio tells clients what was raised
    told = "Internal error [0-9a-f]{16}" if kind.name == "native" else "Unexpected <class 'ValueError'>: boom é"
    assert re.fullmatch(told, str(error.details()))


async def test_an_exception_keeps_the_code_that_was_set(serve: Serve) -> None:
    async def fail(request: bytes, context: Context) -> bytes:
        context.set_code(grpc.StatusCode.NOT_FOUND)
        context.set_trailing_metadata((("why", "so"),))
        raise ValueError("boom")

    error = await ending(await serve({"Fail": grpc.unary_unary_rpc_method_handler(fail)}), "Fail")
    assert error.code() is grpc.StatusCode.NOT_FOUND
    assert tuple(error.trailing_metadata()) == (("why", "so"),)


async def test_a_request_that_cannot_be_read_is_unknown(serve: Serve) -> None:
    handler = grpc.unary_unary_rpc_method_handler(echo, request_deserializer=int)
    error = await ending(await serve({"Echo": handler}), "Echo", b"x")
    assert error.code() is grpc.StatusCode.UNKNOWN


async def test_the_first_handler_that_knows_a_method_serves_it(kind: Kind) -> None:
    async def other(request: bytes, context: Context) -> bytes:
        return b"other"

    server = kind.server()
    server.add_generic_rpc_handlers(handlers_of({"One": grpc.unary_unary_rpc_method_handler(echo)}))
    both = {"One": grpc.unary_unary_rpc_method_handler(other), "Two": grpc.unary_unary_rpc_method_handler(other)}
    server.add_generic_rpc_handlers(handlers_of(both))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        assert await channel.unary_unary(path("One"))(b"one", timeout=BOUND) == b"one"
        assert await channel.unary_unary(path("Two"))(b"two", timeout=BOUND) == b"other"
    await server.stop(None)


async def test_generic_handlers_are_asked_with_method_and_metadata(kind: Kind) -> None:
    asked = []

    class Asked(grpc.GenericRpcHandler):
        def service(self, handler_call_details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler:
            asked.append((handler_call_details.method, dict(handler_call_details.invocation_metadata)["key"]))
            return grpc.unary_unary_rpc_method_handler(echo)

    server = kind.server()
    server.add_generic_rpc_handlers((Asked(),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        await channel.unary_unary(path("Any"))(b"", metadata=(("key", "value"),), timeout=BOUND)
    await server.stop(None)
    assert asked == [(f"/{SERVICE}/Any", "value")]


class Tagging(grpc.aio.ServerInterceptor):
    """Notes that it was asked; refuses what it is told to."""

    def __init__(self, tag: str, tags: list[str], refused: str | None = None) -> None:
        self._tag, self._tags, self._refused = tag, tags, refused

    async def intercept_service(self, continuation: Any, handler_call_details: Any) -> Any:
        self._tags.append(self._tag)
        await asyncio.sleep(0)
        if handler_call_details.method == self._refused:
            return grpc.unary_unary_rpc_method_handler(self._refuse)
        return await continuation(handler_call_details)

    async def _refuse(self, request: bytes, context: Context) -> bytes:
        await context.abort(grpc.StatusCode.PERMISSION_DENIED, self._tag)


async def test_interceptors_are_asked_in_order(serve: Serve) -> None:
    tags: list[str] = []
    interceptors = [Tagging("outer", tags), Tagging("inner", tags, refused=path("Refused"))]
    methods = {
        "Echo": grpc.unary_unary_rpc_method_handler(echo),
        "Refused": grpc.unary_unary_rpc_method_handler(echo),
        "Talk": grpc.stream_stream_rpc_method_handler(reply_to_each),
    }
    running = await serve(methods, interceptors=interceptors)
    assert await running.channel.unary_unary(path("Echo"))(b"x", timeout=BOUND) == b"x"
    assert tags == ["outer", "inner"]
    call = running.channel.stream_stream(path("Talk"))(sent(2), timeout=BOUND)
    assert [response async for response in call] == [b"re: 0", b"re: 1"]
    error = await ending(running, "Refused")
    assert (error.code(), error.details()) == (grpc.StatusCode.PERMISSION_DENIED, "inner")
    assert (await ending(running, "Nothing")).code() is grpc.StatusCode.UNIMPLEMENTED


async def test_what_comes_while_interceptors_wait_stands_behind_what_came_before(serve: Serve) -> None:
    asked, release = asyncio.Event(), asyncio.Event()

    class Waiting(grpc.aio.ServerInterceptor):
        async def intercept_service(self, continuation: Any, handler_call_details: Any) -> Any:
            asked.set()
            await release.wait()
            return await continuation(handler_call_details)

    methods = {
        "Talk": grpc.stream_stream_rpc_method_handler(reply_to_each),
        "Echo": grpc.unary_unary_rpc_method_handler(echo),
    }
    running = await serve(methods, interceptors=[Waiting()])
    call = running.channel.stream_stream(path("Talk"))(timeout=BOUND)
    await call.write(b"0")
    await asyncio.wait_for(asked.wait(), BOUND)
    await call.write(b"1")
    await call.done_writing()
    asked.clear()
    behind = running.channel.unary_unary(path("Echo"))(b"x", timeout=BOUND)
    # on the same connection, so what was written before has come as well
    await asyncio.wait_for(asked.wait(), BOUND)
    release.set()
    assert [response async for response in call] == [b"re: 0", b"re: 1"]
    assert await behind == b"x"


async def test_peer_and_an_insecure_auth_context_are_as_grpcio_has_them(serve: Serve) -> None:
    seen: list[Any] = []

    async def look(request: bytes, context: Context) -> bytes:
        seen.extend((context.peer(), dict(context.auth_context())))
        seen.extend((context.peer_identities(), context.peer_identity_key(), context.time_remaining()))
        return b""

    running = await serve({"Look": grpc.unary_unary_rpc_method_handler(look)})
    await running.channel.unary_unary(path("Look"))(b"")
    peer, *rest = seen
    assert peer.startswith("ipv4:127.0.0.1:")
    properties = {"transport_security_type": [b"insecure"], "security_level": [b"TSI_SECURITY_NONE"]}
    assert rest == [properties, None, None, None]


async def test_a_context_is_grpcios(serve_native: Serve) -> None:
    seen: list[bool] = []

    async def look(request: bytes, context: Context) -> bytes:
        seen.append(isinstance(context, grpc.aio.ServicerContext))
        context.set_compression(grpc.Compression.Gzip)
        context.disable_next_message_compression()
        return b""

    running = await serve_native({"Look": grpc.unary_unary_rpc_method_handler(look)})
    await running.channel.unary_unary(path("Look"))(b"", timeout=BOUND)
    assert seen == [True]


async def test_metadata_that_grpc_does_not_allow_is_an_error(serve_native: Serve) -> None:
    async def send(request: bytes, context: Context) -> bytes:
        context.set_trailing_metadata(((request.decode(), "value"),))
        return b""

    running = await serve_native({"Send": grpc.unary_unary_rpc_method_handler(send)})
    for key in (b"Upper", b"grpc-status", b":path", b"with space"):
        assert (await ending(running, "Send", key)).code() is grpc.StatusCode.UNKNOWN

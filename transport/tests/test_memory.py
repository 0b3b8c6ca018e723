"""What a client may hold of the server over its connections, and that others do not notice when it is at its bound."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import grpc
from conftest import BOUND, Kind, Running, Serve, handlers_of, path
from test_wire import Wire, framed, wire_to

Context = grpc.aio.ServicerContext
MIB = 1 << 20
REFUSAL = "etcdserver: too many requests"


def bounded(size: int) -> list[tuple[str, Any]]:
    """Options with which a client may hold so many bytes."""
    return [("fetch_transport.max_bytes_of_a_client", size), ("fetch_transport.refusal", REFUSAL)]


async def echo(request: bytes, context: Context) -> bytes:
    return request


async def large(request: bytes, context: Context) -> bytes:
    return b"x" * int(request)


async def send(wire: Wire, stream: int, data: bytes) -> None:
    """Sends data as far as the windows reach, and receives what opens them."""
    while data:
        room = min(wire.http.local_flow_control_window(stream), wire.http.max_outbound_frame_size, len(data))
        if room:
            wire.http.send_data(stream, data[:room])
            data = data[room:]
            await wire.flush()
        else:
            await wire.receive(lambda event: type(event).__name__ == "WindowUpdated")


async def ask(wire: Wire, method: str, request: bytes) -> int:
    """Begins a unary call; its stream."""
    stream = wire.begin(method)
    wire.http.send_data(stream, framed(request), end_stream=True)
    await wire.flush()
    return stream


async def test_unfinished_messages_beyond_a_quarter_of_the_bound_are_refused(serve_native: Serve) -> None:
    running = await serve_native({"Echo": grpc.unary_unary_rpc_method_handler(echo)}, options=bounded(4 * MIB))
    async with wire_to(running.port) as wire:
        message = framed(b"x" * 60_000)
        streams = [wire.begin("Echo") for _ in range(30)]
        for stream in streams:
            await send(wire, stream, message[:-1])
        wire.http.send_data(streams[0], message[-1:], end_stream=True)
        await wire.flush()
        # the first one ends last: only when its rest has come
        assert (await wire.end_of(streams[0]))["grpc-status"] == "0"
    async with wire_to(running.port) as wire:
        streams = [wire.begin("Echo") for _ in range(30)]
        for stream in streams:
            await send(wire, stream, message[:-1])
        ended = await wire.end_of(streams[-1])
    assert (ended["grpc-status"], ended["grpc-message"]) == ("8", REFUSAL)


async def test_a_client_at_its_bound_has_room_again_when_its_calls_end(serve_native: Serve) -> None:
    running = await serve_native({"Echo": grpc.unary_unary_rpc_method_handler(echo)}, options=bounded(16 * MIB))
    async with wire_to(running.port) as wire:
        await send(wire, wire.begin("Echo"), framed(b"x" * (2 * MIB))[:-1])
    call = running.channel.unary_unary(path("Echo"))
    for _ in range(20):
        assert len(await call(b"x" * MIB, timeout=BOUND)) == MIB


async def test_unread_answers_beyond_the_bound_are_refused(serve_native: Serve) -> None:
    running = await serve_native({"Large": grpc.unary_unary_rpc_method_handler(large)}, options=bounded(8 * MIB))
    async with wire_to(running.port) as wire:
        streams = [await ask(wire, "Large", b"%d" % (2 * MIB)) for _ in range(8)]
        ended = await wire.end_of(streams[-1])
        assert (ended["grpc-status"], ended["grpc-message"]) == ("8", REFUSAL)


async def test_a_stream_that_is_refused_cancels_its_handler(serve_native: Serve) -> None:
    cancelled = asyncio.Event()

    async def write(request: bytes, context: Context) -> None:
        try:
            while True:
                await context.write(b"x" * (6 * MIB))
        except asyncio.CancelledError:
            cancelled.set()
            raise

    running = await serve_native({"Write": grpc.unary_stream_rpc_method_handler(write)}, options=bounded(8 * MIB))
    async with wire_to(running.port) as wire:
        for _ in range(2):
            await ask(wire, "Write", b"")
        await asyncio.wait_for(cancelled.wait(), BOUND)


async def test_calls_beyond_the_bound_are_refused(serve_native: Serve) -> None:
    release = asyncio.Event()

    async def wait(request: bytes, context: Context) -> bytes:
        await release.wait()
        return b""

    running = await serve_native({"Wait": grpc.unary_unary_rpc_method_handler(wait)}, options=bounded(MIB))
    calls = [running.channel.unary_unary(path("Wait"))(b"", timeout=BOUND) for _ in range(400)]
    first = await next(asyncio.as_completed([ending(call) for call in calls]))
    assert first == (grpc.StatusCode.RESOURCE_EXHAUSTED, REFUSAL)
    release.set()
    endings = await asyncio.gather(*[ending(call) for call in calls])
    assert 100 < sum(code is grpc.StatusCode.OK for code, _ in endings) < 300


async def ending(call: Any) -> tuple[grpc.StatusCode, str | None]:
    """How a call ends."""
    return await call.code(), await call.details()


async def test_what_h2_holds_of_a_connection_is_bounded_however_wide_its_windows(serve_native: Serve) -> None:
    """A client that opens every window and does not read from its socket is felt by those who write."""
    written = 0

    async def write(request: bytes, context: Context) -> None:
        nonlocal written
        while True:
            await context.write(b"x" * 16_384)
            written += 16_384

    running = await serve_native({"Write": grpc.unary_stream_rpc_method_handler(write)})
    reader, writer = await asyncio.open_connection("127.0.0.1", running.port, limit=1)
    wire = Wire(reader, writer)
    wire.http.update_settings({4: 2**31 - 1})
    wire.http.increment_flow_control_window(2**31 - 1 - 65535)
    for _ in range(200):
        await ask(wire, "Write", b"")
    before = -1
    while written != before:
        before = written
        await asyncio.sleep(0.2)
    # 64 KiB and a message for each stream, beside what lies in the sockets; 40 MiB if h2 took 128 KiB of each
    assert written < 200 * 5 * 16_384 + 8 * MIB
    writer.close()


async def test_done_callbacks_come_when_the_answer_is_taken(kind: Kind) -> None:
    called = asyncio.Event()
    returned = asyncio.Event()

    async def reply(request: bytes, context: Context) -> bytes:
        context.add_done_callback(lambda _: called.set())
        returned.set()
        return b"x" * (4 * MIB)

    methods = {"Reply": grpc.unary_unary_rpc_method_handler(reply)}
    async with served(kind, methods) as running, wire_to(running.port) as wire:
        stream = await ask(wire, "Reply", b"")
        await asyncio.wait_for(returned.wait(), BOUND)
        await wire.receive(lambda event: type(event).__name__ == "ResponseReceived")
        for _ in range(100):
            await asyncio.sleep(0)
        assert not called.is_set()
        wire.http.increment_flow_control_window(8 * MIB)
        wire.http.increment_flow_control_window(8 * MIB, stream)
        await wire.flush()
        await wire.end_of(stream)
        await asyncio.wait_for(called.wait(), BOUND)


async def test_done_callbacks_come_when_the_client_goes_without_its_answer(kind: Kind) -> None:
    called = asyncio.Event()

    async def reply(request: bytes, context: Context) -> bytes:
        context.add_done_callback(lambda _: called.set())
        return b"x" * (4 * MIB)

    async with served(kind, {"Reply": grpc.unary_unary_rpc_method_handler(reply)}) as running:
        async with wire_to(running.port) as wire:
            await ask(wire, "Reply", b"")
            await wire.receive(lambda event: type(event).__name__ == "ResponseReceived")
        await asyncio.wait_for(called.wait(), BOUND)


async def test_done_callbacks_come_when_the_server_stops_before_the_answer_is_taken(kind: Kind) -> None:
    called = asyncio.Event()

    async def reply(request: bytes, context: Context) -> bytes:
        context.add_done_callback(lambda _: called.set())
        return b"x" * (4 * MIB)

    methods = {"Reply": grpc.unary_unary_rpc_method_handler(reply)}
    async with served(kind, methods) as running, wire_to(running.port) as wire:
        await ask(wire, "Reply", b"")
        await wire.receive(lambda event: type(event).__name__ == "ResponseReceived")
        await asyncio.wait_for(running.server.stop(None), BOUND)
        await asyncio.wait_for(called.wait(), BOUND)


@contextlib.asynccontextmanager
async def served(kind: Kind, methods: dict[str, Any]) -> AsyncIterator[Running]:
    """A server without a channel to it."""
    server = kind.server()
    server.add_generic_rpc_handlers(handlers_of(methods))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        yield Running(server, port, None)
    finally:
        await server.stop(None)


async def test_a_handler_that_writes_without_waiting_hears_that_its_client_has_gone(serve_native: Serve) -> None:
    cancelled = asyncio.Event()

    async def write(request: bytes, context: Context) -> None:
        try:
            while True:
                await context.write(b"x" * 100_000)
        except asyncio.CancelledError:
            cancelled.set()
            raise

    running = await serve_native({"Write": grpc.unary_stream_rpc_method_handler(write)})
    async with wire_to(running.port) as wire:
        await ask(wire, "Write", b"")
        await wire.receive(lambda event: type(event).__name__ == "ResponseReceived")
    await asyncio.wait_for(cancelled.wait(), BOUND)

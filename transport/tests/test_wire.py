"""What comes over the wire from clients that are wrong, hostile or gone."""

import asyncio
import base64
import contextlib
import ssl
import time
from collections.abc import AsyncIterator
from typing import Any

import grpc
import h2.config
import h2.connection
import h2.events
import h2.exceptions
import pytest
from conftest import BOUND, Kind, Serve, path

Context = grpc.aio.ServicerContext


class Wire:
    """An HTTP/2 connection whose frames a test writes itself."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self.writer = reader, writer
        config = h2.config.H2Configuration(client_side=True, header_encoding="utf-8")
        self.http = h2.connection.H2Connection(config)
        self.http.initiate_connection()
        self.events: list[Any] = []
        self._received = b""

    async def flush(self) -> None:
        self.writer.write(self.http.data_to_send())
        await self.writer.drain()

    def begin(self, method: str, *extra: tuple[str, str], verb: str = "POST", kind: str = "application/grpc") -> int:
        stream = self.http.get_next_available_stream_id()
        headers = [(":method", verb), (":scheme", "http"), (":path", path(method)), (":authority", "test")]
        self.http.send_headers(stream, [*headers, ("te", "trailers"), ("content-type", kind), *extra])
        return stream

    async def receive(self, wanted: Any) -> Any:
        """The first event that is wanted; None if the connection ends before."""
        while True:
            while self.events:
                event = self.events.pop(0)
                if wanted(event):
                    return event
                if isinstance(event, h2.events.ConnectionTerminated):
                    return None
            received = await asyncio.wait_for(self._reader.read(65536), BOUND)
            if not received:
                return None
            self._received += received
            # One frame at a time: this library takes no frame after a GOAWAY, not even in the same bytes.
            while len(self._received) >= (length := 9 + int.from_bytes(self._received[:3], "big")):
                frame, self._received = self._received[:length], self._received[length:]
                with contextlib.suppress(h2.exceptions.ProtocolError):
                    self.events.extend(self.http.receive_data(frame))
            await self.flush()

    async def end_of(self, stream: int) -> dict[str, str]:
        """All headers and trailers of a response."""
        headers: dict[str, str] = {}

        def collect(event: Any) -> bool:
            if getattr(event, "stream_id", None) != stream:
                return False
            if isinstance(event, h2.events.ResponseReceived | h2.events.TrailersReceived):
                headers.update(event.headers)
            return isinstance(event, h2.events.StreamEnded | h2.events.StreamReset)

        assert await self.receive(collect) is not None
        return headers


@contextlib.asynccontextmanager
async def wire_to(port: int, context: ssl.SSLContext | None = None) -> AsyncIterator[Wire]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context)
    wire = Wire(reader, writer)
    try:
        await wire.flush()
        yield wire
    finally:
        writer.close()


def framed(message: bytes, flag: int = 0) -> bytes:
    return bytes([flag]) + len(message).to_bytes(4, "big") + message


async def echo(request: bytes, context: Context) -> bytes:
    return request


METHODS = {"Echo": grpc.unary_unary_rpc_method_handler(echo)}


async def still_serves(running: Any) -> None:
    async with grpc.aio.insecure_channel(f"127.0.0.1:{running.port}") as channel:
        assert await channel.unary_unary(path("Echo"))(b"x", timeout=BOUND) == b"x"


GARBAGE = [b"GET / HTTP/1.1\r\n\r\n", b"\0" * 1000, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\xff" * 1000, b"PRI", b""]


@pytest.mark.parametrize("garbage", GARBAGE)
async def test_garbage_ends_its_connection_and_nothing_else(serve: Serve, garbage: bytes) -> None:
    running = await serve(METHODS)
    reader, writer = await asyncio.open_connection("127.0.0.1", running.port)
    # The server may have closed the connection before the last of it is written.
    with contextlib.suppress(OSError):
        writer.write(garbage)
        writer.write_eof()
        await asyncio.wait_for(reader.read(), BOUND)
    writer.close()
    await still_serves(running)


@pytest.mark.parametrize(
    ("verb", "kind", "status"),
    [
        ("GET", "application/grpc", "405"),
        ("POST", "text/plain", "415"),
        ("POST", "application/grpcx", "415"),
    ],
)
async def test_what_is_not_grpc_gets_an_http_status(serve_native: Serve, verb: str, kind: str, status: str) -> None:
    running = await serve_native(METHODS)
    async with wire_to(running.port) as wire:
        stream = wire.begin("Echo", verb=verb, kind=kind)
        wire.http.end_stream(stream)
        await wire.flush()
        assert (await wire.end_of(stream))[":status"] == status


async def test_an_unknown_encoding_is_unimplemented_and_told_what_is_known(serve_native: Serve) -> None:
    running = await serve_native(METHODS)
    async with wire_to(running.port) as wire:
        stream = wire.begin("Echo", ("grpc-encoding", "snappy"))
        wire.http.send_data(stream, framed(b"x", 1), end_stream=True)
        await wire.flush()
        headers = await wire.end_of(stream)
        assert headers["grpc-status"] == "12"
        assert "gzip" in headers["grpc-accept-encoding"]


@pytest.mark.parametrize("body", [framed(b"x", 1), framed(b"x", 7), framed(b"xyz")[:6], b"\0\0"])
async def test_a_malformed_message_is_an_error(serve_native: Serve, body: bytes) -> None:
    running = await serve_native(METHODS)
    async with wire_to(running.port) as wire:
        stream = wire.begin("Echo")
        wire.http.send_data(stream, body, end_stream=True)
        await wire.flush()
        assert (await wire.end_of(stream))["grpc-status"] == "13"


async def test_a_malformed_timeout_is_an_error(serve_native: Serve) -> None:
    running = await serve_native(METHODS)
    async with wire_to(running.port) as wire:
        stream = wire.begin("Echo", ("grpc-timeout", "soon"))
        await wire.flush()
        assert (await wire.end_of(stream))["grpc-status"] == "13"


async def test_a_request_without_message_is_an_error(serve_native: Serve) -> None:
    running = await serve_native(METHODS)
    async with wire_to(running.port) as wire:
        stream = wire.begin("Echo")
        await wire.flush()
        wire.http.end_stream(stream)
        await wire.flush()
        assert (await wire.end_of(stream))["grpc-status"] == "13"


async def test_a_deadline_that_the_client_does_not_watch_is_watched_by_the_server(serve_native: Serve) -> None:
    cancelled = asyncio.Event()

    async def wait(request: bytes, context: Context) -> bytes:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.set()
            raise
        return b""

    running = await serve_native({"Wait": grpc.unary_unary_rpc_method_handler(wait)})
    async with wire_to(running.port) as wire:
        stream = wire.begin("Wait", ("grpc-timeout", "100m"))
        wire.http.send_data(stream, framed(b""), end_stream=True)
        await wire.flush()
        headers = await wire.end_of(stream)
        assert (headers["grpc-status"], headers["grpc-message"]) == ("4", "Deadline Exceeded")
    await asyncio.wait_for(cancelled.wait(), BOUND)


async def test_a_message_may_come_in_any_pieces(serve: Serve) -> None:
    running = await serve(METHODS)
    async with wire_to(running.port) as wire:
        stream = wire.begin("Echo")
        for byte in framed(b"slowly"):
            wire.http.send_data(stream, bytes([byte]))
            await wire.flush()
            await asyncio.sleep(0.001)
        wire.http.end_stream(stream)
        await wire.flush()
        assert (await wire.end_of(stream))["grpc-status"] == "0"


async def test_binary_metadata_may_be_padded(serve: Serve) -> None:
    received = []

    async def look(request: bytes, context: Context) -> bytes:
        received.extend(value for key, value in context.invocation_metadata() if key == "raw-bin")
        return b""

    running = await serve({"Look": grpc.unary_unary_rpc_method_handler(look)})
    async with wire_to(running.port) as wire:
        padded = base64.b64encode(b"\0").decode()
        for value in (padded, padded.rstrip("=")):
            stream = wire.begin("Look", ("raw-bin", value))
            wire.http.send_data(stream, framed(b""), end_stream=True)
            await wire.flush()
            await wire.end_of(stream)
    assert received == [b"\0", b"\0"]


async def test_a_flood_of_resets_is_survived(serve_native: Serve) -> None:
    served = 0

    async def count(request: bytes, context: Context) -> bytes:
        nonlocal served
        served += 1
        await asyncio.sleep(0.01)
        return b""

    running = await serve_native({**METHODS, "Count": grpc.unary_unary_rpc_method_handler(count)})
    with contextlib.suppress(ConnectionError, h2.exceptions.ProtocolError):
        async with wire_to(running.port) as wire:
            for _ in range(200):
                for _ in range(100):
                    stream = wire.begin("Count")
                    wire.http.send_data(stream, framed(b""), end_stream=True)
                    wire.http.reset_stream(stream)
                await wire.flush()
    assert served < 20_000
    await still_serves(running)


async def test_a_client_that_drops_many_calls_at_once_keeps_its_connection(serve_native: Serve) -> None:
    running = await serve_native(METHODS)
    async with wire_to(running.port) as wire:
        for _ in range(500):
            stream = wire.begin("Echo")
            wire.http.send_data(stream, framed(b""), end_stream=True)
            wire.http.reset_stream(stream)
        stream = wire.begin("Echo")
        wire.http.send_data(stream, framed(b"x"), end_stream=True)
        await wire.flush()
        assert (await wire.end_of(stream))["grpc-status"] == "0"


async def test_floods_of_control_frames_are_survived(serve_native: Serve) -> None:
    running = await serve_native(METHODS)
    with contextlib.suppress(ConnectionError, h2.exceptions.ProtocolError):
        async with wire_to(running.port) as wire:
            for _ in range(5000):
                wire.http.ping(b"12345678")
                wire.http.update_settings({})
            await asyncio.wait_for(wire.flush(), BOUND)
    await still_serves(running)


async def test_large_headers_are_refused(serve: Serve) -> None:
    running = await serve(METHODS)
    async with grpc.aio.insecure_channel(f"127.0.0.1:{running.port}") as channel:
        with pytest.raises(grpc.aio.AioRpcError):
            await channel.unary_unary(path("Echo"))(b"", metadata=(("large", "x" * 40_000),), timeout=BOUND)
    await still_serves(running)


async def test_a_silent_client_is_pinged_and_dropped(serve_native: Serve) -> None:
    options = [("grpc.keepalive_time_ms", 500), ("grpc.keepalive_timeout_ms", 300)]
    options.append(("grpc.keepalive_permit_without_calls", 1))
    running = await serve_native(METHODS, options=options)
    reader, writer = await asyncio.open_connection("127.0.0.1", running.port)
    http = h2.connection.H2Connection(h2.config.H2Configuration(client_side=True))
    http.initiate_connection()
    # The client's side of the handshake, and then nothing: no answer to a ping either.
    writer.write(http.data_to_send())
    began = time.monotonic()
    with contextlib.suppress(ConnectionError):
        await asyncio.wait_for(reader.read(), BOUND)
    assert 0.5 < time.monotonic() - began < BOUND / 2
    writer.close()


async def test_a_client_that_answers_pings_is_kept(serve: Serve) -> None:
    options = [("grpc.keepalive_time_ms", 200), ("grpc.keepalive_timeout_ms", 1000)]
    options.append(("grpc.keepalive_permit_without_calls", 1))
    running = await serve(METHODS, options=options)
    async with wire_to(running.port) as wire:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(3):
                assert await wire.receive(lambda event: False) is not None
        stream = wire.begin("Echo")
        wire.http.send_data(stream, framed(b"x"), end_stream=True)
        await wire.flush()
        assert (await wire.end_of(stream))["grpc-status"] == "0"


async def test_stopping_says_goaway_before_the_last_call_has_ended(serve: Serve) -> None:
    began, release = asyncio.Event(), asyncio.Event()

    async def wait(request: bytes, context: Context) -> bytes:
        began.set()
        await release.wait()
        return b""

    running = await serve({"Wait": grpc.unary_unary_rpc_method_handler(wait)})
    async with wire_to(running.port) as wire:
        stream = wire.begin("Wait")
        wire.http.send_data(stream, framed(b""), end_stream=True)
        await wire.flush()
        await began.wait()
        stopping = asyncio.create_task(running.server.stop(BOUND))
        assert await wire.receive(lambda event: isinstance(event, h2.events.ConnectionTerminated))
        assert not stopping.done()
    # The client has gone; its handler is cancelled, and the server has nothing left to wait for.
    await asyncio.wait_for(stopping, BOUND / 2)


async def test_many_clients_that_do_not_read_hold_little_memory(serve_native: Serve) -> None:
    streams, message = 500, b"x" * 10_000
    written = 0

    async def write(request: bytes, context: Context) -> None:
        nonlocal written
        while True:
            await context.write(message)
            written += len(message)

    running = await serve_native({"Write": grpc.unary_stream_rpc_method_handler(write)})
    async with wire_to(running.port) as wire:
        for _ in range(streams):
            stream = wire.begin("Write")
            wire.http.send_data(stream, framed(b""), end_stream=True)
        await wire.flush()
        previous = -1
        while written != previous or not written:
            previous = written
            await asyncio.sleep(0.3)
    assert 0 < written < streams * 256 * 1024


@pytest.mark.parametrize("allowed", ["0n", "0m", "00000000S"])
async def test_a_call_without_any_time_is_over_before_it_begins(serve: Serve, kind: Kind, allowed: str) -> None:
    began = 0

    async def count(request: bytes, context: Context) -> bytes:
        nonlocal began
        began += 1
        return b""

    running = await serve({"Count": grpc.unary_unary_rpc_method_handler(count)})
    async with wire_to(running.port) as wire:
        stream = wire.begin("Count", ("grpc-timeout", allowed))
        wire.http.send_data(stream, framed(b"x"), end_stream=True)
        await wire.flush()
        headers = await wire.end_of(stream)
    assert (headers["grpc-status"], headers["grpc-message"]) == ("4", "Deadline Exceeded")
    if kind.name == "native":  # grpcio may have begun by the time its timer tells
        assert began == 0


async def test_a_second_request_is_passed_over_by_a_unary_call(serve: Serve) -> None:
    running = await serve(METHODS)
    async with wire_to(running.port) as wire:
        stream = wire.begin("Echo")
        wire.http.send_data(stream, framed(b"x") * 2, end_stream=True)
        await wire.flush()
        assert (await wire.end_of(stream))["grpc-status"] == "0"


async def test_a_second_request_is_an_error_of_a_call_with_a_stream_of_responses(serve_native: Serve) -> None:
    async def stream_back(request: bytes, context: Context) -> None:
        await context.write(request)

    running = await serve_native({"Stream": grpc.unary_stream_rpc_method_handler(stream_back)})
    async with wire_to(running.port) as wire:
        stream = wire.begin("Stream")
        wire.http.send_data(stream, framed(b"x") * 2, end_stream=True)
        await wire.flush()
        headers = await wire.end_of(stream)
    assert headers["grpc-status"] == "13"
    assert headers["grpc-message"].startswith("cardinality violation: received multiple request messages")


async def test_a_client_that_does_not_finish_its_handshakes_is_dropped(serve: Serve) -> None:
    running = await serve(METHODS, options=[("grpc.server_handshake_timeout_ms", 300)])
    reader, writer = await asyncio.open_connection("127.0.0.1", running.port)
    writer.write(b"PRI * HT")
    with contextlib.suppress(ConnectionError):
        while await asyncio.wait_for(reader.read(1000), BOUND):
            pass
    writer.close()
    await still_serves(running)


async def test_the_oldest_of_too_many_unfinished_handshakes_yields(serve_native: Serve) -> None:
    running = await serve_native(METHODS, options=[("fetch_transport.max_handshakes", 10)])
    silent = [await asyncio.open_connection("127.0.0.1", running.port) for _ in range(30)]
    for reader, _ in silent[:20]:
        await asyncio.wait_for(reader.read(), BOUND)
    await still_serves(running)
    for _, writer in silent:
        writer.close()

"""How calls end before they are done, and how servers stop."""

import asyncio
import gc
import re
import time
from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest
from conftest import BOUND, NATIVE, Kind, Running, Serve, handlers_of, path

Context = grpc.aio.ServicerContext


class Waiting:
    """A handler that waits to be cut off, and tells how it went."""

    def __init__(self) -> None:
        self.began = asyncio.Event()
        self.ended = asyncio.Event()
        self.release = asyncio.Event()
        self.raised: BaseException | None = None
        self.context: Any = None

    async def _wait(self, context: Context) -> None:
        self.context = context
        self.began.set()
        try:
            await self.release.wait()
        except BaseException as error:
            self.raised = error
            raise
        finally:
            self.ended.set()

    async def unary(self, request: bytes, context: Context) -> bytes:
        await self._wait(context)
        return b"released"

    async def stream(self, requests: AsyncIterator[bytes], context: Context) -> AsyncIterator[bytes]:
        yield b"began"
        await self._wait(context)

    def methods(self) -> dict[str, grpc.RpcMethodHandler]:
        return {
            "Unary": grpc.unary_unary_rpc_method_handler(self.unary),
            "Stream": grpc.stream_stream_rpc_method_handler(self.stream),
        }


async def within(event: asyncio.Event) -> None:
    await asyncio.wait_for(event.wait(), BOUND)


async def test_a_deadline_cancels_the_handler_and_tells_the_client(serve: Serve) -> None:
    waiting = Waiting()
    running = await serve(waiting.methods())
    with pytest.raises(grpc.aio.AioRpcError) as raised:
        await running.channel.unary_unary(path("Unary"))(b"", timeout=0.2)
    assert raised.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    await within(waiting.ended)
    assert isinstance(waiting.raised, asyncio.CancelledError)


async def test_time_remaining_counts_down(serve: Serve) -> None:
    seen: list[float] = []

    async def look(request: bytes, context: Context) -> bytes:
        seen.append(context.time_remaining())
        await asyncio.sleep(0.05)
        seen.append(context.time_remaining())
        return b""

    running = await serve({"Look": grpc.unary_unary_rpc_method_handler(look)})
    await running.channel.unary_unary(path("Look"))(b"", timeout=BOUND)
    first, second = seen
    # Clients round what they allow up.
    assert BOUND / 2 < second < first - 0.04 < BOUND + 1


@pytest.mark.parametrize("method", ["Unary", "Stream"])
async def test_a_client_that_cancels_cancels_the_handler(serve: Serve, method: str) -> None:
    waiting = Waiting()
    running = await serve(waiting.methods())
    if method == "Unary":
        call: Any = running.channel.unary_unary(path(method))(b"")
    else:
        call = running.channel.stream_stream(path(method))()
        assert await call.read() == b"began"
    await within(waiting.began)
    call.cancel()
    await within(waiting.ended)
    assert isinstance(waiting.raised, asyncio.CancelledError)


async def test_a_lost_connection_cancels_its_handlers(serve: Serve) -> None:
    waiting = Waiting()
    running = await serve(waiting.methods())
    call = running.channel.stream_stream(path("Stream"))()
    await call.read()
    await running.channel.close()
    await within(waiting.ended)
    assert isinstance(waiting.raised, asyncio.CancelledError)


async def test_a_request_stream_ends_for_background_readers_when_the_client_cancels(serve: Serve) -> None:
    ended = asyncio.Event()
    began = asyncio.Event()
    tasks = []

    async def spawn(requests: AsyncIterator[bytes], context: Context) -> None:
        async def read() -> None:
            try:
                async for _ in requests:
                    began.set()
            finally:
                ended.set()

        tasks.append(asyncio.create_task(read()))
        await asyncio.Event().wait()

    running = await serve({"Spawn": grpc.stream_stream_rpc_method_handler(spawn)})
    call = running.channel.stream_stream(path("Spawn"))()
    await call.write(b"")
    await within(began)
    call.cancel()
    await within(ended)
    await asyncio.gather(*tasks, return_exceptions=True)


async def test_done_callbacks_are_called_when_the_handler_has_ended(serve: Serve) -> None:
    called = asyncio.Event()
    contexts = []

    async def add(request: bytes, context: Context) -> bytes:
        def call_back(done: Context) -> None:
            contexts.append(done is context)
            called.set()

        context.add_done_callback(call_back)
        assert not context.done()
        return b""

    running = await serve({"Add": grpc.unary_unary_rpc_method_handler(add)})
    await running.channel.unary_unary(path("Add"))(b"", timeout=BOUND)
    await within(called)
    assert contexts == [True]


async def test_writing_after_the_end_is_a_usage_error(serve: Serve) -> None:
    refused = asyncio.Event()
    tasks = []

    async def linger(request: bytes, context: Context) -> AsyncIterator[bytes]:
        async def write_later() -> None:
            await asyncio.sleep(0.05)
            with pytest.raises(grpc.aio.UsageError):
                await context.write(b"late")
            refused.set()

        tasks.append(asyncio.create_task(write_later()))
        yield b"in time"

    running = await serve({"Linger": grpc.unary_stream_rpc_method_handler(linger)})
    call = running.channel.unary_stream(path("Linger"))(b"", timeout=BOUND)
    assert [response async for response in call] == [b"in time"]
    await within(refused)
    await asyncio.gather(*tasks)


async def test_a_cancelled_call_is_done_and_cancelled(serve_native: Serve) -> None:
    waiting = Waiting()
    running = await serve_native(waiting.methods())
    call = running.channel.unary_unary(path("Unary"))(b"")
    await within(waiting.began)
    assert (waiting.context.done(), waiting.context.cancelled()) == (False, False)
    call.cancel()
    await within(waiting.ended)
    assert (waiting.context.done(), waiting.context.cancelled()) == (True, True)


async def test_abort_with_ok_is_refused(serve_native: Serve) -> None:
    async def abort(request: bytes, context: Context) -> bytes:
        await context.abort(grpc.StatusCode.OK, "")

    running = await serve_native({"Abort": grpc.unary_unary_rpc_method_handler(abort)})
    with pytest.raises(grpc.aio.AioRpcError, match="UNKNOWN"):
        await running.channel.unary_unary(path("Abort"))(b"", timeout=BOUND)


@pytest.mark.parametrize("returned", ["text", None])
async def test_a_response_that_is_not_bytes_is_unknown(serve_native: Serve, returned: Any) -> None:
    async def reply(request: bytes, context: Context) -> Any:
        return returned

    running = await serve_native({"Reply": grpc.unary_unary_rpc_method_handler(reply)})
    with pytest.raises(grpc.aio.AioRpcError, match="UNKNOWN"):
        await running.channel.unary_unary(path("Reply"))(b"", timeout=BOUND)


async def test_an_error_that_cannot_be_put_into_words_is_unknown(serve_native: Serve) -> None:
    class UnspeakableError(Exception):
        def __str__(self) -> str:
            raise ValueError("no words")

    async def fail(request: bytes, context: Context) -> bytes:
        if request == b"surrogate":
            raise ValueError("\udcff")
        raise UnspeakableError

    running = await serve_native({"Fail": grpc.unary_unary_rpc_method_handler(fail)})
    for request in (b"surrogate", b""):
        with pytest.raises(grpc.aio.AioRpcError, match="UNKNOWN"):
            await running.channel.unary_unary(path("Fail"))(request, timeout=BOUND)


async def test_abort_after_the_client_has_gone_still_leaves_the_handler(serve_native: Serve) -> None:
    began, left = asyncio.Event(), asyncio.Event()
    raised = []

    async def abort(request: bytes, context: Context) -> bytes:
        began.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            try:
                await context.abort(grpc.StatusCode.ABORTED, "too late")
            except grpc.aio.AbortError as error:
                raised.append(error)
                raise
        finally:
            left.set()
        return b""

    running = await serve_native({"Abort": grpc.unary_unary_rpc_method_handler(abort)})
    call = running.channel.unary_unary(path("Abort"))(b"")
    await within(began)
    call.cancel()
    await within(left)
    assert len(raised) == 1


async def test_a_handler_that_cancels_itself_ends_its_call(serve_native: Serve) -> None:
    async def cancel(request: bytes, context: Context) -> bytes:
        raise asyncio.CancelledError

    running = await serve_native({"Cancel": grpc.unary_unary_rpc_method_handler(cancel)})
    with pytest.raises(grpc.aio.AioRpcError, match="CANCELLED"):
        await running.channel.unary_unary(path("Cancel"))(b"", timeout=BOUND)


async def started(kind: Kind, waiting: Waiting) -> Running:
    server = kind.server()
    server.add_generic_rpc_handlers(handlers_of(waiting.methods()))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    return Running(server, port, grpc.aio.insecure_channel(f"127.0.0.1:{port}"))


async def test_stop_lets_calls_end_within_grace(kind: Kind) -> None:
    waiting = Waiting()
    running = await started(kind, waiting)
    call = running.channel.unary_unary(path("Unary"))(b"")
    await within(waiting.began)
    stopping = asyncio.create_task(running.server.stop(BOUND))
    await asyncio.sleep(0.1)
    assert not stopping.done()
    waiting.release.set()
    assert await call == b"released"
    await asyncio.wait_for(stopping, BOUND)
    await running.channel.close()


@pytest.mark.parametrize("grace", [None, 0, 0.2])
async def test_stop_cuts_off_calls_after_grace(kind: Kind, grace: float | None) -> None:
    waiting = Waiting()
    running = await started(kind, waiting)
    call = running.channel.unary_unary(path("Unary"))(b"")
    await within(waiting.began)
    await asyncio.wait_for(running.server.stop(grace), BOUND)
    await within(waiting.ended)
    assert isinstance(waiting.raised, asyncio.CancelledError)
    with pytest.raises(grpc.aio.AioRpcError) as raised:
        await call
    assert raised.value.code() in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED)
    await running.channel.close()


async def test_a_second_stop_with_less_grace_is_sooner(kind: Kind) -> None:
    waiting = Waiting()
    running = await started(kind, waiting)
    call = running.channel.unary_unary(path("Unary"))(b"")
    await within(waiting.began)
    began = time.monotonic()
    patient = asyncio.create_task(running.server.stop(BOUND))
    await asyncio.sleep(0.05)
    await running.server.stop(0.1)
    await patient
    assert time.monotonic() - began < BOUND / 2
    with pytest.raises(grpc.aio.AioRpcError):
        await call
    await running.channel.close()


async def test_no_call_begins_after_stop(kind: Kind) -> None:
    waiting = Waiting()
    running = await started(kind, waiting)
    call = running.channel.unary_unary(path("Unary"))(b"")
    await within(waiting.began)
    stopping = asyncio.create_task(running.server.stop(BOUND))
    await asyncio.sleep(0.05)
    with pytest.raises(grpc.aio.AioRpcError) as raised:
        await running.channel.unary_unary(path("Unary"))(b"", timeout=BOUND)
    assert raised.value.code() is grpc.StatusCode.UNAVAILABLE
    waiting.release.set()
    assert await call == b"released"
    await stopping
    await running.channel.close()


async def test_stop_of_an_idle_server_with_idle_clients_is_quick(kind: Kind) -> None:
    running = await started(kind, Waiting())
    await running.channel.channel_ready()
    began = time.monotonic()
    await running.server.stop(BOUND)
    assert time.monotonic() - began < BOUND / 2
    await running.channel.close()


@pytest.mark.parametrize("grace", [None, BOUND])
async def test_a_connection_that_never_speaks_does_not_hold_up_stop(grace: float | None) -> None:
    running = await started(NATIVE, Waiting())
    _, writer = await asyncio.open_connection("127.0.0.1", running.port)
    await running.channel.channel_ready()
    began = time.monotonic()
    await running.server.stop(grace)
    assert time.monotonic() - began < BOUND / 2
    writer.close()
    await running.channel.close()


async def test_wait_for_termination_waits_for_stop(kind: Kind) -> None:
    running = await started(kind, Waiting())
    assert await running.server.wait_for_termination(0.05) is True
    waiting = asyncio.create_task(running.server.wait_for_termination())
    await asyncio.sleep(0)
    await running.server.stop(None)
    assert await asyncio.wait_for(waiting, BOUND) is False
    await running.channel.close()


async def test_stop_may_be_called_before_start_and_twice(kind: Kind) -> None:
    server = kind.server()
    await server.stop(None)
    running = await started(kind, Waiting())
    await running.server.stop(None)
    await running.server.stop(1)
    await running.channel.close()


async def test_a_stopped_server_frees_its_port(kind: Kind) -> None:
    server = kind.server(options=[("grpc.so_reuseport", 0)])
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    await server.stop(None)
    again = kind.server(options=[("grpc.so_reuseport", 0)])
    assert again.add_insecure_port(f"127.0.0.1:{port}") == port
    await again.stop(None)


async def test_a_port_is_shared_only_where_it_is_asked_for(kind: Kind) -> None:
    options = [("grpc.so_reuseport", 0)]
    first, second = kind.server(options=options), kind.server(options=options)
    port = first.add_insecure_port("127.0.0.1:0")
    with pytest.raises(RuntimeError, match="Failed to bind"):
        second.add_insecure_port(f"127.0.0.1:{port}")
    sharing = [kind.server(options=[("grpc.so_reuseport", 1)]) for _ in range(2)]
    port = sharing[0].add_insecure_port("127.0.0.1:0")
    assert sharing[1].add_insecure_port(f"127.0.0.1:{port}") == port


@pytest.mark.parametrize("address", ["127.0.0.1:1x", "203.0.113.1:0"])
async def test_an_address_that_cannot_be_bound_is_a_runtimeerror(kind: Kind, address: str) -> None:
    with pytest.raises(RuntimeError, match="Failed to bind to address"):
        kind.server().add_insecure_port(address)


async def test_a_server_has_several_addresses(kind: Kind) -> None:
    waiting = Waiting()
    waiting.release.set()
    server = kind.server()
    server.add_generic_rpc_handlers(handlers_of(waiting.methods()))
    addresses = [f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}", f"[::1]:{server.add_insecure_port('[::1]:0')}"]
    await server.start()
    for address in addresses:
        async with grpc.aio.insecure_channel(address) as channel:
            assert await channel.unary_unary(path("Unary"))(b"", timeout=BOUND) == b"released"
    await server.stop(None)


async def test_ended_calls_leave_nothing_behind(serve_native: Serve) -> None:
    waiting = Waiting()
    running = await serve_native(waiting.methods())
    calls = [running.channel.unary_unary(path("Unary"))(b"") for _ in range(20)]
    await within(waiting.began)
    for call in calls[:10]:
        call.cancel()
    waiting.release.set()
    await asyncio.gather(*calls, return_exceptions=True)
    kind = type(waiting.context)
    waiting.context = None
    deadline = time.monotonic() + BOUND
    while any(isinstance(thing, kind) for thing in gc.get_objects()):
        gc.collect()
        assert time.monotonic() < deadline
        await asyncio.sleep(0.01)


async def test_an_unforeseen_error_tells_the_client_nothing_but_where_it_is_logged(
    serve_native: Serve, caplog: pytest.LogCaptureFixture
) -> None:
    async def fail(request: bytes, context: Context) -> bytes:
        raise ValueError("a secret")

    running = await serve_native({"Fail": grpc.unary_unary_rpc_method_handler(fail)})
    with pytest.raises(grpc.aio.AioRpcError) as raised:
        await running.channel.unary_unary(path("Fail"))(b"", timeout=BOUND)
    details = str(raised.value.details())
    assert raised.value.code() is grpc.StatusCode.UNKNOWN
    assert re.fullmatch("Internal error [0-9a-f]{16}", details)
    assert details in caplog.text
    assert "ValueError: a secret" in caplog.text

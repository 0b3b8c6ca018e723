"""Sizes, numbers and memory: what is bounded, and what still passes."""

import asyncio
import os
from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest
from conftest import BOUND, Kind, Serve, path

Context = grpc.aio.ServicerContext
MIB = 1 << 20


async def echo(request: bytes, context: Context) -> bytes:
    return request


async def ending(call: Any) -> grpc.aio.AioRpcError:
    with pytest.raises(grpc.aio.AioRpcError) as raised:
        await call
    return raised.value


WHO_REFUSES = {"native": "grpc: received", "grpcio": "SERVER: Received"}
"""grpcio's words cannot be changed; ours are those of grpc-go, and so etcd's."""


async def test_a_request_above_the_limit_is_refused(serve: Serve, kind: Kind) -> None:
    methods = {"Echo": grpc.unary_unary_rpc_method_handler(echo)}
    running = await serve(methods, options=[("grpc.max_receive_message_length", 100)])
    call = running.channel.unary_unary(path("Echo"))
    assert await call(b"x" * 100, timeout=BOUND) == b"x" * 100
    error = await ending(call(b"x" * 101, timeout=BOUND))
    assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert error.details() == f"{WHO_REFUSES[kind.name]} message larger than max (101 vs. 100)"


async def test_the_default_limit_of_a_request_is_four_mebibytes(serve: Serve, kind: Kind) -> None:
    running = await serve({"Echo": grpc.unary_unary_rpc_method_handler(echo)})
    error = await ending(running.channel.unary_unary(path("Echo"))(b"x" * (4 * MIB + 1), timeout=BOUND))
    assert error.details() == f"{WHO_REFUSES[kind.name]} message larger than max (4194305 vs. 4194304)"


async def test_a_large_request_on_a_stream_cancels_its_handler(serve: Serve) -> None:
    began, ended = asyncio.Event(), asyncio.Event()

    async def read(requests: AsyncIterator[bytes], context: Context) -> bytes:
        try:
            async for _ in requests:
                began.set()
        finally:
            ended.set()
        return b""

    methods = {"Read": grpc.stream_unary_rpc_method_handler(read)}
    running = await serve(methods, options=[("grpc.max_receive_message_length", 100)])

    async def requests() -> AsyncIterator[bytes]:
        yield b"x"
        await began.wait()
        yield b"x" * 101

    error = await ending(running.channel.stream_unary(path("Read"))(requests(), timeout=BOUND))
    assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    await asyncio.wait_for(ended.wait(), BOUND)


@pytest.mark.parametrize("kind_of_handler", ["unary", "stream"])
async def test_a_response_above_the_limit_is_not_sent(serve: Serve, kind_of_handler: str) -> None:
    async def yield_one(request: bytes, context: Context) -> AsyncIterator[bytes]:
        yield request

    methods = {
        "unary": grpc.unary_unary_rpc_method_handler(echo),
        "stream": grpc.unary_stream_rpc_method_handler(yield_one),
    }
    running = await serve(methods, options=[("grpc.max_send_message_length", 100)])

    async def call(size: int) -> bytes:
        if kind_of_handler == "unary":
            return await running.channel.unary_unary(path("unary"))(b"x" * size, timeout=BOUND)
        responses = running.channel.unary_stream(path("stream"))(b"x" * size, timeout=BOUND)
        return b"".join([response async for response in responses])

    assert await call(100) == b"x" * 100
    error = await ending(call(101))
    assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert error.details() == "SERVER: Sent message larger than max (101 vs. 100)"


async def test_without_limits_large_messages_pass(serve: Serve) -> None:
    unlimited = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]
    running = await serve({"Echo": grpc.unary_unary_rpc_method_handler(echo)}, options=unlimited)
    async with grpc.aio.insecure_channel(f"127.0.0.1:{running.port}", options=unlimited) as channel:
        request = os.urandom(20 * MIB)
        assert await channel.unary_unary(path("Echo"))(request, timeout=BOUND) == request


@pytest.mark.parametrize("compression", [grpc.Compression.Gzip, grpc.Compression.Deflate])
async def test_compressed_requests_are_served(serve: Serve, compression: grpc.Compression) -> None:
    running = await serve({"Echo": grpc.unary_unary_rpc_method_handler(echo)})
    call = running.channel.unary_unary(path("Echo"))
    assert await call(b"x" * 10_000, compression=compression, timeout=BOUND) == b"x" * 10_000


@pytest.mark.parametrize("compression", [grpc.Compression.Gzip, grpc.Compression.Deflate])
async def test_the_limit_of_a_request_is_that_of_its_plain_size(serve: Serve, compression: grpc.Compression) -> None:
    methods = {"Echo": grpc.unary_unary_rpc_method_handler(echo)}
    running = await serve(methods, options=[("grpc.max_receive_message_length", 10_000)])
    call = running.channel.unary_unary(path("Echo"))
    error = await ending(call(b"x" * 10_001, compression=compression, timeout=BOUND))
    assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED


async def test_a_thousand_streams_are_served_at_once(serve: Serve) -> None:
    number = 1000
    together = asyncio.Barrier(number)

    async def meet(requests: AsyncIterator[bytes], context: Context) -> AsyncIterator[bytes]:
        await together.wait()
        async for request in requests:
            yield request

    running = await serve({"Meet": grpc.stream_stream_rpc_method_handler(meet)})

    async def call() -> bytes:
        stream = running.channel.stream_stream(path("Meet"))(timeout=3 * BOUND)
        await stream.write(b"x")
        response = await stream.read()
        await stream.done_writing()
        assert await stream.read() is grpc.aio.EOF
        return response

    assert await asyncio.gather(*[call() for _ in range(number)]) == [b"x"] * number


async def test_a_thousand_unary_calls_are_served_at_once(serve: Serve) -> None:
    running = await serve({"Echo": grpc.unary_unary_rpc_method_handler(echo)})
    call = running.channel.unary_unary(path("Echo"))
    answers = await asyncio.gather(*[call(b"%d" % number, timeout=3 * BOUND) for number in range(1000)])
    assert answers == [b"%d" % number for number in range(1000)]


async def test_calls_above_maximum_concurrent_rpcs_are_refused(serve: Serve) -> None:
    began, release = asyncio.Event(), asyncio.Event()

    async def wait(request: bytes, context: Context) -> bytes:
        began.set()
        await release.wait()
        return b""

    running = await serve({"Wait": grpc.unary_unary_rpc_method_handler(wait)}, maximum_concurrent_rpcs=1)
    first = running.channel.unary_unary(path("Wait"))(b"", timeout=BOUND)
    await began.wait()
    error = await ending(running.channel.unary_unary(path("Wait"))(b"", timeout=BOUND))
    assert (error.code(), error.details()) == (
        grpc.StatusCode.RESOURCE_EXHAUSTED,
        "Concurrent RPC limit exceeded!",
    )
    release.set()
    assert await first == b""


async def test_a_client_that_does_not_read_stops_the_writer(serve: Serve) -> None:
    written = 0
    cut_off = asyncio.Event()

    async def write(request: bytes, context: Context) -> None:
        nonlocal written
        try:
            while True:
                await context.write(b"x" * 10_000)
                written += 10_000
        finally:
            cut_off.set()

    running = await serve({"Write": grpc.unary_stream_rpc_method_handler(write)})
    call = running.channel.unary_stream(path("Write"))(b"")
    await call.read()
    previous = -1
    while written != previous or not written:
        previous = written
        await asyncio.sleep(0.5)
    assert written < 32 * MIB
    read = 0
    while written == previous and read <= written:  # there is room again once enough is taken
        read += len(await call.read())
    assert written > previous
    call.cancel()
    await asyncio.wait_for(cut_off.wait(), BOUND)


async def test_a_handler_that_does_not_read_stops_the_client(serve: Serve) -> None:
    release = asyncio.Event()
    sent = 0
    received = 0

    async def read_later(requests: AsyncIterator[bytes], context: Context) -> bytes:
        nonlocal received
        await release.wait()
        async for request in requests:
            received += len(request)
        return b""

    running = await serve({"Read": grpc.stream_unary_rpc_method_handler(read_later)})
    call = running.channel.stream_unary(path("Read"))(timeout=3 * BOUND)

    async def write() -> None:
        nonlocal sent
        for _ in range(6400):
            await call.write(b"x" * 10_000)
            sent += 10_000
        await call.done_writing()

    writing = asyncio.create_task(write())
    previous = -1
    while sent != previous:
        previous = sent
        await asyncio.sleep(0.3)
    assert sent < 32 * MIB
    release.set()
    await writing
    assert await call == b""
    assert received == 64_000_000


async def test_streams_that_are_not_read_do_not_stop_others(serve_native: Serve) -> None:
    release = asyncio.Event()

    async def ignore(requests: AsyncIterator[bytes], context: Context) -> bytes:
        await release.wait()
        return b""

    methods = {
        "Ignore": grpc.stream_unary_rpc_method_handler(ignore),
        "Echo": grpc.unary_unary_rpc_method_handler(echo),
    }
    running = await serve_native(methods)
    calls = [running.channel.stream_unary(path("Ignore"))() for _ in range(20)]

    async def fill(call: Any) -> None:
        while True:
            await call.write(b"x" * 10_000)

    writers = [asyncio.create_task(fill(call)) for call in calls]
    await asyncio.sleep(0.5)
    echoed = await running.channel.unary_unary(path("Echo"))(b"x" * MIB, timeout=BOUND)
    assert len(echoed) == MIB
    release.set()
    for writer in writers:
        writer.cancel()
    await asyncio.gather(*writers, return_exceptions=True)

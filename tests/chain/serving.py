"""A real server with three methods behind a request chain, one of each shape that etcd has, on raw bytes."""

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import grpc

from fetch.chain import Call, Link, wrap

SERVICE = "test.Test"
SECONDS = 60


async def echo(request: bytes, call: Call) -> bytes:
    return request


async def thrice(request: bytes, call: Call) -> None:
    for _ in range(3):
        await call.write(request)


async def converse(_: AsyncIterator[bytes], call: Call) -> None:
    while (message := await call.read()) is not grpc.aio.EOF:
        await call.write(message.upper())


Handler = Callable[[Any, Call], Awaitable[Any]]

HANDLERS: Mapping[str, grpc.RpcMethodHandler] = {
    "Echo": grpc.unary_unary_rpc_method_handler(echo),
    "Thrice": grpc.unary_stream_rpc_method_handler(thrice),
    "Converse": grpc.stream_stream_rpc_method_handler(converse),
}


@dataclass(frozen=True, slots=True)
class Caller:
    """A client of the three methods."""

    channel: grpc.aio.Channel

    async def echo(self, request: bytes = b"hello", metadata: Sequence[tuple[str, str]] = ()) -> bytes:
        call = self.channel.unary_unary(f"/{SERVICE}/Echo")
        answer: bytes = await call(request, metadata=metadata, timeout=SECONDS)
        return answer

    async def thrice(self, request: bytes = b"hello") -> list[bytes]:
        answers = self.channel.unary_stream(f"/{SERVICE}/Thrice")(request, timeout=SECONDS)
        return [answer async for answer in answers]

    async def converse(self, messages: Sequence[bytes] = (b"hello", b"world")) -> list[bytes]:
        stream = self.channel.stream_stream(f"/{SERVICE}/Converse")(iter(messages), timeout=SECONDS)
        return [answer async for answer in stream]

    async def listen(self) -> None:
        """Begins to converse, and waits for an answer before it says anything."""
        await self.channel.stream_stream(f"/{SERVICE}/Converse")(timeout=SECONDS).read()


@asynccontextmanager
async def serving(
    links: Sequence[Link], handlers: Mapping[str, grpc.RpcMethodHandler] = HANDLERS
) -> AsyncIterator[Caller]:
    """The handlers behind the links, on a port of their own."""
    server = grpc.aio.server()
    wrapped = {name: wrap(f"/{SERVICE}/{name}", handler, links) for name, handler in handlers.items()}
    server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler(SERVICE, wrapped)])
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            yield Caller(channel)
    finally:
        await server.stop(None)


def link(interceptor: object) -> Link:
    return Link(type(interceptor).__name__, "tests", interceptor)

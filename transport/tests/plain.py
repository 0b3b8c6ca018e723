"""Plain HTTP for tests: servers with an application, and a client of HTTP/1.1 that sends what a test tells it to."""

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import grpc
import pytest
from conftest import BOUND, handlers_of

import fetch_transport

Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]
Application = Callable[[dict[str, Any], Receive, Send], Awaitable[None]]


async def echo(request: bytes, context: Any) -> bytes:
    return request


METHODS = {"Echo": grpc.unary_unary_rpc_method_handler(echo)}


@dataclass
class Served:
    """A server with an application, and a port of it."""

    server: fetch_transport.Server
    port: int


@contextlib.asynccontextmanager
async def serving(
    application: Application | None,
    *,
    credentials: fetch_transport.ServerCredentials | None = None,
    only_http: bool = False,
    options: Any = (),
) -> AsyncIterator[Served]:
    server = fetch_transport.server(options=options)
    server.add_generic_rpc_handlers(handlers_of(METHODS))
    if application is not None:
        server.set_http_application(application)  # type: ignore[arg-type]  # narrower than ASGI's own types
    if only_http:
        port = server.add_http_port("127.0.0.1:0", credentials)
    elif credentials is not None:
        port = server.add_secure_port("127.0.0.1:0", credentials)
    else:
        port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        yield Served(server, port)
    finally:
        await server.stop(None)


async def body_of(receive: Receive) -> bytes:
    """The whole body of a request."""
    body = b""
    while True:
        message = await receive()
        assert message["type"] == "http.request"
        body += message["body"]
        if not message["more_body"]:
            return body


async def answer(send: Send, body: bytes = b"", status: int = 200, headers: Any = ()) -> None:
    """A whole response."""
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


@dataclass
class Response:
    """What a client has read."""

    status: int
    headers: dict[str, str]
    body: bytes = b""


class Client:
    """One connection of HTTP/1.1."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    async def send(self, *raw: bytes) -> None:
        self.writer.write(b"".join(raw))
        await self.writer.drain()

    async def ask(self, method: str = "GET", path: str = "/", body: bytes | None = None, *headers: str) -> None:
        length = () if body is None else (f"content-length: {len(body)}",)
        head = "\r\n".join((f"{method} {path} HTTP/1.1", "host: test", *length, *headers, "", ""))
        await self.send(head.encode(), body or b"")

    async def head(self) -> Response:
        """The head of the next response."""
        raw = await asyncio.wait_for(self.reader.readuntil(b"\r\n\r\n"), BOUND)
        first, *lines = raw.decode().strip().split("\r\n")
        headers = dict(line.split(": ", 1) for line in lines)
        return Response(int(first.split()[1]), headers)

    async def part(self) -> bytes:
        """The next chunk; empty after the last."""
        size = int(await asyncio.wait_for(self.reader.readuntil(b"\r\n"), BOUND), 16)
        return (await asyncio.wait_for(self.reader.readexactly(size + 2), BOUND))[:-2]

    async def rest(self) -> bytes:
        """All chunks that are still to come."""
        parts = []
        while part := await self.part():
            parts.append(part)
        return b"".join(parts)

    async def response(self, method: str = "GET") -> Response:
        """The next response, whole."""
        response = await self.head()
        if response.headers.get("transfer-encoding") == "chunked":
            response.body = await self.rest()
        elif method != "HEAD":
            length = int(response.headers.get("content-length", 0))
            response.body = await asyncio.wait_for(self.reader.readexactly(length), BOUND)
        return response

    async def is_closed(self) -> bool:
        """Whether the server has ended the connection, and says nothing more."""
        try:
            return await asyncio.wait_for(self.reader.read(), BOUND) == b""
        except ConnectionError:
            return True


@contextlib.asynccontextmanager
async def client_to(port: int, context: ssl.SSLContext | None = None) -> AsyncIterator[Client]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context, limit=1 << 22)
    try:
        yield Client(reader, writer)
    finally:
        writer.close()
        with contextlib.suppress(ConnectionError, ssl.SSLError):
            await writer.wait_closed()


async def once(event: asyncio.Event) -> None:
    """Waits for what a test waits for."""
    try:
        await asyncio.wait_for(event.wait(), BOUND)
    except TimeoutError:
        pytest.fail("it has not happened")

"""The metrics listener: /metrics, /health, /livez, /readyz and /version over plain HTTP, as etcd has them.

What is asked here is a GET without a body, now and then: each connection answers one request and is closed. Paths and
answers follow `server/etcdserver/api/etcdhttp/health.go` and `version.go`.
"""

import asyncio
import contextlib
import json
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from urllib.parse import urlsplit

from fetch import exposition
from fetch.stores.protocol import StoreUnavailable

_SECONDS = 10.0
_JSON = "application/json"
_TEXT = "text/plain; charset=utf-8"


@dataclass(frozen=True, slots=True)
class Answer:
    """What a path answers."""

    status: HTTPStatus
    content_type: str
    body: bytes


Page = Callable[[], Awaitable[Answer]]


def pages(
    metrics: Callable[[], Awaitable[bytes]], read: Callable[[], Awaitable[None]], is_serving: Callable[[], bool]
) -> dict[str, Page]:
    """The listener's pages.

    `metrics` makes the text for Prometheus; `read` reads from the store and raises StoreUnavailable; `is_serving` is
    false once the daemon stops.
    """

    async def reason() -> str:
        if not is_serving():
            return "STOPPING"
        try:
            async with asyncio.timeout(_SECONDS / 2):
                await read()
        except (StoreUnavailable, TimeoutError):
            return "STORE UNAVAILABLE"
        return ""

    async def health() -> Answer:
        why = await reason()
        body = json.dumps({"health": "false" if why else "true", "reason": why}, separators=(",", ":")).encode()
        return Answer(HTTPStatus.SERVICE_UNAVAILABLE if why else HTTPStatus.OK, _JSON, body)

    async def ready() -> Answer:
        why = await reason()
        if why:
            return Answer(HTTPStatus.SERVICE_UNAVAILABLE, _TEXT, f"[-]store failed: {why}\n".encode())
        return Answer(HTTPStatus.OK, _TEXT, b"ok\n")

    async def alive() -> Answer:
        return Answer(HTTPStatus.OK, _TEXT, b"ok\n")

    async def text() -> Answer:
        return Answer(HTTPStatus.OK, exposition.CONTENT_TYPE, await metrics())

    return {"/metrics": text, "/health": health, "/livez": alive, "/readyz": ready}


def constant(body: Mapping[str, str]) -> Page:
    """A page that is always the same JSON."""
    answer = Answer(HTTPStatus.OK, _JSON, json.dumps(body, separators=(",", ":")).encode())

    async def page() -> Answer:
        return answer

    return page


class Listener:
    """Serves pages on http:// URLs."""

    def __init__(self, served: Mapping[str, Page]) -> None:
        self._pages = served
        self._servers: list[asyncio.Server] = []

    async def start(self, urls: tuple[str, ...]) -> None:
        """Listens.

        :raises OSError: a URL cannot be listened on
        """
        for url in urls:
            parts = urlsplit(url)
            self._servers.append(await asyncio.start_server(self._serve, parts.hostname, parts.port))

    def close(self) -> None:
        """Stops listening."""
        for server in self._servers:
            server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, TimeoutError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            async with asyncio.timeout(_SECONDS):
                head = await reader.readuntil(b"\r\n\r\n")
                method, _, rest = head.decode("latin-1").partition(" ")
                answer = await self._answer(method, rest.partition(" ")[0])
                writer.write(_head(answer) + (b"" if method == "HEAD" else answer.body))
                await writer.drain()
        writer.close()

    async def _answer(self, method: str, target: str) -> Answer:
        page = self._pages.get(urlsplit(target).path)
        if page is None:
            return Answer(HTTPStatus.NOT_FOUND, _TEXT, b"404 page not found\n")
        if method not in ("GET", "HEAD"):
            return Answer(HTTPStatus.METHOD_NOT_ALLOWED, _TEXT, b"Method Not Allowed\n")
        return await page()


def _head(answer: Answer) -> bytes:
    lines = (
        f"HTTP/1.1 {answer.status.value} {answer.status.phrase}",
        f"Content-Type: {answer.content_type}",
        f"Content-Length: {len(answer.body)}",
        "Connection: close",
    )
    return ("\r\n".join(lines) + "\r\n\r\n").encode()

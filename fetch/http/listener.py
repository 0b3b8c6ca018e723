"""A listener for plain HTTP: what is asked has no body, and is asked now and then.

Each connection answers one request and is closed.
"""

import asyncio
import contextlib
import logging
from collections.abc import Mapping
from http import HTTPStatus
from urllib.parse import parse_qs, urlsplit

from fetch.http.answers import FAILED, NOT_FOUND, Answer, Page, Request

_SECONDS = 10.0

logger = logging.getLogger(__name__)


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
        try:
            parts = urlsplit(target)
            query = parse_qs(parts.query, keep_blank_values=True)
        except ValueError:
            return Answer(HTTPStatus.BAD_REQUEST, b"400 Bad Request")
        page = self._pages.get(parts.path)
        if page is None:
            return NOT_FOUND
        try:
            return await page(Request(method, query))
        except Exception:
            logger.exception("%s cannot be answered", parts.path)
            return FAILED


def _head(answer: Answer) -> bytes:
    lines = [
        f"HTTP/1.1 {answer.status.value} {answer.status.phrase}",
        f"Content-Type: {answer.content_type}",
        f"Content-Length: {len(answer.body)}",
        "Connection: close",
        *(f"{name}: {value}" for name, value in answer.headers),
    ]
    return ("\r\n".join(lines) + "\r\n\r\n").encode()

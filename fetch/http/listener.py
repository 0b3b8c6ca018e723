"""The metrics listener: /metrics, /health, /livez and /readyz over plain HTTP, as etcd has them.

What is asked here has no body, and is asked now and then: each connection answers one request and is closed. Paths and
answers follow `server/etcdserver/api/etcdhttp/health.go` and `metrics.go`.
"""

import asyncio
import contextlib
import json
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from urllib.parse import parse_qs, urlsplit

from fetch.observation import exposition
from fetch.observation.instruments import Instruments
from fetch.stores.protocol import StoreCorrupt, StoreUnavailable

_SECONDS = 10.0
_TEXT = "text/plain; charset=utf-8"

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Request:
    """What is asked of a path. A parameter without a value has an empty one."""

    method: str
    query: Mapping[str, Sequence[str]]


@dataclass(frozen=True, slots=True)
class Answer:
    """What a path answers."""

    status: HTTPStatus
    body: bytes
    content_type: str = _TEXT
    allow: str = ""


Page = Callable[[Request], Awaitable[Answer]]
Check = Callable[[], Awaitable[str]]
"""Why something is not well; empty when it is."""

_NOT_FOUND = Answer(HTTPStatus.NOT_FOUND, b"404 page not found\n")
_CORRUPT = "STORE CORRUPT"
_ONLY_GET = Answer(HTTPStatus.METHOD_NOT_ALLOWED, b"Method Not Allowed\n", allow="GET")


def pages(
    metrics: Callable[[], Awaitable[bytes]],
    look: Callable[[], Awaitable[None]],
    is_serving: Callable[[], bool],
    instruments: Instruments,
) -> dict[str, Page]:
    """The listener's pages.

    `metrics` makes the text for Prometheus; `look` looks at the store and raises StoreUnavailable; `is_serving` is
    false once the daemon stops.

    /livez says that the process answers, and asks nothing of a store that runs elsewhere: to start a daemon again does
    not bring that back. Its check has etcd's name, so that probes made for etcd find it.
    """

    async def reads() -> str:
        if not is_serving():
            return "STOPPING"
        try:
            async with asyncio.timeout(_SECONDS / 2):
                await look()
        except StoreCorrupt:
            return _CORRUPT
        except (StoreUnavailable, TimeoutError):
            return "STORE UNAVAILABLE"
        return ""

    async def is_whole() -> str:
        why = await reads()
        return why if why == _CORRUPT else ""

    async def is_well() -> str:
        return ""

    async def text(_: Request) -> Answer:
        return Answer(HTTPStatus.OK, await metrics(), exposition.CONTENT_TYPE)

    live = {"serializable_read": is_well}
    # a tenant's alarms are its own, and no daemon is a learner
    ready = {
        "data_corruption": is_whole,
        "serializable_read": reads,
        "linearizable_read": reads,
        "non_learner": is_well,
    }
    return {
        "/metrics": text,
        "/health": _health(reads, instruments),
        **_checked("/livez", live, instruments),
        **_checked("/readyz", ready, instruments),
    }


def _health(check: Check, instruments: Instruments) -> Page:
    success = instruments.counter("etcd_server_health_success", "Health checks that succeeded.")
    failures = instruments.counter("etcd_server_health_failures", "Health checks that failed.")
    for counter in (success, failures):
        counter.add((), 0)

    async def page(request: Request) -> Answer:
        if request.method != "GET":
            return _ONLY_GET
        why = await check()
        (failures if why else success).add(())
        body = json.dumps({"health": "false" if why else "true", "reason": why}, separators=(",", ":")).encode()
        return Answer(HTTPStatus.SERVICE_UNAVAILABLE, body + b"\n") if why else Answer(HTTPStatus.OK, body)

    return page


def _checked(path: str, checks: Mapping[str, Check], instruments: Instruments) -> dict[str, Page]:
    """The page of all checks, from which `?exclude=NAME` leaves some out, and one for each."""
    outcomes = instruments.counter(
        "etcd_server_healthchecks_total", "Health checks, by outcome.", ("type", "name", "status")
    )

    def page_of(named: Mapping[str, Check]) -> Page:
        async def page(request: Request) -> Answer:
            if request.method != "GET":
                return _ONLY_GET
            reasons = {
                name: await check() for name, check in named.items() if name not in request.query.get("exclude", ())
            }
            for name, why in reasons.items():
                outcomes.add((path[1:], name, "error" if why else "success"))
            lines = "".join(f"[-]{name} failed: {why}\n" if why else f"[+]{name} ok\n" for name, why in reasons.items())
            if any(reasons.values()):
                return Answer(HTTPStatus.SERVICE_UNAVAILABLE, lines.encode() + b"\n")
            return Answer(HTTPStatus.OK, ((lines if "verbose" in request.query else "") + "ok\n").encode())

        return page

    return {path: page_of(checks), **{f"{path}/{name}": page_of({name: check}) for name, check in checks.items()}}


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
            return _NOT_FOUND
        try:
            return await page(Request(method, query))
        except Exception:
            logger.exception("%s cannot be answered", parts.path)
            return Answer(HTTPStatus.INTERNAL_SERVER_ERROR, b"Internal Server Error\n")


def _head(answer: Answer) -> bytes:
    lines = [
        f"HTTP/1.1 {answer.status.value} {answer.status.phrase}",
        f"Content-Type: {answer.content_type}",
        f"Content-Length: {len(answer.body)}",
        "X-Content-Type-Options: nosniff",
        "Connection: close",
    ]
    if answer.allow:
        lines.append(f"Allow: {answer.allow}")
    return ("\r\n".join(lines) + "\r\n\r\n").encode()

"""A request of plain HTTP and its response, as an ASGI application knows them."""

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from typing import Any, Protocol

from fetch_transport._incidents import internal_error
from fetch_transport._native import Request

Message = MutableMapping[str, Any]
Application = Callable[
    [MutableMapping[str, Any], Callable[[], Awaitable[Message]], Callable[[Message], Awaitable[None]]], Awaitable[None]
]
"""An ASGI 3 application."""

_LOGGER = logging.getLogger(__name__)
_DISCONNECT = "http.disconnect"
_WITHOUT_BODY = (204, 304)
_TEXT = (b"content-type", b"text/plain; charset=utf-8")


class Flusher(Protocol):
    """Whoever sees to it that what has been said is sent."""

    def flush_soon(self) -> None:
        """Sends what has been said, together with what else is said in this turn of the loop."""


class Exchange:
    """One request for an application, which `run` runs.

    Beside ASGI's promises: `send` returns at once while the transport has room (64 KiB of a response), and waits for it
    otherwise; the head of a response goes out with the first part of its body, or alone when the application waits
    before that. When the client has gone, `receive` says so, `send` raises `OSError`, and the application is cancelled.
    """

    def __init__(self, request: Request, flusher: Flusher) -> None:
        self._request = request
        self._flusher = flusher
        self._scope = request.scope()
        self._where = f"{self._scope['method']} {self._scope['path']}"
        self._parts: deque[bytes] = deque() if request.message is None else deque((request.message,))
        self._ended = request.ended
        self._all_received = False
        self._gone = False
        self._begun = False
        self._head: tuple[int, list[tuple[bytes, bytes]]] | None = None
        # Bytes that the response's length says are still to come; None where it says nothing.
        self._missing: int | None = None
        # Nothing more goes out, though the application may not be through with its body.
        self._all_sent = False
        self._complete = False
        self._changed = _Signal()
        self._room = _Signal()

    async def run(self, application: Application) -> None:
        """Runs the application, and sees to it that the client gets an answer."""
        try:
            await application(self._scope, self.receive, self.send)
            if not self._complete and not self._gone:
                _LOGGER.error("The application has not ended its response to [%s]", self._where)
                self._fail("Internal Server Error")
        except (KeyboardInterrupt, SystemExit):
            raise
        except asyncio.CancelledError:
            self._fail("Internal Server Error")
        except Exception as error:  # the boundary to the application, which may raise anything
            if self._gone:
                _LOGGER.debug("[%s] raised by [%s] after its client had gone", type(error).__name__, self._where)
            else:
                self._fail(internal_error(self._where))

    # What the application is called with

    async def receive(self) -> Message:
        """The next part of the request's body, then that the client has gone or the response is complete."""
        if self._request.ask():
            self._flusher.flush_soon()
        while not self._is_over() and (self._all_received or not (self._parts or self._ended)):
            await self._changed.wait()
        if self._is_over():
            return {"type": _DISCONNECT}
        body = self._parts.popleft() if self._parts else b""
        if body and self._request.consumed(len(body)):
            self._flusher.flush_soon()
        self._all_received = self._ended and not self._parts
        return {"type": "http.request", "body": body, "more_body": not self._all_received}

    async def send(self, message: Message) -> None:
        """Sends the head of the response, or a part of its body.

        Raises:
            OSError: the client has gone.
            RuntimeError: the message is not to be sent now, or the body is not as long as the head has said.
            ValueError: a status or a header that HTTP does not have.
        """
        match message["type"]:
            case "http.response.start" if not self._begun:
                self._begun = True
                self._head = int(message["status"]), list(message.get("headers", ()))
                asyncio.get_running_loop().call_soon(self._send_head_alone)
            case "http.response.body" if self._begun and not self._complete:
                await self._send_part(message.get("body", b""), whole=not message.get("more_body", False))
            case kind:
                raise RuntimeError(f"unexpected ASGI message {kind!r}")

    # For the dispatcher

    def refuse(self) -> None:
        """Answers instead of an application."""
        self._request.respond(503, [_TEXT], b"Service Unavailable\n", True)
        self._complete = True
        self._flusher.flush_soon()

    def feed(self, message: bytes | None, ended: bool) -> None:
        """Takes a part of the body that has come, the word that it was the last, or both."""
        if message is not None:
            self._parts.append(message)
        self._ended = ended
        self._changed.give()

    def make_room(self) -> None:
        """Lets a waiting writer go on."""
        self._room.give()

    def cut_off(self) -> None:
        """The client has gone."""
        self._gone = True
        self._changed.give()
        self._room.give()

    async def _send_part(self, body: bytes, *, whole: bool) -> None:
        if self._gone:
            raise OSError("the client has gone")
        has_room = True
        if self._head is not None:
            has_room = self._respond(*self._head, bytes(body), whole=whole)
            self._head = None
        elif not self._all_sent:
            ends = self._count(len(body), whole=whole)
            has_room = self._request.send(bytes(body), ends)
            self._all_sent = ends
        self._complete = whole
        self._flusher.flush_soon()
        if whole:
            self._changed.give()
        elif not has_room:
            # Whoever waits is told when there is room, or that the client has gone.
            await self._room.wait()

    def _respond(self, status: int, headers: list[tuple[bytes, bytes]], body: bytes, *, whole: bool) -> bool:
        """Sends the head with the first part of the body."""
        declared = _length_of(headers)
        if self._scope["method"] == "HEAD" or status in _WITHOUT_BODY:
            if whole and declared is None and status not in _WITHOUT_BODY:
                headers.append((b"content-length", b"%d" % len(body)))
            has_room = self._request.respond(status, headers, b"", True)
            self._all_sent = True
            return has_room
        if whole and declared is None:
            headers.append((b"content-length", b"%d" % len(body)))
        self._missing = declared
        ends = self._count(len(body), whole=whole)
        has_room = self._request.respond(status, headers, body, ends)
        self._all_sent = ends
        return has_room

    def _count(self, size: int, *, whole: bool) -> bool:
        """Whether this part is the last one by the response's length, or by the application's word."""
        if self._missing is None:
            return whole
        self._missing -= size
        if self._missing < 0 or (whole and self._missing):
            raise RuntimeError("the body of the response is not as long as its head says")
        return not self._missing

    def _send_head_alone(self) -> None:
        if self._head is None or self._is_over():
            return
        status, headers = self._head
        if self._scope["method"] == "HEAD" or status in _WITHOUT_BODY:
            return  # it goes out with the body's first part, which is none
        try:
            self._missing = _length_of(headers)
            self._request.respond(status, headers, b"", False)
        except (TypeError, ValueError):
            # What the application has said to be sent cannot be; it hears of it at its next word.
            self._fail(internal_error(self._where))
        self._head = None
        self._flusher.flush_soon()

    def _fail(self, text: str) -> None:
        """Answers with an error if it is time for that, else ends the response where it is."""
        if self._is_over():
            return
        self._complete = True
        if self._all_sent:
            return
        # A head that has not gone out is not what the client gets.
        if self._begun and self._head is None:
            self._request.abort()
        else:
            body = b"" if self._scope["method"] == "HEAD" else f"{text}\n".encode()
            self._request.respond(500, [_TEXT, (b"content-length", b"%d" % len(body))], body, True)
        self._flusher.flush_soon()

    def _is_over(self) -> bool:
        return self._gone or self._complete


class _Signal:
    """Something that is waited for, again and again, by any number of tasks."""

    def __init__(self) -> None:
        self._given: asyncio.Future[None] | None = None

    async def wait(self) -> None:
        if self._given is None or self._given.done():
            self._given = asyncio.get_running_loop().create_future()
        # Shielded, since one of two that wait may be cancelled.
        await asyncio.shield(self._given)

    def give(self) -> None:
        if self._given is not None and not self._given.done():
            self._given.set_result(None)


def _length_of(headers: Iterable[tuple[bytes, bytes]]) -> int | None:
    for name, value in headers:
        if name.lower() == b"content-length":
            return int(value)
    return None

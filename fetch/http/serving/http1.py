"""One connection of HTTP/1.1, request after request. The parser is h11's."""

import asyncio
import contextlib
from asyncio import StreamReader, StreamWriter
from http import HTTPStatus
from http.client import responses
from typing import Any

import h11

from fetch.http.asgi import Application, Message
from fetch.http.pace import Pace
from fetch.http.serving.bounds import (
    HEAD_BYTES,
    HEAD_SECONDS,
    IDLE_SECONDS,
    READ_BYTES,
    UNREAD_BYTES,
    UNREAD_SECONDS,
)
from fetch.http.serving.peer import Peer, date

_GONE: Message = {"type": "http.disconnect"}
_TOO_LARGE = 431


class Http1:
    """A connection. `is_idle` tells whether it can be closed without a loss to anyone."""

    def __init__(self, reader: StreamReader, writer: StreamWriter, application: Application, peer: Peer) -> None:
        self.is_idle = True
        self._reader, self._writer = reader, writer
        self._application, self._peer = application, peer
        self._http = h11.Connection(h11.SERVER, max_incomplete_event_size=HEAD_BYTES)
        self._pace = Pace()
        self._draining = False

    def drain(self) -> None:
        """Answers what has been asked, and nothing more."""
        self._draining = True
        if self.is_idle:
            self._writer.close()

    async def serve(self, first: bytes) -> None:
        """Serves the connection to its end. `first` has been read of it.

        :raises OSError: :raises TimeoutError:
        """
        if first:
            self._http.receive_data(first)
        while True:
            try:
                request = await self._head(begun=bool(first))
            except h11.RemoteProtocolError as error:
                await self._refuse(error)
                return
            if request is None:
                return
            first = b""
            self.is_idle = False
            await self._answer(request)
            self.is_idle = True
            if self._draining or not self._goes_on():
                await self._pass_over()
                return
            self._http.start_next_cycle()

    def _goes_on(self) -> bool:
        return self._http.our_state is h11.DONE and self._http.their_state is h11.DONE

    async def _head(self, *, begun: bool) -> h11.Request | None:
        """The next request's head; None where the client has no more to ask."""
        begun = begun or bool(self._http.trailing_data[0])
        async with asyncio.timeout(HEAD_SECONDS if begun else IDLE_SECONDS) as bound:
            while True:
                event = self._http.next_event()
                if isinstance(event, h11.Request):
                    return event
                if event is not h11.NEED_DATA:
                    return None
                self._http.receive_data(await self._reader.read(READ_BYTES))
                if not begun:
                    begun = True
                    bound.reschedule(asyncio.get_running_loop().time() + HEAD_SECONDS)

    async def _answer(self, request: h11.Request) -> None:
        headers = [(bytes(name), bytes(value)) for name, value in request.headers]
        scope = self._peer.scope(
            request.http_version.decode("ascii"), bytes(request.method), bytes(request.target), headers
        )
        exchange = _Exchange(
            self._http,
            self._reader,
            self._writer,
            self._pace,
            is_head=request.method == b"HEAD",
            has_body=any(
                name == b"transfer-encoding" or (name == b"content-length" and int(value) > 0)
                for name, value in headers
            ),
        )
        await self._application(scope, exchange.receive, exchange.send)

    async def _refuse(self, error: h11.RemoteProtocolError) -> None:
        """Answers what is not HTTP, as Go does."""
        if self._http.our_state not in (h11.IDLE, h11.SEND_RESPONSE):
            return
        hint = error.error_status_hint
        status = HTTPStatus(hint if hint in (_TOO_LARGE, HTTPStatus.NOT_IMPLEMENTED) else HTTPStatus.BAD_REQUEST)
        text = f"{status.value} {status.phrase}"
        self._writer.write(
            f"HTTP/1.1 {text}\r\nContent-Type: text/plain; charset=utf-8\r\nConnection: close\r\n\r\n{text}".encode()
        )
        await self._writer.drain()
        await self._pass_over()

    async def _pass_over(self) -> None:
        """Reads what still comes of a request that has been answered: to close at once could take the answer away."""
        if self._http.their_state is h11.DONE or self._http.our_state is h11.ERROR:
            return
        if self._writer.can_write_eof():
            self._writer.write_eof()
        left = UNREAD_BYTES
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(UNREAD_SECONDS):
                while left > 0 and (data := await self._reader.read(READ_BYTES)):
                    left -= len(data)


class _Exchange:
    """A request and its answer."""

    def __init__(
        self,
        http: h11.Connection,
        reader: StreamReader,
        writer: StreamWriter,
        pace: Pace,
        *,
        is_head: bool,
        has_body: bool,
    ) -> None:
        self._http, self._reader, self._writer, self._pace = http, reader, writer, pace
        self._is_head = is_head
        self._is_whole = self._gone = False
        self._bodiless = not has_body and isinstance(http.next_event(), h11.EndOfMessage)

    async def receive(self) -> Message:
        """What comes of the request, and then the word that the client is gone."""
        try:
            while not (self._is_whole or self._gone):
                await self._pace.keep()
                if self._bodiless:
                    self._is_whole = True
                    return {"type": "http.request", "body": b"", "more_body": False}
                event = self._http.next_event()
                if isinstance(event, h11.Data):
                    return {"type": "http.request", "body": bytes(event.data), "more_body": True}
                if isinstance(event, h11.EndOfMessage):
                    self._is_whole = True
                    return {"type": "http.request", "body": b"", "more_body": False}
                if event is not h11.NEED_DATA:
                    break
                if self._http.they_are_waiting_for_100_continue:
                    self._write(h11.InformationalResponse(status_code=100, headers=[]))
                    await self._writer.drain()
                self._http.receive_data(await self._reader.read(READ_BYTES))
            while not self._gone and (data := await self._reader.read(READ_BYTES)):
                self._http.receive_data(data)
                if len(self._http.trailing_data[0]) > READ_BYTES:
                    break
        except (h11.RemoteProtocolError, OSError):
            pass
        self._gone = True
        return _GONE

    async def send(self, message: Message) -> None:
        """Sends a part of the answer; returns when there is room for the next.

        :raises OSError: the client is gone
        """
        if message["type"] == "http.response.start":
            headers = [date(), *message["headers"]]
            if self._http.their_state is h11.SEND_BODY:
                headers.append((b"connection", b"close"))  # what is still to come would be in the way
            status = message["status"]
            self._write(h11.Response(status_code=status, headers=headers, reason=responses.get(status, "").encode()))
            return
        body = message.get("body", b"")
        if body and not self._is_head:
            self._write(h11.Data(data=body))
        if not message.get("more_body", False):
            self._write(h11.EndOfMessage())
            self._gone = True
        await self._writer.drain()
        await self._pace.keep()

    def _write(self, event: Any) -> None:
        data = self._http.send(event)
        if data:
            self._writer.write(data)

"""A request to the gateway: what it says in JSON becomes a call, and what that answers becomes JSON again.

The call passes the request chain and comes to the handler that gRPC's calls come to. JSON is read and written in
slices, by turns among the tenants; an answer is written as its client takes it. Follows grpc-gateway's
`runtime/handler.go`.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any

import grpc

from fetch.config import Settings
from fetch.engine.turns import Turns
from fetch.errors import EtcdError, Refused
from fetch.http.answers import JSON
from fetch.http.asgi import Receive, Scope, Send, certificate_of
from fetch.http.gateway.bodies import Body, ClientGone, Held
from fetch.http.gateway.context import HttpContext
from fetch.http.gateway.metadata import told_by
from fetch.http.gateway.reading import NoMessage, read
from fetch.http.gateway.routes import Route, routes
from fetch.http.gateway.statuses import OF_HTTP, status_json
from fetch.http.gateway.syntax import SyntaxFailure
from fetch.http.gateway.writing import write
from fetch.tls.principals import NOBODY, Principal, Principals

_Code = grpc.StatusCode
_OVERHEAD_BYTES = 512 << 10
_TOO_LATE = _Code.DEADLINE_EXCEEDED, "context deadline exceeded"
_OF_GRPC = (b"grpc-metadata-content-type", b"application/grpc")
_JSON = (b"content-type", JSON.encode())

Headers = tuple[tuple[bytes, bytes], ...]

logger = logging.getLogger(__name__)


class Gateway:
    """Answers what is asked under `/v3/`."""

    def __init__(self, methods: Mapping[str, grpc.RpcMethodHandler], settings: Settings, headers: Headers = ()) -> None:
        """`methods` are the handlers behind the request chain, by full name; `headers` come with each answer."""
        self._methods = methods
        self._routes = routes()
        self._headers = headers
        self._principals = Principals(settings)
        # base64 takes a third more, names and what JSON is written with some
        self._largest = 2 * (settings.max_request_bytes + _OVERHEAD_BYTES)
        self._turns = Turns()
        self._held = Held()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers one request."""
        answering = _Answering(scope["method"], send, self._headers)
        try:
            await self._answer(scope, receive, answering)
        except (ClientGone, OSError):
            pass
        except EtcdError as error:
            await answering.fail(error.code, error.text)

    async def _answer(self, scope: Scope, receive: Receive, answering: "_Answering") -> None:
        route = self._routes.get(scope["path"])
        if route is None:
            raise Refused(_Code.NOT_FOUND, "Not Found")
        if scope["method"] != "POST":
            raise Refused(_Code.UNIMPLEMENTED, "Method Not Allowed")
        handler = self._methods.get(route.method)
        if handler is None:
            raise Refused(_Code.UNIMPLEMENTED, "Method not found!")
        told = told_by(scope)
        principal = self._principal(scope)
        body = Body(receive, self._held, principal.name, self._largest)
        exchange = _Exchange(self._turns, principal, route, body, answering)
        context = HttpContext(scope, told, exchange.read, exchange.write)
        try:
            if handler.request_streaming:
                await exchange.stream(lambda: handler.stream_stream(None, context), context)
                return
            request = await exchange.request()
            if handler.response_streaming:
                await exchange.stream(lambda: handler.unary_stream(request, context), context)
            else:
                await exchange.unary(lambda: handler.unary_unary(request, context), context)
        finally:
            body.close()
            context.finish(cancelled=not answering.is_complete)

    def _principal(self, scope: Scope) -> Principal:
        """Whose turn it is. Who may come in is for authorization to say."""
        if scope.get("scheme") != "https":
            return self._principals.anonymous
        certificate = certificate_of(scope)
        if certificate is None:
            return NOBODY
        presented = certificate.encode()
        return self._principals.of(presented, presented)


class _Exchange:
    """One request, its call and its answer."""

    def __init__(self, turns: Turns, principal: Principal, route: Route, body: Body, answering: "_Answering") -> None:
        self._turns, self._principal, self._route = turns, principal, route
        self._body, self._answering = body, answering
        self._is_gone: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def request(self) -> bytes:
        """The message of a call that has one. Of whom authorization will refuse it is not looked at.

        :raises Refused: INVALID_ARGUMENT, it is no such message
        :raises ClientGone:
        """
        if self._principal.refusal:
            return b""
        try:
            return await self._read(await self._body.whole())
        except (SyntaxFailure, NoMessage) as error:
            raise Refused(_Code.INVALID_ARGUMENT, str(error)) from None

    async def unary(self, call: Callable[[], Any], context: HttpContext) -> None:
        """Answers with a message, or with an error.

        :raises ClientGone:
        """
        answer = await self._run(call, context)
        if answer is None:
            await self._answering.fail(*_status_of(context))
            return
        pieces = self._pieces(answer)
        del answer  # only the pieces hold it then
        await self._answering.answer(pieces)

    async def stream(self, call: Callable[[], Any], context: HttpContext) -> None:
        """Answers with a stream of messages, which may end with an error.

        :raises ClientGone:
        """
        await self._run(call, context)
        await self._answering.end(*_status_of(context))

    # for the context

    async def read(self) -> bytes | None:
        """The next message of the client's stream.

        :raises Refused: INVALID_ARGUMENT, it is none
        """
        if self._principal.refusal:
            return None
        try:
            while True:
                value = await self._body.next()
                if value is None:
                    return None
                try:
                    return await self._read(value)
                except (SyntaxFailure, NoMessage) as error:
                    told = f"Failed to decode request: {error}"
                    raise Refused(_Code.INVALID_ARGUMENT, told) from None
        except ClientGone:
            await self._be_gone()
            return None

    async def write(self, message: bytes) -> None:
        """Sends a message of the stream; returns when there is room for the next."""
        try:
            await self._answering.result(self._pieces(message, for_html=True))
        except OSError:
            await self._be_gone()

    async def _be_gone(self) -> None:
        """The client is gone: the call is cut off here."""
        if not self._is_gone.done():
            self._is_gone.set_result(None)
        await asyncio.Event().wait()

    async def _run(self, call: Callable[[], Any], context: HttpContext) -> bytes | None:
        """Runs a call to its end: what it answers; None where it has none, or ends with an error.

        :raises ClientGone: the client has gone before
        """
        if context.time_remaining() == 0:
            raise Refused(*_TOO_LATE)  # in the words of a call that has not begun, streams too
        calling, watching = asyncio.create_task(call()), asyncio.create_task(self._body.gone())
        try:
            await asyncio.wait(
                (calling, watching, self._is_gone),
                timeout=context.time_remaining(),
                return_when=asyncio.FIRST_COMPLETED,
            )
            if calling.done():
                return _outcome(calling, context)
            if watching.done() or self._is_gone.done():
                context.finish(cancelled=True)
                raise ClientGone
            context.set_code(_TOO_LATE[0])
            context.set_details(_TOO_LATE[1])
            return None
        finally:
            for task in (calling, watching):
                task.cancel()
            # before its answer is told, a call has ended: what it holds is free
            await asyncio.gather(calling, watching, return_exceptions=True)

    async def _read(self, text: bytes) -> bytes:
        if not text.strip():
            return b""
        async with self._turns.work(self._principal.name) as work:
            reading = read(text, self._route.request, work.is_spent)
            while True:
                try:
                    next(reading)
                except StopIteration as ended:
                    message: bytes = ended.value
                    return message
                await work.give_way()

    async def _pieces(self, message: bytes, *, for_html: bool = False) -> AsyncIterator[bytes]:
        """A message as JSON, piece by piece: none is made before the one before has been taken."""
        work = self._turns.work(self._principal.name)
        pieces = write(message, self._route.response, work.is_spent, for_html=for_html)
        while True:
            async with work:  # not while the client reads, or does not
                piece = next(pieces, None)
            if piece is None:
                return
            if piece:
                yield piece


class _Answering:
    """What the client is told."""

    def __init__(self, method: str, send: Send, headers: Headers) -> None:
        self._is_head, self._send_message, self._headers = method == "HEAD", send, headers
        self._is_begun = self.is_complete = False

    async def fail(self, code: grpc.StatusCode, details: str) -> None:
        """Answers with an error and nothing else."""
        body = status_json(code, details)
        await self._begin(OF_HTTP[code], _JSON, (b"content-length", b"%d" % len(body)))
        await self._part(b"" if self._is_head else body, last=True)

    async def answer(self, pieces: AsyncIterator[bytes]) -> None:
        """Answers with one message. What is short has its length told."""
        held = await anext(pieces)
        async for piece in pieces:
            if not self._is_begun:
                await self._begin(OF_HTTP[_Code.OK], _JSON, _OF_GRPC)
            await self._part(held)
            held = piece
        if not self._is_begun:
            await self._begin(OF_HTTP[_Code.OK], _JSON, _OF_GRPC, (b"content-length", b"%d" % len(held)))
        await self._part(held, last=True)

    async def result(self, pieces: AsyncIterator[bytes]) -> None:
        """Tells a message of a stream."""
        before = b'{"result":'
        async for piece in pieces:
            if not self._is_begun:
                await self._begin(OF_HTTP[_Code.OK], _JSON, _OF_GRPC)
            if before:
                held, before = before + piece, b""
                continue
            await self._part(held)
            held = piece
        await self._part(held + b"}\n")

    async def end(self, code: grpc.StatusCode, details: str) -> None:
        """Ends a stream."""
        if code is _Code.OK:
            if not self._is_begun:
                await self._begin(OF_HTTP[code], _OF_GRPC)
            await self._part(b"", last=True)
            return
        if not self._is_begun:
            await self._begin(OF_HTTP[code], _JSON)
        await self._part(b'{"error":' + status_json(code, details, for_html=True) + b"}\n", last=True)

    async def _begin(self, status: int, *headers: tuple[bytes, bytes]) -> None:
        self._is_begun = True
        await self._send_message(
            {"type": "http.response.start", "status": status, "headers": [*headers, *self._headers]}
        )

    async def _part(self, body: bytes, *, last: bool = False) -> None:
        await self._send_message({"type": "http.response.body", "body": body, "more_body": not last})
        self.is_complete = last


def _status_of(context: HttpContext) -> tuple[grpc.StatusCode, str]:
    """What a call has ended with."""
    return context.code() or _Code.OK, context.details()


def _outcome(calling: "asyncio.Task[bytes | None]", context: HttpContext) -> bytes | None:
    """What a call that has ended answers; None where it ended with an error, which is the context's status then."""
    if calling.cancelled():
        context.set_code(_Code.CANCELLED)
        return None
    error = calling.exception()
    if error is None:
        return None if _status_of(context)[0] is not _Code.OK else calling.result()
    if not isinstance(error, grpc.aio.AbortError):
        logger.error("a call failed behind the chain", exc_info=error)
        context.set_code(_Code.INTERNAL)
    return None

"""From what the transport has received to handlers, and back: one turn for each batch."""

import asyncio
import contextlib
import functools
import inspect
import logging
from collections.abc import Coroutine, Sequence
from typing import Any, Protocol

import grpc

from fetch_transport._context import Context, MessageTooLargeError
from fetch_transport._exchange import Application, Exchange
from fetch_transport._first_step import FirstSteps
from fetch_transport._incidents import internal_error
from fetch_transport._native import CANCELLED, END, MESSAGE, OVER, WRITABLE, Call, Request, Transport
from fetch_transport._requests import Requests

_LOGGER = logging.getLogger(__name__)
_SUCCESS = (None, grpc.StatusCode.OK, 0)
_NO_REQUEST = "cardinality violation: received no request message from non-client-streaming RPC"
_TWO_REQUESTS = "cardinality violation: received multiple request messages for non-client-streaming RPC"


class Told(Protocol):
    """Whoever hears what happens to a call or request after it has begun."""

    def feed(self, message: bytes | None, ended: bool) -> None:
        """A message or a part of a body has come, or the word that it was the last."""

    def make_room(self) -> None:
        """There is room to write again."""

    def cut_off(self) -> None:
        """The client has gone, or its time is up."""


class Dispatcher:
    """Runs the handlers of one server on one event loop.

    A call whose handler ends without waiting is served within the turn in which it arrived: no task, no entry
    anywhere. The others get a task and stand in `_contexts` until they end.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        transport: Transport,
        handlers: Sequence[grpc.GenericRpcHandler],
        interceptors: Sequence[grpc.aio.ServerInterceptor],
        application: Application | None,
        *,
        max_send_message_length: int,
        maximum_concurrent_rpcs: int | None,
    ) -> None:
        self.max_send_message_length = max_send_message_length
        self._loop = loop
        self._transport = transport
        self._handlers = tuple(handlers)
        self._interceptors = tuple(interceptors)
        self._application = application
        self._maximum_concurrent_rpcs = maximum_concurrent_rpcs
        self._first_steps = FirstSteps(loop)
        self._contexts: dict[int, tuple[Context, asyncio.Task[None] | None]] = {}
        self._exchanges: dict[int, tuple[Exchange, asyncio.Task[None]]] = {}
        self._flush_is_due = False
        self._drained = False
        self._ended: asyncio.Future[None] = loop.create_future()
        loop.add_reader(transport.fileno(), self._turn)

    async def wait_for_end(self) -> None:
        """Returns when the transport has closed everything and every handler has ended."""
        await asyncio.shield(self._ended)

    def flush_soon(self) -> None:
        """Sends what has been said, together with what else is said in this turn of the loop."""
        if not self._flush_is_due:
            self._flush_is_due = True
            self._loop.call_soon(self._flush)

    def _flush(self) -> None:
        self._flush_is_due = False
        self._transport.flush()

    def _turn(self) -> None:
        # What is said during the turn goes out once, at its end.
        flush_was_due, self._flush_is_due = self._flush_is_due, True
        begun, requests, events, drained = self._transport.take()
        try:
            for call in begun:
                self._begin(call)
            for request in requests:
                self._exchange(request)
            for identity, kind, message, ended in events:
                entry = self._contexts.get(identity) or self._exchanges.get(identity)
                if entry is None:
                    continue
                if kind == OVER:
                    self._over(identity)
                else:
                    told, task = entry
                    self._tell(told, task, kind, message, ended)
        finally:
            self._transport.flush()
            self._flush_is_due = flush_was_due
        if drained:
            self._drained = True
            self._end_unsent()
            self._loop.remove_reader(self._transport.fileno())
            self._first_steps.close()
            self._end_if_idle()

    def _begin(self, call: Call) -> None:
        limit = self._maximum_concurrent_rpcs
        if limit is not None and len(self._contexts) >= limit:
            call.finish(grpc.StatusCode.RESOURCE_EXHAUSTED.value[0], "Concurrent RPC limit exceeded!", ())
            return
        if self._interceptors:
            context = Context(call, self, None, None)
            # before the interceptors, which may wait while more comes
            context.feed(call.message, call.ended)
            self._start(context, self._intercept(context))
            return
        try:
            handler = self._handler_of(call)
        except Exception:
            call.finish(grpc.StatusCode.UNKNOWN.value[0], internal_error(call.method), ())
            return
        if handler is None:
            call.finish(grpc.StatusCode.UNIMPLEMENTED.value[0], "Method not found!", ())
            return
        context = Context(call, self, handler.request_deserializer, handler.response_serializer)
        if call.message is None or handler.request_streaming or (handler.response_streaming and not call.ended):
            context.feed(call.message, call.ended)
            # a coroutine less for streams, which lie idle by the thousand
            serve = self._handle(context, handler, None) if handler.request_streaming else None
            self._start(context, serve or self._receive_and_handle(context, handler))
        else:
            self._start(context, self._handle(context, handler, call.message))

    def _start(self, context: Context, serving: Coroutine[Any, Any, None]) -> None:
        task = self._first_steps.start(self._guard(context, serving))
        if task is not None:
            self._contexts[context.call.id] = (context, task)

    def _exchange(self, request: Request) -> None:
        """Begins a request of plain HTTP."""
        limit = self._maximum_concurrent_rpcs
        exchange = Exchange(request, self)
        if self._application is None or (limit is not None and len(self._exchanges) >= limit):
            exchange.refuse()
            return
        task = self._first_steps.start(self._run(request.id, exchange, self._application))
        if task is not None:
            self._exchanges[request.id] = exchange, task

    async def _run(self, identity: int, exchange: Exchange, application: Application) -> None:
        try:
            await exchange.run(application)
        finally:
            self._exchanges.pop(identity, None)
            self._end_if_idle()

    @staticmethod
    def _tell(told: Told, task: "asyncio.Task[None] | None", kind: int, message: bytes | None, ended: bool) -> None:
        if kind in (MESSAGE, END):
            told.feed(message, ended)
        elif kind == WRITABLE:
            told.make_room()
        elif kind == CANCELLED:
            told.cut_off()
            if task is not None:
                task.cancel()

    def _over(self, identity: int) -> None:
        entry = self._contexts.pop(identity, None)
        if entry is not None:
            self._call_back(entry[0])

    def _handler_of(self, details: Any) -> "grpc.RpcMethodHandler[Any, Any] | None":
        for generic in self._handlers:
            handler = generic.service(details)
            if handler is not None:
                return handler
        return None

    async def _intercept(self, context: Context) -> None:
        """Asks the interceptors, one after the other, for the handler."""

        async def ask(position: int, details: Any) -> Any:
            if position == len(self._interceptors):
                return self._handler_of(details)
            proceed = functools.partial(ask, position + 1)
            return await self._interceptors[position].intercept_service(proceed, details)

        handler = await ask(0, context.call)
        if handler is None:
            context.fail(grpc.StatusCode.UNIMPLEMENTED, "Method not found!")
            return
        context.use(handler.request_deserializer, handler.response_serializer)
        await self._receive_and_handle(context, handler)

    async def _receive_and_handle(self, context: Context, handler: Any) -> None:
        """Runs a handler that reads its requests itself, or whose only request may still be on its way."""
        if handler.request_streaming:
            await self._handle(context, handler, None)
            return
        message = await context.receive()
        if message is None:
            context.fail(grpc.StatusCode.INTERNAL, _NO_REQUEST)
            return
        # As grpc-go does: what follows the request of a unary call is passed over, that of a streaming one refused.
        if handler.response_streaming and await context.receive() is not None:
            context.fail(grpc.StatusCode.INTERNAL, _TWO_REQUESTS)
            return
        await self._handle(context, handler, message)

    async def _handle(self, context: Context, handler: Any, message: bytes | None) -> None:
        """Runs a handler; `message` is the request of a call that has only one."""
        request: Any
        if message is None:
            request = Requests(context)
        elif handler.request_deserializer is None:
            request = message
        else:
            request = handler.request_deserializer(message)
        if not handler.response_streaming:
            behaviour = handler.stream_unary if message is None else handler.unary_unary
            response = await behaviour(request, context)
            # With an error set the response is not sent, and need not be one.
            succeeded = context.code() in _SUCCESS
            context.complete(context.serialize(response) if succeeded and not context.done() else None)
            return
        behaviour = handler.stream_stream if message is None else handler.unary_stream
        responses = behaviour(request, context)
        if inspect.isasyncgen(responses):
            async with contextlib.aclosing(responses):
                async for response in responses:
                    await context.write(response)
        else:
            await responses
        context.complete(None)

    async def _guard(self, context: Context, serving: Coroutine[Any, Any, None]) -> None:
        """Ends a call as its handler has ended, however that is."""
        try:
            await serving
            if context.aborted is not None:
                _LOGGER.error("Abort error unexpectedly suppressed in [%s]", context.call.method)
        except (KeyboardInterrupt, SystemExit):
            raise
        except asyncio.CancelledError:
            context.fail(grpc.StatusCode.CANCELLED, "RPC cancelled by its handler")
        except MessageTooLargeError as error:
            context.fail(grpc.StatusCode.RESOURCE_EXHAUSTED, str(error))
        except Exception as error:  # the boundary to the handlers, which may raise anything
            if error is not context.aborted:
                self._report(context, error)
        finally:
            self._close(context)

    def _report(self, context: Context, error: Exception) -> None:
        if context.cancelled():
            _LOGGER.debug("[%s] raised by [%s] after it was cut off", type(error).__name__, context.call.method)
            return
        context.fail(grpc.StatusCode.UNKNOWN, internal_error(context.call.method))

    def _close(self, context: Context) -> None:
        # Nothing leaves a client waiting, not even an error that cannot be put into words.
        context.fail(grpc.StatusCode.UNKNOWN, "")
        self.flush_soon()
        if context.has_callbacks() and not self._drained and context.call.tell_when_over():
            # They are called once what was said is sent. Without a task: the handler has ended.
            self._contexts[context.call.id] = context, None
            return
        self._contexts.pop(context.call.id, None)
        self._call_back(context)
        self._end_if_idle()

    def _call_back(self, context: Context) -> None:
        for callback in context.take_callbacks():
            try:
                callback(context)
            except Exception:
                _LOGGER.exception("Error in callback for method [%s]", context.call.method)

    def _end_unsent(self) -> None:
        """Lets go of what has waited to be sent, since the transport has ended."""
        unsent = [context for context, task in self._contexts.values() if task is None]
        for context in unsent:
            del self._contexts[context.call.id]
            self._call_back(context)

    def _end_if_idle(self) -> None:
        if self._drained and not self._contexts and not self._exchanges and not self._ended.done():
            self._ended.set_result(None)

"""How interceptors that were written for grpcio are fitted into the chain."""

import asyncio
import inspect
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Any

import grpc

from fetch import errors
from fetch.chain.call import Call
from fetch.chain.interceptor import Proceed


def is_foreign(interceptor: object) -> bool:
    """Whether it is one of grpcio's, whatever methods it has beside: some have an `intercept` of their own."""
    return isinstance(interceptor, grpc.aio.ServerInterceptor)


def makes_foreign(factory: Callable[..., Any]) -> bool:
    """Whether it makes one of grpcio's: a class of them, or a function that requires no argument.

    What makes one of fetch's takes a `Setup`.
    """
    if isinstance(factory, type):
        return issubclass(factory, grpc.aio.ServerInterceptor)
    try:
        inspect.signature(factory).bind()
    except TypeError:
        return False
    return True


class Foreign:
    """A plain `grpc.aio.ServerInterceptor` as a link: asked for each call, since it may look at the call's metadata.

    It is shown a handler of the call's own shape, whose streams it can iterate over and hand on changed.
    """

    def __init__(self, interceptor: Any) -> None:
        self._interceptor = interceptor

    async def intercept(self, call: Call, proceed: Proceed) -> Any:
        """Lets the call pass as the interceptor has it."""

        async def answer(request: Any, _: grpc.aio.ServicerContext) -> Any:
            call.request = request
            return await proceed(call)

        async def answers(request: Any, _: grpc.aio.ServicerContext) -> AsyncIterator[bytes]:
            piped = _Piped(call, request)
            rest = asyncio.create_task(piped.run(proceed))
            try:
                while (message := await piped.answers.get()) is not _END:
                    yield message
                await rest
            finally:
                rest.cancel()

        async def continuation(_: Any) -> grpc.RpcMethodHandler:
            if call.request_streaming:
                return grpc.stream_stream_rpc_method_handler(answers)
            if call.response_streaming:
                return grpc.unary_stream_rpc_method_handler(answers)
            return grpc.unary_unary_rpc_method_handler(answer)

        details = _Details(call.method, call.invocation_metadata())
        handler = await self._interceptor.intercept_service(continuation, details)
        if handler is None:
            raise errors.Refused(grpc.StatusCode.UNIMPLEMENTED, "Method not found!")
        served = handler.stream_stream or handler.unary_stream or handler.stream_unary or handler.unary_unary
        answered: Any = served(_messages(call) if handler.request_streaming else call.request, call)
        if not inspect.isasyncgen(answered):
            return await answered
        messages: AsyncIterator[Any] = answered
        async for message in messages:
            await call.write(message)
        return None


_END = object()


class _Piped(Call):
    """A streaming call behind a foreign interceptor: it reads what that hands on, and writes what that iterates over.

    One answer is under way at a time, so a slow client is felt by the handler.
    """

    __slots__ = ("_messages", "answers")

    def __init__(self, call: Call, request: Any) -> None:
        super().__init__(call.method, b"" if call.request_streaming else request, call)
        self.take_over(call)
        self._messages: AsyncIterator[bytes] | None = request if call.request_streaming else None
        self.answers: asyncio.Queue[Any] = asyncio.Queue(1)

    async def run(self, proceed: Proceed) -> None:
        """Runs the rest of the chain, then ends the answers."""
        try:
            await proceed(self)
        finally:
            await self.answers.put(_END)

    async def read(self) -> Any:
        return grpc.aio.EOF if self._messages is None else await anext(self._messages, grpc.aio.EOF)

    async def write(self, message: bytes) -> None:
        await self.answers.put(message)


@dataclass(frozen=True, slots=True)
class _Details:
    method: str
    invocation_metadata: Any


async def _messages(call: Call) -> AsyncIterator[bytes]:
    while (message := await call.read()) is not grpc.aio.EOF:
        yield message

"""The requests of a call as its handler iterates over them."""

from typing import Any

import grpc
from grpc.aio import EOF


class Requests:
    """The requests of a call, one by one."""

    __slots__ = ("_context",)

    def __init__(self, context: grpc.aio.ServicerContext[Any, Any]) -> None:
        self._context = context

    def __aiter__(self) -> "Requests":
        return self

    async def __anext__(self) -> Any:
        message = await self._context.read()
        if message is EOF:
            raise StopAsyncIteration
        return message

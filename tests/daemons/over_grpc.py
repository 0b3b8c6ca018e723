"""A daemon that serves over gRPC, with the interface of `tests.simulation.daemon.Daemon` that the simulation's clients
use: the same clients, and the same check of what they were told, for real daemons on a real cluster."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, TypeVar

import grpc
from google.protobuf.message import Message

from tests.endpoints.daemons import Daemon
from tests.simulation.daemon import CallError

Response = TypeVar("Response", bound=Message)

SECONDS = 10.0


class RealDaemon:
    """Where clients connect to."""

    def __init__(self, daemon: Daemon) -> None:
        self._daemon = daemon
        self._channels: dict[str, grpc.aio.Channel] = {}

    def channel(self, tenant: str) -> grpc.aio.Channel:
        """The tenant's connection, made when it is used first."""
        if tenant not in self._channels:
            self._channels[tenant] = grpc.aio.secure_channel(
                self._daemon.address,
                self._daemon.credentials(tenant),
                [("grpc.max_reconnect_backoff_ms", 500), ("grpc.initial_reconnect_backoff_ms", 100)],
            )
        return self._channels[tenant]

    async def call(self, tenant: str, method: str, request: Message, response: type[Response]) -> Response:
        """A unary call.

        :raises CallError:
        """
        call = self.channel(tenant).unary_unary(method, type(request).SerializeToString, response.FromString)
        try:
            answer: Response = await call(request, timeout=SECONDS)
        except grpc.aio.AioRpcError as error:
            raise CallError(error.code(), error.details() or "") from error
        return answer

    @asynccontextmanager
    async def stream(self, tenant: str, method: str, response: type[Response]) -> AsyncIterator["RealStream"]:
        """A call on which both sides stream."""
        call = self.channel(tenant).stream_stream(
            method, lambda message: message.SerializeToString(), response.FromString
        )()
        try:
            yield RealStream(call)
        finally:
            call.cancel()

    async def close(self) -> None:
        for channel in self._channels.values():
            await channel.close()


class RealStream:
    """The client's side of a stream."""

    def __init__(self, call: Any) -> None:
        self._call = call
        self._requests: list[Message] = []

    def send(self, request: Message) -> None:
        """Sends a message, before the next one is received."""
        self._requests.append(request)

    async def receive(self) -> Any:
        """The next message.

        :raises CallError: the stream has ended
        """
        try:
            while self._requests:
                await self._call.write(self._requests.pop(0))
            answer = await self._call.read()
        except grpc.aio.AioRpcError as error:
            raise CallError(error.code(), error.details() or "") from error
        except (grpc.aio.UsageError, asyncio.InvalidStateError) as error:
            raise CallError(grpc.StatusCode.UNAVAILABLE, "the stream has ended") from error
        if answer is grpc.aio.EOF:
            raise CallError(grpc.StatusCode.UNAVAILABLE, "the stream has ended")
        return answer

"""The server: ports, handlers, start and stop, as `grpc.aio.Server` has them."""

import asyncio
import enum
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import grpc
from grpc.aio import UsageError

from fetch_transport._credentials import ServerCredentials
from fetch_transport._dispatch import Dispatcher
from fetch_transport._exchange import Application
from fetch_transport._native import Transport
from fetch_transport._settings import Settings

Refused = Callable[[list[tuple[str, str]], int], None]
"""Is told the address of each client and why its handshake failed, and how many more there were than are kept."""


class _State(enum.Enum):
    READY = enum.auto()
    RUNNING = enum.auto()
    STOPPED = enum.auto()


class Server:
    """Serves gRPC calls on the event loop that `start` runs on."""

    def __init__(
        self,
        settings: Settings,
        interceptors: Sequence[grpc.aio.ServerInterceptor],
        maximum_concurrent_rpcs: int | None,
    ) -> None:
        self._settings = settings
        self._interceptors = tuple(interceptors)
        self._maximum_concurrent_rpcs = maximum_concurrent_rpcs
        self._handlers: list[grpc.GenericRpcHandler] = []
        self._transport = Transport(settings)
        self._dispatcher: Dispatcher | None = None
        self._state = _State.READY
        self._application: Application | None = None
        self._needs_application = False
        self._refused: Refused | None = None
        self._terminated = asyncio.Event()
        self._cut_off: asyncio.TimerHandle | None = None

    def add_generic_rpc_handlers(self, generic_rpc_handlers: Iterable[grpc.GenericRpcHandler]) -> None:
        """Adds handlers; the first that knows a method serves it. Before `start`."""
        self._handlers.extend(generic_rpc_handlers)

    def add_insecure_port(self, address: str) -> int:
        """Binds `host:port` at once, every address the host stands for; the port, chosen where 0 is asked for.

        Raises:
            RuntimeError: the address cannot be bound.
        """
        return self._transport.add_port(address, None, False)

    def add_secure_port(self, address: str, server_credentials: ServerCredentials) -> int:
        """Binds an address as `add_insecure_port` does, for TLS with `ssl_server_credentials`.

        Raises:
            RuntimeError: the address cannot be bound.
        """
        return self._transport.add_port(address, server_credentials, False)

    def add_http_port(self, address: str, server_credentials: ServerCredentials | None = None) -> int:
        """Binds an address as `add_insecure_port` does, for the application alone, which gets what says it is gRPC too.

        With TLS where credentials are given.

        Raises:
            RuntimeError: the address cannot be bound.
        """
        self._needs_application = True
        return self._transport.add_port(address, server_credentials, True)

    def set_http_application(self, application: Application) -> None:
        """Has an ASGI 3 application answer what is not gRPC, on every port: HTTP/1.1, and HTTP/2 of other content.

        Its scopes are of type `http` (there is no `lifespan`), and have ASGI's extension `tls` where there is TLS.
        Before `start`; without one HTTP/1.1 is not spoken, and other content is answered with status 415.
        """
        self._application = application

    def on_refused_handshakes(self, refused: Refused) -> None:
        """Calls back on the loop when handshakes of TLS have failed. Before `start`.

        Those whose clients have just gone are not among them.
        """
        self._refused = refused

    def _take_refusals(self) -> None:
        refusals, besides = self._transport.take_refusals()
        if self._refused is not None:
            self._refused(refusals, besides)

    async def start(self) -> None:
        """Begins to serve.

        Raises:
            UsageError: the server has been stopped.
        """
        if self._state is _State.RUNNING:
            return
        if self._state is _State.STOPPED:
            raise UsageError("Server not in ready state")
        if self._needs_application and self._application is None:
            raise UsageError("A port for HTTP alone needs an application")
        self._state = _State.RUNNING
        self._dispatcher = Dispatcher(
            asyncio.get_running_loop(),
            self._transport,
            self._handlers,
            self._interceptors,
            self._application,
            max_send_message_length=self._settings.max_send_message_length,
            maximum_concurrent_rpcs=self._maximum_concurrent_rpcs,
        )
        if self._refused is not None:
            asyncio.get_running_loop().add_reader(self._transport.refusals_fileno(), self._take_refusals)
        self._transport.start(self._application is not None)

    async def stop(self, grace: float | None) -> None:
        """Takes no more calls, lets those that go on end within `grace` seconds, and cuts off the rest.

        May be called again, also while it runs; the shortest grace counts. None is none.
        """
        if self._dispatcher is None:
            self._state = _State.STOPPED
            self._terminated.set()
            return
        loop = asyncio.get_running_loop()
        self._state = _State.STOPPED
        if not grace:
            self._transport.cancel()
        else:
            if self._cut_off is None:
                self._transport.drain()
            end = loop.time() + grace
            if self._cut_off is None or end < self._cut_off.when():
                self._cancel_timer()
                self._cut_off = loop.call_at(end, self._transport.cancel)
        await self._dispatcher.wait_for_end()
        loop.remove_reader(self._transport.refusals_fileno())
        self._cancel_timer()
        self._terminated.set()

    def _cancel_timer(self) -> None:
        if self._cut_off is not None:
            self._cut_off.cancel()

    async def wait_for_termination(self, timeout: float | None = None) -> bool:  # noqa: ASYNC109  # grpcio's signature
        """Waits until the server has stopped; True if `timeout` seconds were not enough for that."""
        try:
            async with asyncio.timeout(timeout):
                await self._terminated.wait()
        except TimeoutError:
            return True
        return False


def server(
    interceptors: Sequence[grpc.aio.ServerInterceptor] | None = None,
    options: Iterable[tuple[str, Any]] | None = None,
    maximum_concurrent_rpcs: int | None = None,
) -> Server:
    """A server as `grpc.aio.server` makes one.

    Args:
        interceptors: asked in order for the handler of each call.
        options: grpcio's channel arguments; `Settings` tells which ones count, the others are passed over.
        maximum_concurrent_rpcs: calls whose handlers may be waiting at once; more are RESOURCE_EXHAUSTED.
    """
    return Server(Settings.from_options(options or ()), interceptors or (), maximum_concurrent_rpcs)

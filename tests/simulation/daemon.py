"""A daemon of fetch on the simulated cluster, and the calls that clients make of it: all of fetch but the network.

Services, engine and store are the real ones. A call's messages go to its handler as they would behind a gRPC server;
the tenant is the one that the caller names, since there are no certificates.
"""

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from contextlib import asynccontextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, TypeVar

import grpc
from google.protobuf.message import Message

from fetch import chain
from fetch.chain import Call, Link, Proceed, Setup
from fetch.chain.serving import Serving
from fetch.config import Settings
from fetch.engine.mutations import apply
from fetch.engine.protocol import Tenants as GivesEngines
from fetch.engine.retention import Retention
from fetch.engine.served import ServedTime
from fetch.engine.tenants import Tenants
from fetch.peers.channels import Channel
from fetch.peers.daemons import Peers, SharedTenants, Writers
from fetch.peers.members import Members
from fetch.services.kv import KV
from fetch.services.lease import Lease
from fetch.services.maintenance import Maintenance
from fetch.services.streams import Streams
from fetch.services.watch import Watch
from fetch.stores.foundationdb.store import FoundationDBStore
from fetch.tenants.clearing import Clearing
from fetch.tenants.following import Following
from fetch.tenants.register import Register
from fetch.tenants.upkeep import Upkeep
from interceptors.classification import Classification
from tests.engine.engines import operation_chain
from tests.simulation.binding import SimulatedBinding
from tests.simulation.cluster import Cluster
from tests.simulation.network import Network

Response = TypeVar("Response", bound=Message)

SETTINGS = Settings(
    listen_client_urls=("http://127.0.0.1:2379",), anonymous_tenant="nobody", watch_progress_notify_interval=2.0
)
_OWNER: ContextVar["Daemon | None"] = ContextVar("owner", default=None)


class CallError(Exception):
    """A call that ended with another status than OK."""

    def __init__(self, code: grpc.StatusCode, details: str) -> None:
        super().__init__(f"{code.name}: {details}")
        self.code = code
        self.details = details


@dataclass(frozen=True, slots=True)
class Machine:
    """Where daemons run: they share its monotonic clock, which began when it was switched on."""

    identity: bytes
    running: float

    def monotonic(self) -> float:
        """Seconds since it was switched on."""
        return self.running + time.monotonic()


class Daemon:
    """One process. Whatever runs in it ends with it."""

    def __init__(
        self,
        name: str,
        cluster: Cluster,
        machine: "Machine",
        retention: Retention | None = None,
        network: Network | None = None,
    ) -> None:
        """`network` is between it and its peers; None: it has none that it knows of."""
        self.name = name
        self._retention = retention
        self.machine = machine
        self.network = network
        self.peers: Peers | None = None
        self.alive = True
        self.binding = SimulatedBinding(cluster)
        self._tasks: set[asyncio.Task[Any]] = set()
        self._streams = Streams()
        self._handlers: Mapping[str, grpc.RpcMethodHandler] = {}
        self._contexts: set[_Context] = set()

    async def start(self) -> None:
        """Starts to serve. Everything that is started in here belongs to the daemon: see `task_factory`."""
        _OWNER.set(self)
        self.store = FoundationDBStore(self.binding)  # type: ignore[arg-type]  # the model of the binding
        served = ServedTime(self.store, self.machine.monotonic, time.time, self.machine.identity)
        self.writers = self._writers(served)
        self.tenants = Tenants(
            self.store,
            0,
            None,
            chain.compose(operation_chain(), apply),
            lambda *_: None,
            served=served,
            claim=None if self.writers is None else self.writers.of,
        )
        self.tenants.retention = self._retention
        shared: GivesEngines = self.tenants
        if self.writers is not None and self.network is not None:
            self.peers = Peers(self.tenants, self.writers, lambda _: None)
            shared = SharedTenants(self.tenants, self.writers, traces=True)
            self.network.listen(self.name, self._accept)
        links = [
            Link("tenant", "tests", _Tenant(shared)),
            Link("classification", "tests", Classification(Setup({}, SETTINGS))),
        ]
        services = (KV(SETTINGS), Watch(SETTINGS, self._streams), Lease(self._streams), Maintenance(SETTINGS))
        self._handlers = {
            f"/{service.name}/{name}": chain.wrap(f"/{service.name}/{name}", handler, links)
            for service in services
            for name, handler in service.handlers().items()
        }
        self.register = Register(self.store, self.tenants.served)
        self.tenants.admit = self.register.admit
        following = Following(self.store, self.register, self.tenants, self.machine.monotonic)
        clearing = Clearing(self.store, self.register, self.tenants.served, self.machine.monotonic)
        self._upkeep = Upkeep(following, clearing, lambda _: None)
        self.tenants.start()
        self._upkeep.start()
        if self.peers is not None:
            self.peers.start()

    def _writers(self, served: ServedTime) -> Writers | None:
        network = self.network
        if network is None:
            return None
        members = Members(self.store, self.name, [f"http://{self.name}:2379"], [self.name])
        return Writers(members, served.now, lambda url: network.connect(self.name, url))

    def _accept(self, channel: Channel) -> None:
        """Begins to serve a peer, in a task of this daemon."""
        assert self.peers is not None
        token = _OWNER.set(self)
        try:
            asyncio.get_running_loop().create_task(self.peers.host.serve(channel))
        finally:
            _OWNER.reset(token)

    def own(self, task: asyncio.Task[Any]) -> None:
        """Takes a task for the daemon's own."""
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def kill(self) -> None:
        """Ends everything at once. What has been sent to the cluster may still be carried out."""
        self.alive = False
        self.binding.cut_off = True
        for context in list(self._contexts):
            context.hang_up()
        if self.network is not None:
            self.network.vanish(self.name)
        for task in list(self._tasks):
            task.cancel()

    async def stop(self) -> None:
        """Ends in order."""
        self._streams.stop()
        if self.peers is not None:
            await self.peers.leave()
        await self._upkeep.close()
        await self.tenants.close()
        await self.store.close()
        self.kill()

    async def call(self, tenant: str, method: str, request: Message, response: type[Response]) -> Response:
        """A unary call.

        :raises CallError:
        """
        handler = self._handlers[method]
        context = _Context(tenant)
        answer = await self._run(context, lambda: handler.unary_unary(request.SerializeToString(), context))
        return response.FromString(answer)

    @asynccontextmanager
    async def stream(self, tenant: str, method: str, response: type[Response]) -> AsyncIterator["Stream[Response]"]:
        """A call on which both sides stream."""
        context = _Context(tenant)
        handler = self._handlers[method]
        serving = asyncio.ensure_future(self._run(context, lambda: handler.stream_stream(None, context)))
        try:
            yield Stream(context, serving, response)
        finally:
            context.hang_up()
            serving.cancel()
            await asyncio.wait([serving])

    async def _run(self, context: "_Context", serve: Callable[[], Coroutine[Any, Any, Any]]) -> Any:
        """Runs a handler in the daemon, and waits for it outside."""
        if not self.alive:
            raise CallError(grpc.StatusCode.UNAVAILABLE, "connection refused")
        token = _OWNER.set(self)
        try:
            task = asyncio.get_running_loop().create_task(serve())
        finally:
            _OWNER.reset(token)
        context.task = task
        self._contexts.add(context)
        try:
            return await asyncio.shield(task)
        except _Aborted as aborted:
            raise CallError(aborted.code, aborted.details) from None
        except asyncio.CancelledError:
            if task.cancelled() and not self.alive:
                raise CallError(grpc.StatusCode.UNAVAILABLE, "connection reset") from None
            task.cancel()
            raise
        finally:
            self._contexts.discard(context)
            context.ended()


def task_factory(loop: asyncio.AbstractEventLoop, coroutine: Coroutine[Any, Any, Any], **options: Any) -> Any:
    """Makes tasks that belong to the daemon whose code makes them."""
    task = asyncio.Task(coroutine, loop=loop, **options)
    owner = _OWNER.get()
    if owner is not None:
        owner.own(task)
    return task


class Stream:
    """The client's side of a stream: it is read at the client's pace, one message under way."""

    def __init__(self, context: "_Context", serving: "asyncio.Future[Any]", response: type[Response]) -> None:
        self._context = context
        self._serving = serving
        self._response = response

    def __class_getitem__(cls, _: Any) -> Any:
        return cls

    def send(self, request: Message) -> None:
        """Sends a message."""
        self._context.requests.append(request.SerializeToString())
        self._context.wake()

    async def receive(self) -> Any:
        """The next message.

        :raises CallError: the stream has ended
        """
        while not self._context.answers:
            if self._serving.done():
                self._serving.result()
                raise CallError(grpc.StatusCode.UNAVAILABLE, "the stream has ended")
            self._context.changed = asyncio.get_running_loop().create_future()
            await asyncio.wait([self._context.changed, self._serving], return_when=asyncio.FIRST_COMPLETED)
        message = self._context.answers.popleft()
        self._context.wake()
        return self._response.FromString(message)


class _Aborted(grpc.aio.AbortError):  # type: ignore[misc]  # grpcio's class is untyped
    def __init__(self, code: grpc.StatusCode, details: str) -> None:
        super().__init__(details)
        self.code, self.details = code, details


class _Context:
    """What a handler sees of its call, of grpcio's interface as much as fetch uses."""

    def __init__(self, tenant: str) -> None:
        self.tenant = tenant
        self.requests: deque[bytes] = deque()
        self.answers: deque[bytes] = deque()
        self.changed: asyncio.Future[None] | None = None
        self.task: asyncio.Task[Any] | None = None
        self._waiting: list[asyncio.Future[None]] = []
        self._callbacks: list[Any] = []
        self._hung_up = False
        self._done = False

    def wake(self) -> None:
        waiting, self._waiting = self._waiting, []
        for waiter in waiting:
            if not waiter.done():
                waiter.set_result(None)

    def hang_up(self) -> None:
        self._hung_up = True
        if self.task is not None:
            self.task.cancel()
        self.wake()

    def ended(self) -> None:
        self._done = True
        for callback in self._callbacks:
            callback(self)

    async def read(self) -> Any:
        while not self.requests:
            if self._hung_up:
                return grpc.aio.EOF
            await self._wait()
        return self.requests.popleft()

    async def write(self, message: bytes) -> None:
        while self.answers and not self._hung_up:
            await self._wait()
        self.answers.append(message)
        if self.changed is not None and not self.changed.done():
            self.changed.set_result(None)

    async def _wait(self) -> None:
        waiter = asyncio.get_running_loop().create_future()
        self._waiting.append(waiter)
        await waiter

    async def abort(self, code: grpc.StatusCode, details: str = "", trailing_metadata: Any = ()) -> None:
        raise _Aborted(code, details)

    def add_done_callback(self, callback: Any) -> None:
        self._callbacks.append(callback)

    def invocation_metadata(self) -> Any:
        return ()

    def auth_context(self) -> Any:
        return {}

    def peer(self) -> str:
        return "simulated"

    def cancelled(self) -> bool:
        return self._hung_up

    def done(self) -> bool:
        return self._done

    def time_remaining(self) -> None:
        return None


class _Tenant:
    """Sets the call's tenant, as authorization does."""

    def __init__(self, tenants: GivesEngines) -> None:
        self._serving = Serving(tenants)

    async def intercept(self, call: Call, proceed: Proceed) -> Any:
        call.tenant = await self._serving.open(call.context.tenant)
        return await self._serving.serve(call, proceed)

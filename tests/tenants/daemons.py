"""Daemons on one store, with its register of tenants, and no server: what the tests in this folder look at."""

import random
from collections.abc import AsyncIterator, Awaitable, Callable, Collection
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fetch import chain
from fetch.api.rpc_pb2 import PutRequest
from fetch.engine.engine import StoredEngine
from fetch.engine.mutations import apply
from fetch.engine.tenants import Tenants
from fetch.stores.embedded.store import LmdbStore
from fetch.stores.foundationdb.store import FoundationDBStore
from fetch.stores.protocol import Store
from fetch.tenants.clearing import Clearing
from fetch.tenants.following import Following
from fetch.tenants.register import Register
from tests.engine.clocks import Clock
from tests.engine.engines import operation_chain
from tests.engine.suspending import SuspendingStore
from tests.simulation.binding import SimulatedBinding
from tests.simulation.cluster import Cluster


@dataclass(slots=True)
class Daemon:
    """One daemon. Nothing of it runs in the background."""

    store: Store
    clock: Clock
    tenants: Tenants
    register: Register
    following: Following
    clearing: Clearing
    ended: list[tuple[Any, type[Exception]]] = field(default_factory=list)

    async def put(self, name: str, key: bytes = b"a", value: bytes = b"") -> int:
        """Puts a key as the tenant does; its revision."""
        engine = await self.tenants.open(name)
        return await put(engine, key, value)

    async def value(self, name: str, key: bytes = b"a") -> bytes | None:
        return (await (await self.tenants.open(name)).get_latest(key)).current

    async def clear(self) -> None:
        """Clears all there is to clear, if it is this daemon that does."""
        while await self.clearing._is_mine() and (left := await self.clearing._next()) is not None:
            await self.clearing.step(*left)


async def put(engine: StoredEngine, key: bytes = b"a", value: bytes = b"") -> int:
    return (await engine.put(PutRequest(key=key, value=value))).header.revision


@dataclass(slots=True)
class Site:
    """A store, and the daemons on it."""

    clock: Clock
    open_store: Callable[[], Awaitable[Store]]
    daemons: list[Daemon] = field(default_factory=list)

    async def daemon(
        self,
        administrators: Collection[str] = (),
        allowed: Collection[str] | None = None,
        *,
        makes_unknown: bool = True,
    ) -> Daemon:
        """Another daemon."""
        store, clock = await self.open_store(), self.clock
        mutate = chain.compose(operation_chain(), apply)
        tenants = Tenants(store, 0, allowed, mutate, lambda *_: None, served=clock.served(store))
        register = Register(
            store, tenants.served, administrators, allowed, makes_unknown=makes_unknown, wall=clock.wall
        )
        tenants.admit = register.admit
        following = Following(store, register, tenants, lambda: clock.monotonic)
        clearing = Clearing(store, register, tenants.served, lambda: clock.monotonic)
        made = Daemon(store, clock, tenants, register, following, clearing)
        tenants.when_ended(lambda engine, error: made.ended.append((engine, error)))
        await tenants.served.begin()
        self.daemons.append(made)
        return made

    async def pass_by(self, seconds: float) -> None:
        """Lets time pass, during which the daemons serve."""
        self.clock.monotonic += seconds - 1
        await self.clock.pass_by(1, *(daemon.tenants.served for daemon in self.daemons))


@asynccontextmanager
async def site(kind: str, directory: Path) -> AsyncIterator[Site]:
    """A store of a kind, `embedded` or `simulated`."""
    opened: list[Store] = []
    if kind == "embedded":
        embedded = LmdbStore(directory)
        opened.append(embedded)

        async def open_store() -> Store:
            return SuspendingStore(embedded)
    else:
        cluster = Cluster(random.Random(1))

        async def open_store() -> Store:
            opened.append(FoundationDBStore(SimulatedBinding(cluster)))
            return opened[-1]

    here = Site(Clock(), open_store)
    try:
        yield here
    finally:
        for daemon in here.daemons:
            await daemon.tenants.close()
        for store in opened:
            await store.close()

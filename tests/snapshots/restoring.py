"""Tenants on either store, without a server, that snapshots are restored into."""

import random
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from fetch import chain
from fetch.engine.engine import StoredEngine
from fetch.engine.mutations import apply
from fetch.engine.tenants import Tenants
from fetch.snapshots.reader import FileReader
from fetch.snapshots.restoring import Restored, restore
from fetch.stores.embedded.store import LmdbStore
from fetch.stores.foundationdb.store import FoundationDBStore
from fetch.stores.protocol import Store, StoreUnavailable
from fetch.stores.transaction import Transaction
from tests.engine.engines import operation_chain
from tests.simulation.binding import SimulatedBinding
from tests.simulation.cluster import Cluster, Faults

T = TypeVar("T")

STORES = ("embedded", "simulated")
_FAULTS = Faults(least_delay=0.00001, most_delay=0.0001, conflict=0.02, unknown_done=0.02, unknown_not_done=0.02)


class Failing:
    """A store over another one, which counts transactions. Those from the `last` one on fail."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self.transactions = 0
        self.last: int | None = None
        self.before: Callable[[int], Awaitable[None]] | None = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    async def transact(self, body: Callable[[Transaction], Awaitable[T]]) -> T:
        self.transactions += 1
        if self.before is not None:
            await self.before(self.transactions)
        if self.last is not None and self.transactions > self.last:
            raise StoreUnavailable("as the test wants it")
        return await self._store.transact(body)


@dataclass(frozen=True, slots=True)
class Daemon:
    """The engines over a store; `again` are those of another daemon on the same one."""

    store: Failing
    tenants: Tenants

    async def open(self, tenant: str = "alpha") -> StoredEngine:
        return await self.tenants.open(tenant)


@asynccontextmanager
async def daemons(kind: str, directory: Path, count: int = 1) -> AsyncIterator[list[Daemon]]:
    """Daemons that share a store, which is a cluster in memory or lies in a directory."""
    if kind == "embedded":
        store: Store = LmdbStore(directory)
    else:
        store = FoundationDBStore(SimulatedBinding(Cluster(random.Random(1), _FAULTS)))  # type: ignore[arg-type]
    opened = [Failing(store) for _ in range(count)]
    running = [
        Daemon(it, Tenants(it, 0, None, chain.compose(operation_chain(), apply), lambda *_: None))  # type: ignore[arg-type]
        for it in opened
    ]
    try:
        yield running
    finally:
        for daemon in running:
            daemon.store.last = None
            await daemon.tenants.close()
        await store.close()


async def restored(engine: StoredEngine, path: Path, bump: int = 0) -> Restored:
    """Restores from a file."""
    with FileReader(path) as file:
        return await restore(engine, file, lambda *_: None, bump)

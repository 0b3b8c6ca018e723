"""The tenants of a daemon: one storage engine each, opened at first use."""

import asyncio
from collections.abc import Collection, Iterable

from fetch.engine.batch import Mutate, Report
from fetch.engine.engine import StorageEngine
from fetch.engine.lease import Reaper
from fetch.engine.turns import Turns
from fetch.stores.protocol import Store


class UnknownTenant(Exception):
    """The configuration lists the tenants, and this is none of them."""


class Tenants:
    """Opens and keeps engines, and runs what all of them share: the reaper of leases."""

    def __init__(
        self,
        store: Store,
        quota: int,
        allowed: Collection[str] | None,
        mutate: Mutate,
        report: Report,
    ) -> None:
        """`quota` in bytes for each tenant, 0 for none; `allowed` None: a tenant is created at its first use."""
        self.store = store
        self._quota = quota
        self._allowed = allowed
        self._mutate = mutate
        self._report = report
        self._turns = Turns()
        self._open: dict[str, StorageEngine] = {}
        self._opening: dict[str, asyncio.Task[StorageEngine]] = {}
        self._reaper = Reaper(store, self._expire)
        self._reaping: asyncio.Task[None] | None = None

    def get(self, name: str) -> StorageEngine | None:
        """The engine of a tenant that has been opened before."""
        return self._open.get(name)

    def engines(self) -> Iterable[StorageEngine]:
        """The engines of all tenants that have been opened."""
        return list(self._open.values())

    async def open(self, name: str) -> StorageEngine:
        """The engine of a tenant.

        :raises UnknownTenant: it is not among the tenants that the configuration lists
        :raises StoreUnavailable: its directory cannot be opened now
        """
        if self._allowed is not None and name not in self._allowed:
            raise UnknownTenant(name)
        return await self._engine(name)

    def start(self) -> None:
        """Starts to expire leases."""
        self._reaping = asyncio.create_task(self._reaper.run())

    async def close(self) -> None:
        """Ends what runs in the background and waits for the writes under way."""
        if self._reaping is not None:
            self._reaping.cancel()
        await asyncio.gather(*(engine.close() for engine in self._open.values()))

    async def _engine(self, name: str) -> StorageEngine:
        if (engine := self._open.get(name)) is not None:
            return engine
        task = self._opening.get(name)
        if task is None:
            task = self._opening[name] = asyncio.create_task(self._create(name))
            task.add_done_callback(lambda _: self._opening.pop(name, None))
        return await asyncio.shield(task)

    async def _create(self, name: str) -> StorageEngine:
        prefix = await self.store.open_tenant(name)
        engine = StorageEngine(
            name, self.store, prefix, self._quota, self._mutate, self._report, self._reaper.granted, self._turns
        )
        await engine.resume()
        self._open[name] = engine
        return engine

    async def _expire(self, tenant: str, lease: int, expires: int) -> None:
        engine = await self._engine(tenant)
        await engine.expire_lease(lease, expires)

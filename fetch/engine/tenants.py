"""The tenants of a daemon: one storage engine each, opened at first use."""

import asyncio
import functools
from collections.abc import Awaitable, Callable, Collection, Iterable, Sequence

from fetch.engine import background, retention
from fetch.engine.alarms import MEMBER_ID
from fetch.engine.background import Failed
from fetch.engine.batch import Mutate, Report
from fetch.engine.engine import MOST_RESPONSE_BYTES, StoredEngine
from fetch.engine.format import Format
from fetch.engine.lease import Due
from fetch.engine.protocol import UnknownTenant
from fetch.engine.reaper import TASK, Reaper
from fetch.engine.served import ServedTime
from fetch.engine.turns import Turns
from fetch.engine.writer import Claim
from fetch.stores.protocol import Store


class Tenants:
    """Opens and keeps engines, and runs what all of them share: the time that is served, the reaper of leases."""

    def __init__(
        self,
        store: Store,
        quota: int,
        allowed: Collection[str] | None,
        mutate: Mutate,
        report: Report,
        failed: Failed = lambda _: None,
        served: ServedTime | None = None,
        claim: Callable[[str], Claim] | None = None,
    ) -> None:
        """`quota` in bytes for each tenant, 0 for none; `allowed` None: a tenant is created at its first use.

        `failed` is told of each failure of what runs in the background; `served` is the time, unless it is its own;
        `claim` gives each tenant's writer its claim.
        """
        self.store = store
        self._quota = quota
        self._allowed = allowed
        self._mutate = mutate
        self._report = report
        self._claim = claim
        self._turns = Turns()
        self.most_response_bytes = MOST_RESPONSE_BYTES
        self.member_id = MEMBER_ID
        self.retention: retention.Retention | None = None
        self._open: dict[str, StoredEngine] = {}
        self._opening: dict[str, asyncio.Task[StoredEngine]] = {}
        self.format = Format(store)
        self.served = served or ServedTime(store)
        self._failed = failed
        self.reaper = Reaper(store, self.served, self._expire, failed)
        self._background: list[asyncio.Task[None]] = []

    def get(self, name: str) -> StoredEngine | None:
        """The engine of a tenant that has been opened before."""
        return self._open.get(name)

    def engines(self) -> Iterable[StoredEngine]:
        """The engines of all tenants that have been opened."""
        return list(self._open.values())

    async def open(self, name: str) -> StoredEngine:
        """The engine of a tenant.

        :raises UnknownTenant: it is not among the tenants that the configuration lists
        :raises StoreUnavailable: its directory cannot be opened now
        """
        if self._allowed is not None and name not in self._allowed:
            raise UnknownTenant(name)
        return await self._engine(name)

    def start(self) -> None:
        """Starts to count the time that is served, to expire leases, and to compact if there is a retention."""
        self._background = [
            background.start("time served", self._in_known_format(self.served.run), self._failed),
            background.start(TASK, self._in_known_format(self.reaper.run), self._failed),
        ]
        if (kept := self.retention) is not None:
            run = functools.partial(retention.run, self.engines, kept, self._failed)
            self._background.append(background.start(retention.TASK, run, self._failed))

    def _in_known_format(self, run: Callable[[], Awaitable[None]]) -> Callable[[], Awaitable[None]]:
        """Runs once it is known that what is stored can be read: nothing is written before."""

        async def settled() -> None:
            await self.format.require()
            await run()

        return settled

    async def close(self) -> None:
        """Ends what runs in the background and waits for the writes under way."""
        for task in self._background:
            task.cancel()
        if self._background:
            await asyncio.wait(self._background)
        await asyncio.gather(*(engine.close() for engine in self._open.values()))

    async def _engine(self, name: str) -> StoredEngine:
        if (engine := self._open.get(name)) is not None:
            return engine
        task = self._opening.get(name)
        if task is None:
            task = self._opening[name] = asyncio.create_task(self._create(name))
            task.add_done_callback(lambda _: self._opening.pop(name, None))
        return await asyncio.shield(task)

    async def _create(self, name: str) -> StoredEngine:
        await self.format.require()
        prefix = await self.store.open_tenant(name)
        await self.served.begin()
        engine = StoredEngine(
            name,
            self.store,
            prefix,
            self._quota,
            self._mutate,
            self._report,
            self.reaper.granted,
            self._turns,
            self.served,
            self._failed,
            None if self._claim is None else self._claim(name),
        )
        engine.most_response_bytes = self.most_response_bytes
        engine.member_id = self.member_id
        await engine.resume()
        self._open[name] = engine
        return engine

    async def _expire(self, tenant: str, due: Sequence[Due]) -> int:
        engine = await self._engine(tenant)
        return await engine.expire_leases(due)

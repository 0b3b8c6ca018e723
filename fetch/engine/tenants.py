"""The tenants of a daemon: one storage engine each, opened at first use.

Who may be served, and by what name the store knows a tenant, is decided by whoever keeps their records (`Admit`); what
changes of that comes by `settle`. A tenant that is no longer served is forgotten here and its calls are ended, but that
is for promptness alone: what it may not do any more is refused where it is stored (`layout.Closed`).
"""

import asyncio
import functools
from collections.abc import Awaitable, Callable, Collection, Iterable, Sequence
from dataclasses import dataclass

from fetch import errors
from fetch.engine import background, retention
from fetch.engine.alarms import MEMBER_ID
from fetch.engine.background import Failed
from fetch.engine.batch import Mutate, Report
from fetch.engine.claim import Claim
from fetch.engine.engine import MOST_RESPONSE_BYTES, StoredEngine
from fetch.engine.format import Format
from fetch.engine.lease import Due
from fetch.engine.protocol import Ended, UnknownTenant
from fetch.engine.reaper import TASK, Reaper
from fetch.engine.served import ServedTime
from fetch.engine.turns import Turns
from fetch.stores.protocol import Store


@dataclass(frozen=True, slots=True)
class Admitted:
    """A tenant that may be served: what the store calls it, and the bytes that it may store (0: no bound; None: as
    many as any)."""

    keyspace: str
    quota: int | None = None


Admit = Callable[[str], Awaitable[Admitted]]
"""Tells how a tenant is served, or raises UnknownTenant or TenantClosed."""


async def admit_all(name: str) -> Admitted:
    """Admits every tenant, by its own name."""
    return Admitted(name)


def name_of(keyspace: str) -> str:
    """The name of the tenant that a keyspace is, or was."""
    return keyspace.partition("#")[0]


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
        self.admit: Admit = admit_all
        self.turns = Turns()
        self.most_response_bytes = MOST_RESPONSE_BYTES
        self.used: set[str] = set()
        """The tenants that have been asked for, until whoever notes that empties it."""
        self._quota = quota
        self._allowed = allowed
        self._mutate = mutate
        self._report = report
        self._claim = claim
        self.member_id = MEMBER_ID
        self.retention: retention.Retention | None = None
        # by name those that are served, by keyspace also those whose leases alone run out here
        self._open: dict[str, StoredEngine] = {}
        self._engines: dict[str, StoredEngine] = {}
        self._opening: dict[str, asyncio.Task[StoredEngine]] = {}
        self.format = Format(store)
        self._making: dict[str, asyncio.Task[StoredEngine]] = {}
        self._closing: dict[str, asyncio.Task[None]] = {}
        self._ended: Ended = lambda _engine, _error: None
        self.served = served or ServedTime(store)
        self._failed = failed
        self.reaper = Reaper(store, self.served, self._expire, failed)
        self._background: list[asyncio.Task[None]] = []

    def get(self, name: str) -> StoredEngine | None:
        """The engine of a tenant that has been opened before."""
        self.used.add(name)
        return self._open.get(name)

    def engines(self) -> Iterable[StoredEngine]:
        """The engines of all tenants that have been opened."""
        return list(self._open.values())

    async def open(self, name: str) -> StoredEngine:
        """The engine of a tenant.

        :raises UnknownTenant: it is not among the tenants that there may be
        :raises TenantClosed: it is not served
        :raises StoreUnavailable: its directory cannot be opened now
        """
        if self._allowed is not None and name not in self._allowed:
            raise UnknownTenant(name)
        if (engine := self._open.get(name)) is not None:
            return engine
        return await _once(self._opening, name, lambda: self._let_in(name))

    def when_ended(self, ended: Ended) -> None:
        """Has someone told of each engine that serves no longer, and why."""
        self._ended = ended

    async def opened(self, name: str) -> None:
        """Returns when the tenant is not being opened: what has been decided on before is in effect then."""
        if (opening := self._opening.get(name)) is not None:
            await asyncio.wait([opening])

    def settle(self, name: str, admitted: Admitted | type[errors.TenantClosed]) -> None:
        """Puts into effect how a tenant is served from now on, if it is open. To be called when it is `opened`."""
        engine = self._open.get(name)
        if engine is None:
            return
        if isinstance(admitted, Admitted) and admitted.keyspace == engine.keyspace:
            engine.quota = self._quota if admitted.quota is None else admitted.quota
            return
        del self._open[name]
        self._engines.pop(engine.keyspace, None)
        error = errors.TenantDeleted if isinstance(admitted, Admitted) else admitted
        self._ended(engine, error)
        closing = self._closing[engine.keyspace] = asyncio.create_task(engine.retire(error))
        closing.add_done_callback(lambda _: self._closing.pop(engine.keyspace, None))

    def is_open(self, name: str) -> bool:
        """Whether the tenant is served here."""
        return name in self._open

    def watches(self, name: str) -> int:
        """How many watches the tenant has here."""
        engine = self._open.get(name)
        return 0 if engine is None else engine.watches.watchers

    def open_names(self) -> list[str]:
        """The names of all tenants that are open or being opened."""
        return [*self._open, *self._opening]

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
        await asyncio.gather(*(engine.close() for engine in self._engines.values()), *self._closing.values())

    async def _let_in(self, name: str) -> StoredEngine:
        admitted = await self.admit(name)
        engine = await self._engine(admitted.keyspace)
        engine.quota = self._quota if admitted.quota is None else admitted.quota
        await engine.resume()
        self._open[name] = engine
        return engine

    async def _engine(self, keyspace: str) -> StoredEngine:
        """The one engine that this daemon has on a keyspace: its watches are told of what its own writer commits."""
        if (engine := self._engines.get(keyspace)) is not None:
            return engine
        return await _once(self._making, keyspace, lambda: self._make(keyspace))

    async def _make(self, keyspace: str) -> StoredEngine:
        await self.format.require()
        if (closing := self._closing.get(keyspace)) is not None:
            await asyncio.wait([closing])
        prefix = await self.store.open_tenant(keyspace)
        await self.served.begin()
        engine = StoredEngine(
            name_of(keyspace),
            self.store,
            prefix,
            self._quota,
            self._mutate,
            self._report,
            self.reaper.granted,
            self.turns,
            self.served,
            self._failed,
            None if self._claim is None else self._claim(name_of(keyspace)),
            keyspace,
        )
        engine.most_response_bytes = self.most_response_bytes
        engine.member_id = self.member_id
        self._engines[keyspace] = engine
        return engine

    async def _expire(self, keyspace: str, due: Sequence[Due]) -> int:
        engine = await self._engine(keyspace)
        return await engine.expire_leases(due)


async def _once(
    running: dict[str, "asyncio.Task[StoredEngine]"], name: str, make: Callable[[], Awaitable[StoredEngine]]
) -> StoredEngine:
    """What is made under a name, by whoever comes first."""
    task = running.get(name)
    if task is None:

        async def run() -> StoredEngine:
            return await make()

        task = running[name] = asyncio.create_task(run())
        task.add_done_callback(lambda _: running.pop(name, None))
    return await asyncio.shield(task)

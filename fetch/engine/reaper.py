"""Expires the leases of all tenants, whoever granted them, from the one queue of expiries.

Every daemon runs a reaper. Two may find the same lease; the transaction lets the first expire it. A reaper wakes at
the expiry that it knows to be the next, at a lease granted through its daemon, and every few seconds for what others
grant.

A round walks a bounded stretch of the queue and hands each tenant what it has there, to be expired in batches of
bounded size, between which the tenant's other writes are served. Tenants are expired side by side. One that fails, or
takes too long, is passed over until its next try; its leases stay where they are in the queue, and the walk goes on
behind them. What is kept in memory is bounded by the tenants under way and those that have failed.
"""

import asyncio
import logging
from collections import defaultdict
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field

from fetch import errors
from fetch.engine.background import Failed, Pauses, is_cancelled, report
from fetch.engine.layout import expiries, unpack_expiry
from fetch.engine.lease import Due, Grant
from fetch.engine.served import ServedTime
from fetch.stores.protocol import Store, StoreUnavailable

LONGEST_SLEEP = 5.0
_RETRY_SECONDS = 0.25
_LONGEST_SECONDS = 10.0
_PLACES = 32
_MOST_OF_A_TENANT = 1024
_MOST_ROWS = 2048
_PAGE = 256
# the walk over leases that cannot be expired now costs 7 µs a row: it takes up a seventh of a processor at most
_SECONDS_PER_ROW_IN_VAIN = 50e-6

TASK = "expiry of leases"

logger = logging.getLogger(__name__)

Expire = Callable[[str, Sequence[Due]], Awaitable[int]]
"""Expires leases of a tenant that are due, in its next batch: at least one, from the first on; how many."""


class LeftToWriter(Exception):
    """Another daemon writes for the tenant, and will expire its leases."""


@dataclass(slots=True)
class _Failing:
    """A tenant whose leases could not be expired, and when to try again."""

    until: float = 0.0
    pauses: Pauses = field(default_factory=Pauses)


class Reaper:
    """What expires leases in a daemon."""

    def __init__(self, store: Store, served: ServedTime, expire: Expire, failed: Failed) -> None:
        """`failed` counts tenants' failures."""
        self._store = store
        self._served = served
        self._expire = expire
        self._failed = failed
        self._sooner = asyncio.Event()
        self._wakes = 0.0
        self._position = b""
        self._busy: dict[str, asyncio.Task[None]] = {}
        self._failing: dict[str, _Failing] = {}
        # tenants that failed and still had something due in the round's walk so far
        self._met: set[str] = set()

    def granted(self, grant: Grant) -> None:
        """Tells the reaper of a lease, so that it wakes in time."""
        if asyncio.get_running_loop().time() + (grant.expires - self._served.now()) / 1000 < self._wakes:
            self._sooner.set()

    async def run(self) -> None:
        """Runs until cancelled."""
        try:
            while True:
                self._sooner.clear()
                pause = await self.round()
                self._wakes = asyncio.get_running_loop().time() + pause
                try:
                    async with asyncio.timeout(pause):
                        await self._sooner.wait()
                except TimeoutError:
                    continue
        finally:
            await self.close()

    async def round(self) -> float:
        """Walks a stretch of the queue and lets what is due there be expired; the seconds until the next round."""
        if not self._served.is_current:
            return _RETRY_SECONDS
        try:
            due, in_vain, rest = await self._walk()
        except StoreUnavailable as error:
            logger.warning("leases cannot be expired now; trying again: %s", error)
            self._failed(TASK)
            return _RETRY_SECONDS
        for tenant, leases in due.items():
            self._busy[tenant] = asyncio.create_task(self._reap(tenant, leases))
        least = in_vain * _SECONDS_PER_ROW_IN_VAIN
        if rest is None:
            return LONGEST_SLEEP if len(self._busy) >= _PLACES else least
        now = asyncio.get_running_loop().time()
        retries = [failing.until - now for failing in self._failing.values()]
        return max(least, min([rest, LONGEST_SLEEP, *retries]), 0.01)

    @property
    def is_busy(self) -> bool:
        """Whether leases are being expired."""
        return bool(self._busy)

    async def idle(self) -> None:
        """Returns when none are being expired."""
        while self._busy:
            await asyncio.wait(list(self._busy.values()))

    async def close(self) -> None:
        """Ends what is being expired."""
        for task in list(self._busy.values()):
            task.cancel()
        await self.idle()

    async def _walk(self) -> tuple[dict[str, list[Due]], int, float | None]:
        """What is due, by tenant; the rows passed over; the seconds until more is due, None if there is more now."""
        shared, now = self._store.shared_prefix, self._served.now()
        start, end = expiries(shared)
        due: defaultdict[str, list[Due]] = defaultdict(list)
        walked = taken = 0
        more = True
        while more and walked < _MOST_ROWS:
            if len(self._busy) + len(due) >= _PLACES:
                return due, walked - taken, None
            with self._store.snapshot() as snapshot:
                rows, more = await snapshot.get_range(self._position or start, end, _PAGE)
            for row, name in rows:
                expires, lease = unpack_expiry(row, shared)
                if expires > now:
                    self._begin_anew()
                    return due, walked - taken, (expires - now) / 1000
                walked += 1
                self._position = row + b"\x00"
                tenant = name.decode()
                if self._takes(tenant, due):
                    due[tenant].append((lease, expires))
                    taken += 1
            await asyncio.sleep(0)  # others grow and shrink the queue meanwhile: the position holds all the same
        if more:
            return due, walked - taken, None
        self._begin_anew()
        return due, walked - taken, LONGEST_SLEEP

    def _takes(self, tenant: str, due: defaultdict[str, list[Due]]) -> bool:
        """Whether the tenant gets another lease to expire in this round."""
        failing = self._failing.get(tenant)
        if failing is not None:
            self._met.add(tenant)
            if asyncio.get_running_loop().time() < failing.until:
                return False
        return tenant not in self._busy and (tenant not in due or len(due[tenant]) < _MOST_OF_A_TENANT)

    def _begin_anew(self) -> None:
        """The walk has come to the end of what is due."""
        self._position = b""
        for tenant in self._failing.keys() - self._met - self._busy.keys():
            del self._failing[tenant]  # what it could not expire is no longer due
        self._met.clear()

    async def _reap(self, tenant: str, due: list[Due]) -> None:
        try:
            async with asyncio.timeout(_LONGEST_SECONDS):
                while due:
                    del due[: await self._expire(tenant, due) or len(due)]
        except LeftToWriter:
            self._fail(tenant)
        except (StoreUnavailable, errors.TimedOut, TimeoutError) as error:
            logger.warning("leases of %s cannot be expired now; trying again: %s", tenant, error or "takes too long")
            self._fail(tenant)
            self._failed(TASK)
        except errors.TenantClosed:
            self._fail(tenant)  # it is being cleared, its leases first
        except asyncio.CancelledError as error:
            if is_cancelled():
                raise
            self._fail(tenant)
            report(TASK, error, self._failed, tenant)
        except Exception as error:  # noqa: BLE001  whatever it is, it is this tenant's
            self._fail(tenant)
            report(TASK, error, self._failed, tenant)
        else:
            self._failing.pop(tenant, None)
        finally:
            del self._busy[tenant]
            self._sooner.set()

    def _fail(self, tenant: str) -> None:
        failing = self._failing.setdefault(tenant, _Failing())
        failing.until = asyncio.get_running_loop().time() + failing.pauses.after_failure()

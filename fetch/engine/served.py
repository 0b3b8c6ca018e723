"""The time during which tenants are served, which is what leases run out by.

A clock of its own, in milliseconds, that all daemons on a store share: it begins as the wall clock and goes on by the
monotonic clock of whichever daemon serves. A jump of the wall clock does not move it, and while nobody serves it
stands still. One row holds it (see `layout`); a daemon writes that row every `BEAT` seconds, unless another has.

The row also says since when there has been service without a gap. Nobody could renew a lease in a gap, so a lease has
at least its time to live from there on (`lease.Grant.ends`), as etcd's `lessor.Promote` gives it after an election.

What makes it right with several daemons:

- A daemon says that there was a gap only when the row has stood still for `LOST` seconds by its own monotonic clock.
  One that starts, or that could not reach the store for so long, does not know whether others have served, so it
  watches the row first; where none but its own workers can write to the store, or where the row was written on this
  machine since it booted, it knows at once. The writes of the row conflict, so that two daemons cannot both decide.
- A daemon lets leases run out only while its last look at a row that moves is less than `LOST` ago (`is_current`).
  So none runs out between a gap and its being noticed, whichever daemon notices it.
- The clocks of daemons on several machines differ by the time it takes one to notice that another has written the
  row. Each knows by how much others may be ahead of it: it has looked before the row moved and after, and the row
  says how far its writer may have been behind. What is granted on a daemon is granted for so much longer (`latest`).
  So a lease may run out late by that, commonly 0.05 s, but not early, whatever wall clocks show. Who has not looked
  for `LOST` takes the time of the row, also if it is less: others may have begun the service anew meanwhile.
"""

import asyncio
import logging
import os
import struct
import time
from collections.abc import Callable
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from fetch.engine.layout import served_row
from fetch.stores.protocol import Store, StoreFull, StoreUnavailable
from fetch.stores.transaction import Source, Transaction

BEAT = 2.0
LOST = 6.0
_LOOK = 0.05
_LONGEST_LOOK = 1000

_ROW = struct.Struct(">qqqq16s16s")
_SECOND = 1000

logger = logging.getLogger(__name__)


def this_machine() -> bytes:
    """What is the same in all processes whose monotonic clocks are the same: one machine, from boot to boot."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_bytes()
        clocks = Path("/proc/self/ns/time").readlink()
    except OSError:
        return struct.pack(">qq", time.time_ns(), id(object()))
    return sha256(boot + bytes(clocks)).digest()[:16]


def these_workers() -> bytes:
    """What is the same in all workers that one process has started, and in no others."""
    parent = os.getppid()
    try:
        started = Path(f"/proc/{parent}/stat").read_text().rpartition(")")[2].split()[19]
    except OSError:
        started = ""
    return sha256(f"{parent} {started}".encode()).digest()[:16]


@dataclass(frozen=True, slots=True)
class Served:
    """The row: the time when it was written, by how much others may be ahead of that, since when there has been no gap,
    which machine's monotonic clock showed what, and which workers' the row is, if only those write to the store."""

    now: int
    behind: int
    since: int
    monotonic: int
    machine: bytes
    workers: bytes = bytes(16)

    def pack(self) -> bytes:
        """The stored form."""
        return _ROW.pack(self.now, self.behind, self.since, self.monotonic, self.machine, self.workers)

    @classmethod
    def unpack(cls, stored: bytes) -> "Served":
        """The row from its stored form."""
        return cls(*_ROW.unpack(stored))


async def served_since(source: Source, shared: bytes) -> int:
    """Since when there has been service without a gap, in the time of `ServedTime.now`."""
    stored = await source.get(served_row(shared))
    return 0 if stored is None else Served.unpack(stored).since


class ServedTime:
    """This daemon's view of the time."""

    def __init__(
        self,
        store: Store,
        monotonic: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
        machine: bytes | None = None,
        workers: bytes = bytes(16),
    ) -> None:
        """The clocks are those of module `time`, `machine` is `this_machine()`, unless a test has others.

        `workers` is `these_workers()` where nobody but the workers of one daemon can write to the store. None of them
        starts while others serve, so the first of them begins the service anew.
        """
        self._store = store
        self._row = served_row(store.shared_prefix)
        self._monotonic = monotonic
        self._wall = wall
        self._machine = machine or this_machine()
        self._workers = workers
        self._beginning = asyncio.Lock()
        # what the time is ahead of the monotonic clock, and by how much others may be ahead of it
        self._offset: int | None = None
        self._behind = 0
        # the row as it was last seen, and the monotonic times of the last look and of the last that found it moved
        self._seen: bytes | None = None
        self._looked = 0.0
        self._moved = 0.0
        # whether it is known that somebody serves: false for one that has just come and watches whether the row moves
        self._settled = False

    async def begin(self) -> None:
        """Finds out what time it is. To be awaited before anything else.

        :raises StoreUnavailable:
        """
        async with self._beginning:
            if self._offset is None:
                try:
                    await self._look()
                except StoreFull:
                    await self._only_read()

    def now(self) -> int:
        """The time, in milliseconds. May be behind that of daemons on other machines."""
        assert self._offset is not None, "begin() comes first"  # noqa: S101
        return self._milliseconds() + self._offset

    def latest(self) -> int:
        """The time that it is at most on any daemon: what times to live are counted from."""
        return self.now() + self._behind

    @property
    def is_current(self) -> bool:
        """Whether it is certain that there is no gap that nobody has noticed yet: leases may run out."""
        return self._settled and self._monotonic() - self._moved < LOST

    async def run(self) -> None:
        """Keeps the row moving until cancelled."""
        answers = True
        while True:
            try:
                await self.beat()
            except (StoreUnavailable, StoreFull) as error:
                if answers:
                    logger.warning("the time served cannot be stored, leases do not run out meanwhile: %s", error)
                answers = False
            else:
                answers = True
            await asyncio.sleep(BEAT if self._settled else _LOOK)

    async def beat(self) -> None:
        """Looks at the row, and moves it if nobody else has.

        :raises StoreUnavailable:
        """
        async with self._beginning:
            await self._look()

    async def _look(self) -> None:
        """One look; what it finds holds once the transaction is committed, and from when it began."""
        seen, began = self._seen, self._monotonic()

        async def look(transaction: Transaction) -> "tuple[Served | None, Served | None]":
            stored = await transaction.get_for_update(self._row)
            row = None if stored is None else Served.unpack(stored)
            written = self._judge(row, stored != seen, began)
            if written is not None:
                transaction.set(self._row, written.pack())
            return row, written

        # the lock keeps this object as it is meanwhile; the transaction is evaluated again if others move the row
        row, written = await self._store.transact(look)
        self._learn(row, written, began)

    async def _only_read(self) -> None:
        """Begins without a write, so that tenants can be read while the store is full. Nothing runs out then."""
        with self._store.snapshot() as snapshot:
            self._seen = await snapshot.get(self._row)
        now = int(self._wall() * _SECOND) if self._seen is None else Served.unpack(self._seen).now
        self._offset, self._behind = now - self._milliseconds(), int((LOST + BEAT) * _SECOND)
        self._looked = self._moved = self._monotonic()

    def _judge(self, row: Served | None, moved: bool, began: float) -> Served | None:
        """What the row has to become; None: it stays as it is."""
        if row is None:
            now = int(self._wall() * _SECOND)
            return self._write(now, now)
        if self._offset is None:
            if not self._store.shared or row.workers != self._workers:
                return self._write(row.now, row.now)
            age = self._milliseconds() - row.monotonic
            if row.machine == self._machine and self._age(row) is None and age > 0:
                # the time goes on a while, so that it is not behind that of others who have looked at the row
                now = row.now + min(age, int(2 * LOST * _SECOND))
                return self._write(now, now, row.behind)
            return None
        silent = began - self._moved
        now = max(self.now(), row.now)
        if moved:
            return None
        if not self._settled:
            return self._write(now, now, 0) if silent >= LOST + BEAT else None
        if silent >= LOST:
            return self._write(now, now)
        return self._write(now, row.since) if silent >= BEAT * 3 / 4 else None

    def _learn(self, row: Served | None, written: Served | None, began: float) -> None:
        current = written or row
        assert current is not None  # noqa: S101  a missing row is written
        stored, now = current.pack(), self._milliseconds()
        moved, age = stored != self._seen, self._age(current)
        offset = current.now + (age or 0) - now
        if written is not None:
            self._settled, self._offset, self._behind = True, offset, current.behind
        elif self._offset is None or (moved and self._settled and began - self._moved >= LOST):
            # whether others have served all the time is not known here, unless they do on this machine
            self._settled, self._offset = age is not None, offset
            self._behind = current.behind + (int((LOST + BEAT) * _SECOND) if age is None else 0)
        elif moved:
            # the row has moved since the look before this one
            oldest = now - int(self._looked * _SECOND) if age is None else age
            most = current.now + oldest + current.behind - now
            if self._settled:
                most = min(most, self._offset + self._behind)
                offset = max(offset, self._offset)
            self._offset, self._behind = offset, max(most - offset, 0)
            self._settled = self._settled or oldest <= _LONGEST_LOOK
        if moved:
            self._moved = began
        self._seen, self._looked = stored, began

    def _age(self, row: Served) -> int | None:
        """How many milliseconds ago a row was written on this machine; None where that is not known, or too long."""
        age = self._milliseconds() - row.monotonic
        return age if row.machine == self._machine and 0 <= age < LOST * _SECOND else None

    def _write(self, now: int, since: int, behind: int | None = None) -> Served:
        return Served(
            now, self._behind if behind is None else behind, since, self._milliseconds(), self._machine, self._workers
        )

    def _milliseconds(self) -> int:
        return int(self._monotonic() * _SECOND)

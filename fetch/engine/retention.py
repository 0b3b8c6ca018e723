"""Compaction that nobody asks for: `--auto-compaction-mode` and `--auto-compaction-retention`, for every tenant.

What they mean is etcd's (`server/etcdserver/api/v3compactor`). *Periodic*: what has been superseded for as long as the
retention can go; looked at ten times in that time, or ten times an hour if it is longer, and compacted as often as the
retention is long, or every hour. *Revision*: every five minutes all but so many revisions can go.

A tenant is looked at by whatever daemons have it open; one that nobody has opened grows no history. What they need to
know of each other is a row of the tenant: when one of them last did something, when it was last compacted, and which
revision was the newest when. The times are those of `ServedTime`, one clock for all daemons. The row is written in a
transaction that conflicts on it, so that one daemon does what there is to do, and those who come at the same time find
nothing left. A tenant that has not changed costs one read each time. Unlike etcd's, the row outlives daemons: a restart
does not begin the retention anew.

Looks are spread: each tenant has its place in the interval, by its name, and one is looked at after the other.
"""

import asyncio
import logging
import struct
import zlib
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from fetch import errors
from fetch.engine.background import Failed, report
from fetch.engine.layout import FIRST_REVISION, NEVER, Layout, unpack_revision
from fetch.stores.protocol import Store
from fetch.stores.transaction import Source, Transaction

TASK = "automatic compaction"

_HOUR = 3600.0
_LOOKS = 10
_MOST_MARKS = 256
_REVISION_SECONDS = 300.0
_LEAST_SECONDS = 1.0
_LONGEST_SECONDS = 10.0
_EARLY = 0.9
"""Of the interval: a clock that is a little behind another daemon's is not a whole interval late by that."""

_HEAD = struct.Struct(">qq")
_MARK = struct.Struct(">qQ")

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Retention:
    """What is kept: what was current within so many seconds, or so many revisions. One of them is 0."""

    seconds: float = 0.0
    revisions: int = 0

    @property
    def interval(self) -> float:
        """The seconds between two looks at a tenant."""
        if self.revisions:
            return _REVISION_SECONDS
        # the row has one mark a look: a retention of weeks is looked at less often
        return max(min(self.seconds, _HOUR) / _LOOKS, self.seconds / _MOST_MARKS, _LEAST_SECONDS)

    @property
    def between_compactions(self) -> float:
        """The seconds between two compactions of a tenant."""
        return self.interval if self.revisions else min(self.seconds, _HOUR)


@dataclass(frozen=True, slots=True)
class Kept:
    """The row: when something was done last, when it was compacted last, and marks (milliseconds, newest revision)."""

    touched: int = 0
    compacted: int = 0
    marks: tuple[tuple[int, int], ...] = ()

    def pack(self) -> bytes:
        """The stored form."""
        return _HEAD.pack(self.touched, self.compacted) + b"".join(_MARK.pack(*mark) for mark in self.marks)

    @classmethod
    def unpack(cls, stored: bytes | None) -> "Kept":
        """The row from its stored form."""
        if stored is None:
            return cls()
        touched, compacted = _HEAD.unpack_from(stored)
        return cls(
            touched, compacted, tuple((at, revision) for at, revision in _MARK.iter_unpack(stored[_HEAD.size :]))
        )

    def looked_at(self, revision: int, compacted: int, now: int, retention: Retention) -> tuple["Kept", int]:
        """What the row becomes by a look at `now`, and the revision to compact at, 0 for none."""
        if now - self.touched < retention.interval * 1000 * _EARLY:
            return self, 0
        marks: tuple[tuple[int, int], ...] = ()
        if retention.revisions:
            target = revision - retention.revisions
        else:
            # a mark of a revision that there is not is from before the tenant was brought back to what it was
            marks = tuple(mark for mark in self.marks if compacted < mark[1] <= revision)
            old = [number for at, number in marks if now - at >= retention.seconds * 1000]
            target = max(old, default=0)
            marks = tuple(mark for mark in marks if mark[1] >= target)
            if revision > compacted and (not marks or marks[-1][1] < revision):
                marks = (*marks, (now, revision))
        due = now - self.compacted >= retention.between_compactions * 1000 * _EARLY
        if target > max(compacted, 0) and due:
            return Kept(now, now, marks), target
        return (self if marks == self.marks else replace(self, touched=now, marks=marks)), 0


async def claim(store: Store, layout: Layout, now: int, retention: Retention) -> int:
    """Looks at a tenant; the revision that the caller has to compact it at, 0 for none.

    :raises StoreUnavailable: :raises StoreFull:
    """

    async def look(source: Source, kept: Kept) -> tuple[Kept, int]:
        revision, compacted = await source.get_many([layout.revision, layout.compacted])
        return kept.looked_at(
            unpack_revision(revision, FIRST_REVISION), unpack_revision(compacted, NEVER), now, retention
        )

    async def take(transaction: Transaction) -> int:
        before = Kept.unpack(await transaction.get_for_update(layout.retained))
        after, target = await look(transaction, before)
        if after != before:
            transaction.set(layout.retained, after.pack())
        return target

    with store.snapshot() as snapshot:
        before = Kept.unpack(await snapshot.get(layout.retained))
        after, _ = await look(snapshot, before)
    return 0 if after == before else await store.transact(take)


class Engine(Protocol):
    """What there is to be compacted."""

    tenant: str

    async def compact_by(self, retention: Retention) -> int:
        """Compacts as the retention says, if it is this daemon's to do; the revision, 0 for nothing."""


async def run(
    engines: Callable[[], Iterable[Engine]],
    retention: Retention,
    failed: Failed,
    pause: Callable[[float], Awaitable[None]] = asyncio.sleep,
) -> None:
    """Looks at all tenants in each interval, until cancelled. A failure is told, and is that tenant's alone."""
    loop = asyncio.get_running_loop()
    while True:
        began = loop.time()
        for engine in in_turn(list(engines())):
            await pause(max(began + place(engine.tenant) * retention.interval - loop.time(), 0.0))
            await _look(engine, retention, failed)
        await pause(max(began + retention.interval - loop.time(), 0.0))


def place(tenant: str) -> float:
    """The tenant's place in the interval, from 0 to 1."""
    return zlib.crc32(tenant.encode()) / (1 << 32)


def in_turn(engines: Sequence[Engine]) -> list[Engine]:
    """The engines in the order of their places."""
    return sorted(engines, key=lambda engine: place(engine.tenant))


async def _look(engine: Engine, retention: Retention, failed: Failed) -> None:
    try:
        async with asyncio.timeout(_LONGEST_SECONDS):
            revision = await engine.compact_by(retention)
    except errors.Compacted:
        return  # its clients compact it themselves, and came first
    except errors.TenantClosed:
        return  # it is about to be open no longer
    except Exception as error:  # noqa: BLE001  whatever it is, it is this tenant's
        report(TASK, errors.TimedOut() if isinstance(error, TimeoutError) else error, failed, engine.tenant)
    else:
        if revision:
            logger.info("compacted %s at revision %d, by --auto-compaction-retention", engine.tenant, revision)

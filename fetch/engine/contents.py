"""All that a tenant has at one revision: its leases and alarms, its keys as they were when it was compacted, and every
event since. This is what etcd's bucket of keys consists of after a compaction, and what a copy of a tenant needs.

Everything is read in pages, with pauses between them. Keys and events are the same in every later snapshot, as long as
no compaction comes in between; leases and alarms belong to the revision in the snapshot alone that has it.
"""

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Protocol, TypeVar, runtime_checkable

from fetch import errors
from fetch.engine import alarms
from fetch.engine.alarms import Alarms
from fetch.engine.hashing import Overtaken, subs_between
from fetch.engine.layout import FIRST_REVISION, Layout
from fetch.engine.lease import SHORTEST_TTL, Grant
from fetch.engine.reads import EVERYTHING, View, pages
from fetch.engine.records import StoredEvent, key_of, mod_revision_of
from fetch.engine.turns import Work
from fetch.stores.protocol import SnapshotExpired

T = TypeVar("T")

_ROWS = 250

Change = tuple[int, int, StoredEvent]
"""A revision, the position within it, and the event."""


@runtime_checkable
class Readable(Protocol):
    """An engine whose contents can be read as they are stored."""

    async def read_contents(self, read: Callable[[View, Work], Awaitable[T]]) -> T:
        """See `StoredEngine`."""


async def raised_alarms(view: View) -> Alarms:
    """The alarms in the view's snapshot."""
    return alarms.unpack(await view.source.get(view.layout.alarms))


async def granted_leases(view: View) -> AsyncIterator[list[Grant]]:
    """The leases in the view's snapshot, in order of their IDs as unsigned numbers.

    One whose keys are being deleted has the shortest time to live, which is how long whoever takes it over may keep it.
    """
    layout, begin, more = view.layout, view.layout.leases, True
    while more:
        rows, more = await view.source.get_range(begin, layout.leases_end, _ROWS)
        found = [Grant.unpack(layout.unpack_lease(row), stored) for row, stored in rows]
        yield [Grant(it.lease, SHORTEST_TTL, it.expires) if it.is_ending else it for it in found]
        if more:
            begin = rows[-1][0] + b"\x00"
            await view.pause()


async def keys_compacted(view: View, compacted: int) -> AsyncIterator[list[tuple[int, bytes]]]:
    """The keys that have not changed since before the compacted revision, as it left them, in order of their keys: of
    each the sub of its last change, and its frame.

    :raises Compacted: a compaction came in between
    """
    if compacted <= FIRST_REVISION:
        return
    async for frames in pages(view, view.layout.keys, view.layout.keys_end, EVERYTHING, compacted):
        kept = [stored for stored in frames if mod_revision_of(stored) < compacted]
        if not kept:
            continue
        try:
            subs = await subs_between(view, key_of(kept[0]), key_of(kept[-1]), compacted)
        except Overtaken:
            raise errors.Compacted from None
        yield [(subs.get((key_of(stored), mod_revision_of(stored)), 0) if subs else 0, stored) for stored in kept]


async def changes_since(view: View, compacted: int, revision: int) -> AsyncIterator[list[Change]]:
    """The events from the compacted revision on, or from the first, up to a revision, in their order.

    :raises Compacted: a compaction came in between
    """
    layout = view.layout
    begin, end = layout.event(max(compacted, 0)), layout.event(revision + 1)
    more = True
    while more:
        if view.compacted != compacted:
            raise errors.Compacted
        try:
            rows, more = await view.source.get_range(begin, end, _ROWS)
        except SnapshotExpired:
            if view.reopen is None:
                raise
            await view.renew(revision)
            continue
        yield [_change(layout, row, encoded) for row, encoded in rows]
        if more:
            begin = rows[-1][0] + b"\x00"
            await view.go_on(revision)


def _change(layout: Layout, row: bytes, encoded: bytes) -> Change:
    revision = layout.unpack_event(row)
    return revision, layout.unpack_event_sub(row), StoredEvent.parse(revision, encoded)

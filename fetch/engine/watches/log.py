"""The tenant's log of events, read in pages of whole revisions."""

from dataclasses import dataclass

from fetch.engine.layout import NEVER, Layout, unpack_revision
from fetch.engine.records import StoredEvent
from fetch.engine.turns import Work
from fetch.stores.protocol import Store
from fetch.stores.snapshot import Snapshot

PAGE_EVENTS = 1000
"""A page ends with the revision that reaches so many events, or so many bytes."""

PAGE_BYTES = 1 << 20
_ROWS = 250
_EVENT_BYTES = 200


@dataclass(slots=True, eq=False)
class Page:
    """All events of the revisions behind `after` up to `last`, as they were when `compacted` was.

    They come in chunks of about `PAGE_EVENTS`: only one revision that is larger makes a page of several.
    """

    after: int
    last: int
    compacted: int
    chunks: list[list[StoredEvent]]
    size: int


class Log:
    """Reads the log of one tenant."""

    def __init__(self, store: Store, layout: Layout) -> None:
        self._store = store
        self._layout = layout

    async def compacted(self) -> int:
        """The compacted revision."""
        with self._store.snapshot() as snapshot:
            return await self._compacted(snapshot)

    async def read(self, after: int, goal: int, work: Work) -> Page | None:
        """The page behind revision `after`, up to `goal` at most; None where the log does not reach back so far.

        Reads in slices, each in a snapshot of its own, since none may be held for long. All of them see the same log:
        what is behind `after` changes by compaction alone, and that is looked for.
        """
        while (compacted := await self.compacted()) <= after + 1:
            page = await self._read(after, goal, compacted, work)
            if page is not None:
                return page
        return None

    async def _read(self, after: int, goal: int, compacted: int, work: Work) -> Page | None:
        """None: a compaction came in between."""
        layout = self._layout
        begin, end = layout.event(after + 1), layout.event(goal + 1)
        page = Page(after, goal, compacted, [[]], 0)
        count, last = 0, after
        while True:
            with self._store.snapshot() as snapshot:
                if await self._compacted(snapshot) != compacted:
                    return None
                rows, more = await snapshot.get_range(begin, end, _ROWS)
            if len(page.chunks[-1]) >= PAGE_EVENTS:
                page.chunks.append([])
            for row, encoded in rows:
                revision = layout.unpack_event(row)
                if revision != last and (count >= PAGE_EVENTS or page.size >= PAGE_BYTES):
                    page.last = last
                    return page
                page.chunks[-1].append(_parse(revision, encoded, compacted))
                page.size += len(encoded) + _EVENT_BYTES
                count, last = count + 1, revision
            if not more:
                return page
            begin = rows[-1][0] + b"\x00"
            if work.is_spent():
                await work.give_way()

    async def _compacted(self, snapshot: Snapshot) -> int:
        return unpack_revision(await snapshot.get(self._layout.compacted), NEVER)


def _parse(revision: int, encoded: bytes, compacted: int) -> StoredEvent:
    """An event of the log. What the compacted revision superseded cannot be read any more."""
    event = StoredEvent.parse(revision, encoded)
    if revision > compacted:
        return event
    return StoredEvent(revision, event.key, encoded[: event.bare], event.bare, event.deleted)

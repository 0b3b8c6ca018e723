"""The count of a range, made in pieces of several snapshots.

A store may let a snapshot expire long before a large range has been counted in it. So each piece is counted in whatever
snapshot there is, at the revision of that, and the sum is corrected by the log: an event that lies between a piece's
revision and the one that the count is for has created or deleted a key of the piece, or neither.
"""

from bisect import bisect_right
from collections.abc import AsyncIterator

from fetch.engine.reads import bounds
from fetch.engine.reads.view import View
from fetch.engine.records import StoredEvent
from fetch.stores.protocol import SnapshotExpired


class Pieces:
    """What has been counted of a range so far, from its beginning on. Neighbours of one revision are one piece."""

    __slots__ = ("_begin", "_revisions", "_uppers", "count")

    def __init__(self, begin: bytes) -> None:
        self._begin = begin
        self._uppers: list[bytes] = []
        self._revisions: list[int] = []
        self.count = 0
        """The sum, each piece at its revision."""

    @property
    def position(self) -> bytes:
        """Where what has been counted ends."""
        return self._uppers[-1] if self._uppers else self._begin

    def add(self, upper: bytes, revision: int, count: int) -> None:
        """Adds the rows from the position up to another, as they were at a revision."""
        if self._revisions and self._revisions[-1] == revision:
            self._uppers[-1] = upper
        else:
            self._uppers.append(upper)
            self._revisions.append(revision)
        self.count += count

    def is_within(self, view: View) -> bool:
        """Whether the view's log has what is needed to correct the sum to any revision that the view can read."""
        return all(view.compacted <= revision <= view.newest for revision in self._revisions)

    def forget(self) -> None:
        """Begins anew."""
        self._uppers.clear()
        self._revisions.clear()
        self.count = 0

    async def at(self, view: View, revision: int, most: int) -> int | None:
        """The count at a revision. None if that takes more than `most` events, or compaction has cleared them.

        :raises Compacted: compaction has overtaken the revision of a view that is renewed
        """
        oldest, newest = min(revision, *self._revisions), max(revision, *self._revisions)
        if newest - oldest > most:  # each revision has an event, or more
            return None
        layout, begin, uppers, revisions = view.layout, self._begin, self._uppers, self._revisions
        count = self.count
        async for page in events_between(view, oldest, newest, revision, most):
            if page is None:
                return None
            for event in page:
                row = layout.key(event.key)
                piece = bisect_right(uppers, row)
                if row < begin or piece == len(uppers):
                    continue
                if revisions[piece] < event.revision <= revision:
                    count += event.created - event.deleted
                elif revision < event.revision <= revisions[piece]:
                    count -= event.created - event.deleted
        return count


async def count_on(view: View, pieces: Pieces, end: bytes, revision: int) -> AsyncIterator[None]:
    """Counts what the pieces do not have yet of the rows up to `end`, piece by piece. The view goes on reading at a
    revision.

    :raises Compacted: compaction has overtaken the revision of a view that is renewed
    """
    in_vain = 0
    while (position := pieces.position) < end:
        try:
            count, upper = await view.source.count_range(position, end, bounds.COUNTED_AT_ONCE)
        except SnapshotExpired:
            in_vain += 1
            if view.reopen is None or in_vain == bounds.TRIES:
                raise
            await view.renew(revision)
        else:
            in_vain = 0
            pieces.add(upper, view.newest, count)
            yield
            await view.go_on(revision)
        if not pieces.is_within(view):
            pieces.forget()  # compaction has cleared the events since the revision that some are of


async def events_between(
    view: View, after: int, last: int, revision: int, most: int
) -> AsyncIterator[list[StoredEvent] | None]:
    """The events behind revision `after`, up to `last`, in pages; then None if there are more than `most` of them, or
    compaction clears them meanwhile. The view goes on reading at `revision`.

    :raises Compacted: compaction has overtaken the revision of a view that is renewed
    """
    layout = view.layout
    position, behind = layout.event(after + 1), layout.event(last + 1)
    more = after < last
    while more:
        if view.compacted > after:
            yield None
            return
        try:
            # one row more than may be, to tell whether there are more
            rows, more = await view.source.get_range(position, behind, min(most + 1, bounds.EVENTS_AT_ONCE))
        except SnapshotExpired:
            if view.reopen is None:
                raise
            await view.renew(revision)
            continue
        most -= len(rows)
        if most < 0:
            yield None
            return
        yield [StoredEvent.parse(layout.unpack_event(row), encoded) for row, encoded in rows]
        if more:
            position = rows[-1][0] + b"\x00"
            await view.go_on(revision)

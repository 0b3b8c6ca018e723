"""How many keys ranges have."""

from collections import OrderedDict

from fetch.engine.reads import bounds
from fetch.engine.reads.paging import pages
from fetch.engine.reads.view import EVERYTHING, View
from fetch.engine.records import StoredEvent
from fetch.stores.protocol import SnapshotExpired


class Counts:
    """How many keys ranges have, as found at some revision and brought forward by the events since.

    kube-apiserver lists in pages, and every page answers with the count of what is left of the range.
    """

    def __init__(self) -> None:
        self._known: OrderedDict[tuple[bytes, bytes], tuple[int, int]] = OrderedDict()

    def remember(self, begin: bytes, end: bytes, revision: int, count: int) -> None:
        """Keeps the count of rows [begin, end) at a revision."""
        self._known[begin, end] = revision, count
        self._known.move_to_end((begin, end))
        if len(self._known) > bounds.MOST_COUNTS:
            self._known.popitem(last=False)

    def is_large(self, begin: bytes, end: bytes) -> bool:
        """Whether rows [begin, end) were last found to be more than a page of a brief read. May have changed since."""
        known = self._known.get((begin, end))
        return known is not None and known[1] > bounds.BRIEF

    async def count(self, view: View, begin: bytes, end: bytes, revision: int) -> int:
        """The number of keys of rows [begin, end) at a revision that the view can read."""
        try:
            found = await self._from_known(view, begin, end, revision, bounds.MOST_EVENTS_COUNTED)
        except SnapshotExpired:
            if view.reopen is None:
                raise
            await view.renew(revision)
            found = None
        if found is None:
            found = await _counted(view, begin, end, revision)
        self.remember(begin, end, revision, found)
        return found

    async def count_briefly(self, view: View, begin: bytes, end: bytes, revision: int) -> int | None:
        """The same, if it takes no more than a few rows."""
        found = await self._from_known(view, begin, end, revision, bounds.BRIEF)
        if found is None and revision == view.newest:
            count, upper = await view.source.count_range(begin, end, bounds.BRIEF)
            found = count if upper == end else None
        if found is not None:
            self.remember(begin, end, revision, found)
        return found

    async def _from_known(self, view: View, begin: bytes, end: bytes, revision: int, most: int) -> int | None:
        # what others remember meanwhile does not matter: the pair that was taken is right for its revision, for ever.
        # It may be of a revision that is newer than the view's snapshot, which does not have the events up to there
        known = self._known.get((begin, end))
        if known is None or not view.compacted <= known[0] <= view.newest:
            return None
        balance = await _balance(view, begin, end, known[0], revision, min(most, max(bounds.BRIEF, known[1])))
        return None if balance is None else known[1] + balance


async def _counted(view: View, begin: bytes, end: bytes, revision: int) -> int:
    """The number of keys of rows [begin, end) at a revision: those of now, less what events have changed since; or,
    where there are more events than keys, those that there were then, looked at one by one."""
    count, position = 0, begin
    try:
        # in one snapshot: a sum over several would be of no revision
        while position < end:
            counted, position = await view.source.count_range(position, end, bounds.COUNTED_AT_ONCE)
            count += counted
            await view.pause()
        balance = await _balance(view, begin, end, view.newest, revision, max(bounds.BRIEF, count))
    except SnapshotExpired:
        if view.reopen is None:
            raise
        await view.renew(revision)
        balance = None
    if balance is not None:
        return count + balance
    return sum([len(frames) async for frames in pages(view, begin, end, EVERYTHING, revision)])


async def _balance(view: View, begin: bytes, end: bytes, known: int, wanted: int, most: int) -> int | None:
    """How many keys the rows [begin, end) have more at revision `wanted` than at revision `known`.

    None if that takes more than `most` events. The view's snapshot has both revisions.
    """
    layout = view.layout
    first, last = min(known, wanted), max(known, wanted)
    if last - first > most:  # each revision has an event, or more
        return None
    position, behind = layout.event(first + 1), layout.event(last + 1)
    balance, more = 0, first < last
    while more:
        # one row more than may be, to tell whether there are more
        rows, more = await view.source.get_range(position, behind, min(most + 1, bounds.EVENTS_AT_ONCE))
        most -= len(rows)
        if most < 0:
            return None
        for row, encoded in rows:
            event = StoredEvent.parse(layout.unpack_event(row), encoded)
            if begin <= layout.key(event.key) < end:
                balance += event.created - event.deleted
        if more:
            position = rows[-1][0] + b"\x00"
            await view.pause()
    return balance if wanted > known else -balance

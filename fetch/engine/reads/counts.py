"""How many keys ranges have."""

import asyncio
from collections import OrderedDict

from sortedcontainers import SortedList

from fetch.engine.reads import bounds
from fetch.engine.reads.paging import pages
from fetch.engine.reads.pieces import Pieces, count_on
from fetch.engine.reads.view import EVERYTHING, View

Range = tuple[bytes, bytes]


class _Begun:
    """The count of a range that somebody makes, or has begun and left."""

    __slots__ = ("pieces", "turn")

    def __init__(self, begin: bytes) -> None:
        self.pieces = Pieces(begin)
        self.turn = asyncio.Lock()


class Counts:
    """How many keys ranges have, as found at some revision and brought forward by the events since.

    kube-apiserver lists in pages, and every page answers with the count of what is left of the range.
    """

    def __init__(self) -> None:
        self._known: OrderedDict[Range, tuple[int, int]] = OrderedDict()
        # the ranges that are known, by end and begin: those beside a range are its neighbours here
        self._order: SortedList[Range] = SortedList()
        self._begun: OrderedDict[Range, _Begun] = OrderedDict()

    def remember(self, begin: bytes, end: bytes, revision: int, count: int) -> None:
        """Keeps the count of rows [begin, end) at a revision."""
        if (begin, end) not in self._known:
            self._order.add((end, begin))
        self._known[begin, end] = revision, count
        self._known.move_to_end((begin, end))
        if len(self._known) > bounds.MOST_COUNTS:
            (begin, end), _ = self._known.popitem(last=False)
            self._order.remove((end, begin))

    def is_large(self, begin: bytes, end: bytes) -> bool:
        """Whether rows [begin, end) were last found to be more than a page of a brief read. May have changed since."""
        known = self._known.get((begin, end))
        return known is not None and known[1] > bounds.BRIEF

    async def count(self, view: View, begin: bytes, end: bytes, revision: int) -> int:
        """The number of keys of rows [begin, end) at a revision that the view can read.

        :raises Compacted: compaction has overtaken the revision of a view that is renewed
        """
        found = await self._from_known(view, begin, end, revision)
        if found is None:
            found = await self._counted(view, begin, end, revision)
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

    async def _from_known(
        self, view: View, begin: bytes, end: bytes, revision: int, most: int = EVERYTHING
    ) -> int | None:
        # what others remember meanwhile does not matter: the pair that was taken is right for its revision, for ever
        known = self._known.get((begin, end))
        if known is None:
            return None
        pieces = Pieces(begin)
        pieces.add(end, *known)
        return await pieces.at(view, revision, min(most, _worth(known[1]))) if pieces.is_within(view) else None

    async def _counted(self, view: View, begin: bytes, end: bytes, revision: int) -> int:
        """The number of keys of rows [begin, end), which is not known, or of long ago.

        Whoever asks while another counts waits for that. Where somebody was cancelled, the next one goes on.
        """
        begun = self._begin(begin, end)
        has_waited = begun.turn.locked()
        async with begun.turn:
            pieces = begun.pieces
            if has_waited or not pieces.is_within(view):
                await view.renew(revision)  # what others have counted meanwhile may be newer than the view's snapshot
                found = await self._from_known(view, begin, end, revision)
                if found is not None:
                    return found
            if not pieces.is_within(view):
                pieces.forget()
            found = await self._by_pieces(view, pieces, begin, end, revision)
        self._begun.pop((begin, end), None)
        if found is None:
            # there are more events since than keys: those that there were then, looked at one by one
            found = sum([len(frames) async for frames in pages(view, begin, end, EVERYTHING, revision)])
        return found

    def _begin(self, begin: bytes, end: bytes) -> _Begun:
        """The count of a range that is under way, or was left by whoever was cancelled; else a new one."""
        begun = self._begun.setdefault((begin, end), _Begun(begin))
        self._begun.move_to_end((begin, end))
        if len(self._begun) > bounds.MOST_COUNTS_BEGUN:
            self._begun.popitem(last=False)
        return begun

    async def _by_pieces(self, view: View, pieces: Pieces, begin: bytes, end: bytes, revision: int) -> int | None:
        """The number of keys, of what has been counted and what has not. None where pages of keys are cheaper."""
        is_first = pieces.position == begin
        async for _ in count_on(view, pieces, end, revision):
            if is_first and pieces.position < end:
                found = await self._beside(view, begin, end, revision)
                if found is not None:
                    return found
            is_first = False
        return await pieces.at(view, revision, max(bounds.BRIEF, pieces.count))

    async def _beside(self, view: View, begin: bytes, end: bytes, revision: int) -> int | None:
        """The number of keys, from a known range that ends where this one does: by what lies between their beginnings.

        What is left of a list behind one page is known, of that behind the next but one, which another daemon has
        served, is not.
        """
        place = self._order.bisect_left((end, begin))
        for end_beside, beside in self._order[max(place - 1, 0) : place + 2]:
            if end_beside != end or beside == begin:
                continue
            known = await self._from_known(view, beside, end, revision)
            if known is None:
                continue
            between = Pieces(min(begin, beside))
            async for _ in count_on(view, between, max(begin, beside), revision):
                pass
            found = await between.at(view, revision, max(bounds.BRIEF, between.count))
            if found is not None:
                return known - found if beside < begin else known + found
        return None


def _worth(count: int) -> int:
    """How many events are looked at rather than so many keys counted. Either has its time: an event costs as much as
    several keys of FoundationDB, where values come along, and many keys of LMDB, where they do not."""
    return max(bounds.BRIEF, min(count, bounds.MOST_EVENTS_COUNTED), count // bounds.KEYS_FOR_AN_EVENT)

"""The log, read for all watchers of a tenant that are behind.

One pass at a time goes over the log. It reads a page for those who stand at the lowest position, and takes everybody
with it whose position lies in that page: who finds nothing there goes on behind it, who finds something is told so, and
takes it from the page when their stream gets to it. Then it does the same for whoever is lowest now. So those who start
together read each page once, who comes later catches up with the others and goes on with them, and who reads slowly
takes no part: what is held is a few pages, and what has gone is read again. As etcd's `syncWatchers`
(`server/storage/mvcc/watchable_store.go`), but with a page's memory instead of the log's.

A page costs its rows once, and O(log n) for each watcher that finds nothing in it.
"""

import asyncio
import heapq
import itertools
from bisect import bisect_left
from collections import deque
from collections.abc import Callable, Iterator, Sequence

from fetch import errors
from fetch.engine.layout import Layout
from fetch.engine.records import StoredEvent
from fetch.engine.turns import Work
from fetch.engine.watches.feed import Watcher, cut
from fetch.engine.watches.log import Log, Page

_MOST_PAGES = 8
_MOST_BYTES = 4 << 20
_WOKEN_IN_A_TURN = 64


class _Chunk:
    """Some consecutive events, found by row."""

    __slots__ = ("_at", "_events", "_rows")

    def __init__(self, events: list[StoredEvent], layout: Layout) -> None:
        self._events = events
        by_row = sorted((layout.key(event.key), at) for at, event in enumerate(events))
        self._rows = [row for row, _ in by_row]
        self._at = [at for _, at in by_row]

    def of(self, watcher: Watcher) -> list[StoredEvent]:
        """What is for the watcher, in order. Costs what its range holds."""
        return list(self._passing(watcher, sorted(self._of_range(watcher))))

    def has_more(self, watcher: Watcher) -> bool:
        """Whether there is something for the watcher."""
        return next(self._passing(watcher, self._of_range(watcher)), None) is not None

    def _of_range(self, watcher: Watcher) -> list[int]:
        first = bisect_left(self._rows, watcher.begin)
        return self._at[first : bisect_left(self._rows, watcher.end, first)]

    def _passing(self, watcher: Watcher, at: Sequence[int]) -> Iterator[StoredEvent]:
        for event in map(self._events.__getitem__, at):
            if event.revision > watcher.position and watcher.passes(event):
                yield event


class _Page:
    """A page that is held: all events behind `after`, up to `last`."""

    __slots__ = ("after", "chunks", "compacted", "last", "size")

    def __init__(self, page: Page) -> None:
        self.after, self.last, self.compacted, self.size = page.after, page.last, page.compacted, page.size
        self.chunks: list[_Chunk] = []

    def has_more(self, watcher: Watcher) -> bool:
        """Whether there is something for the watcher."""
        return any(chunk.has_more(watcher) for chunk in self.chunks)


class Replay:
    """The pass over a tenant's log, and those it is for: they have asked, and their listeners are told."""

    def __init__(self, log: Log, layout: Layout, goal: Callable[[], int], caught_up: Callable[[Watcher], None]) -> None:
        """`goal()` is the revision up to which the log is to be read; `caught_up` is told who has come so far."""
        self._log = log
        self._layout = layout
        self._goal = goal
        self._caught_up = caught_up
        self._pages: deque[_Page] = deque()
        self._reading = asyncio.Lock()
        # those who wait for the pass, with a number; the heap has (position, number, watcher), also of who has gone
        self._asking: dict[Watcher, int] = {}
        self._lowest: list[tuple[int, int, Watcher]] = []
        self._numbers = itertools.count()

    @property
    def held(self) -> int:
        """The bytes of the pages that are held."""
        return sum(page.size for page in self._pages)

    def is_needed(self) -> bool:
        """Whether anybody waits for the pass."""
        return bool(self._asking)

    def ask(self, watcher: Watcher) -> None:
        """Lets the pass look for something for the watcher, and tell its listener. O(log n)."""
        if watcher not in self._asking:
            number = self._asking[watcher] = next(self._numbers)
            heapq.heappush(self._lowest, (watcher.position, number, watcher))

    def forget(self, watcher: Watcher) -> None:
        """Lets go of a watcher that has ended."""
        self._asking.pop(watcher, None)

    def rest(self) -> None:
        """Lets go of everything that is held, since nobody is behind any more."""
        self._lowest.clear()
        self._pages.clear()

    async def run(self, work: Work) -> None:
        """Goes over the log until nobody waits."""
        while (position := self._position()) is not None:
            try:
                page = await self._page(position, work)
            except errors.Compacted:
                await self._tell_compacted(position, work)
            else:
                await self._take_along(page, work)

    async def take(self, watcher: Watcher, limit: int, work: Work) -> list[StoredEvent]:
        """What the pass has found for the watcher: at most `limit` bytes in whole revisions, but at least one.

        :raises Compacted: the log does not reach back to the watcher's position any more
        """
        page = await self._page(watcher.position, work)
        events: list[StoredEvent] = []
        for chunk in page.chunks:
            events += chunk.of(watcher)
            if work.is_spent():
                await work.give_way()
        # nobody else moves the position while the watcher does not ask, and pages do not change: what was found holds
        end = cut(events, 0, page.last, limit)
        watcher.found = end < len(events)
        watcher.position = events[end - 1].revision if watcher.found else page.last
        return events[:end]

    def _position(self) -> int | None:
        """The position of those who are furthest behind; None when there is nobody."""
        while self._lowest:
            position, number, watcher = self._lowest[0]
            if self._asking.get(watcher) == number:
                return position
            heapq.heappop(self._lowest)
        return None

    async def _take_along(self, page: _Page, work: Work) -> None:
        """Brings everybody whose position lies in the page behind it, or tells them that they find something in it."""
        woken = 0
        while (position := self._position()) is not None and page.after <= position < page.last:
            _, number, watcher = heapq.heappop(self._lowest)
            if page.has_more(watcher):
                woken += self._tell(watcher, found=True)
            else:
                watcher.position = page.last
                if page.last >= self._goal():
                    self._caught_up(watcher)
                    woken += self._tell(watcher, found=False)
                else:
                    heapq.heappush(self._lowest, (page.last, number, watcher))
            if woken >= _WOKEN_IN_A_TURN or work.is_spent():
                woken = 0
                await work.give_way()  # others may have come, at lower positions too, or gone: all is looked up again

    async def _tell_compacted(self, position: int, work: Work) -> None:
        """Lets those who are lowest take: that tells them that their position is compacted."""
        woken = 0
        while self._position() == position:
            woken += self._tell(heapq.heappop(self._lowest)[2], found=True)
            if woken >= _WOKEN_IN_A_TURN or work.is_spent():
                woken = 0
                await work.give_way()

    def _tell(self, watcher: Watcher, *, found: bool) -> bool:
        del self._asking[watcher]
        watcher.found = found
        return bool(watcher.listener(watcher))

    async def _page(self, position: int, work: Work) -> _Page:
        """The page behind a position, held or read.

        :raises Compacted: the log does not reach back to the position any more
        """
        page = await self._held(position)
        if page is None:
            async with self._reading:  # somebody else may be reading it
                page = await self._held(position) or await self._read(position, work)
        return page

    async def _held(self, position: int) -> _Page | None:
        """A page of those that are held, none that was read before a compaction."""
        compacted = await self._log.compacted()
        if position + 1 < compacted:
            raise errors.Compacted
        while self._pages and self._pages[0].compacted != compacted:
            self._pages.popleft()
        return next((page for page in reversed(self._pages) if page.after <= position < page.last), None)

    async def _read(self, position: int, work: Work) -> _Page:
        read = await self._log.read(position, self._goal(), work)
        if read is None:
            raise errors.Compacted
        page = _Page(read)
        for events in read.chunks:
            page.chunks.append(_Chunk(events, self._layout))
            if work.is_spent():
                await work.give_way()
        self._pages.append(page)
        held = self.held
        while len(self._pages) > 1 and (len(self._pages) > _MOST_PAGES or held > _MOST_BYTES):
            held -= self._pages.popleft().size
        return page

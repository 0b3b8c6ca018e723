"""What has happened, handed to the feeds of the ranges that it lies in, and to their watchers.

`position` is the revision up to which everything has been handed on; it moves at once for a whole commit, so a watcher
never sees part of a revision, however many slices the work took. `received` is what is known of, handed on or not.

Small commits are handed on at once. What is longer goes on in slices, which the hub runs: `steps` is a generator that
tells what each step cost. What has happened meanwhile goes first, then some watchers are woken, so that those who have
to wait for their turn get more at once.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Iterator

from fetch.engine.layout import Layout
from fetch.engine.records import StoredEvent
from fetch.engine.watches.feed import Backlog, Feed, Group, Watcher
from fetch.engine.watches.index import Index

_WOKEN_IN_A_STEP = 64

# what steps cost, in microseconds
_EVENT = 1.0
_MATCH = 0.5
_WAKE = 25.0
_NO_WAKE = 0.3
_FREE = 0.15


class Feeds:
    """The feeds of a tenant, by range. While `searching`, ranges wait to come and go, since a search is under way."""

    def __init__(self, backlog: Backlog) -> None:
        self._backlog = backlog
        self._by_range: dict[tuple[bytes, bytes], Feed] = {}
        self._single: dict[bytes, Feed] = {}
        self._ranges: Index[Feed] = Index()
        self._searching = False
        self._changes: list[Feed] = []

    def __len__(self) -> int:
        return len(self._by_range)

    def __iter__(self) -> Iterator[Feed]:
        return iter(list(self._by_range.values()))

    def join(self, watcher: Watcher) -> None:
        """Lets the watcher take part in the feed of its range."""
        span = watcher.begin, watcher.end
        feed = self._by_range.get(span)
        if feed is None:
            feed = self._by_range[span] = Feed(*span, self._backlog)
            self._change(feed)
        feed.join(watcher)

    def leave(self, watcher: Watcher) -> None:
        """Takes the watcher out of its feed, and forgets the feed if it was the last."""
        feed = watcher.feed
        if feed is None:
            return
        feed.leave(watcher)
        if not feed.watchers:
            del self._by_range[feed.begin, feed.end]
            self._change(feed)

    def search(self) -> None:
        """Begins to look for feeds, until `searched`."""
        self._searching = True

    def searched(self) -> None:
        """Ends a search: the ranges that have come and gone meanwhile do so now, in their order."""
        self._searching = False
        changes, self._changes = self._changes, []
        for feed in changes:
            self._change(feed)

    def of(self, row: bytes) -> Iterator[Feed]:
        """The feeds whose ranges hold a row. Those that nobody watches any more are among them during a search."""
        single = self._single.get(row)
        if single is not None:
            yield single
        if self._ranges:
            yield from self._ranges.at(row)

    def _change(self, feed: Feed) -> None:
        """Adds a feed that is new, or removes one that nobody watches any more."""
        if self._searching:
            self._changes.append(feed)
        elif feed.is_listed:
            feed.is_listed = False
            if feed.end == feed.begin + b"\x00":
                del self._single[feed.begin]
            else:
                self._ranges.remove(feed.begin, feed.end)
        elif self._by_range.get((feed.begin, feed.end)) is feed:  # else nobody watches it any more
            feed.is_listed = True
            if feed.end == feed.begin + b"\x00":
                self._single[feed.begin] = feed
            else:
                self._ranges.add(feed.begin, feed.end, feed)


class FanOut:
    """Hands events to feeds and wakes watchers."""

    def __init__(
        self, layout: Layout, feeds: Feeds, backlog: Backlog, revision: int, left_behind: Callable[[Watcher], None]
    ) -> None:
        """`left_behind` is told of each watcher that has left its feed, to read the log."""
        self._layout = layout
        self._feeds = feeds
        self._backlog = backlog
        self._left_behind = left_behind
        # what is to be handed on, and its bytes; None for the events: they are in the log, and there alone
        self._queue: deque[tuple[int, list[StoredEvent] | None, int]] = deque()
        self._due: deque[Group] = deque()
        self._waking: Iterator[Watcher] | None = None
        self._waiting: list[tuple[int, asyncio.Future[None]]] = []
        self._reached: deque[asyncio.Future[None]] = deque()
        self.position = self.received = revision

    def receive(self, revision: int, events: list[StoredEvent] | None) -> None:
        """Takes over what has happened after `received`, up to `revision`. Linear."""
        self.received = revision
        if not len(self._feeds) and not self._queue:
            self._reach(revision)
            return
        size = 0 if events is None else sum(len(event.encoded) for event in events)
        if len(self._queue) > 1 and size + sum(queued for _, _, queued in self._queue) > self._backlog.bound:
            # the first may be under way; who has not got the others reads them in the log
            first, events, size = self._queue[0], None, 0
            self._queue.clear()
            self._queue.append(first)
        self._queue.append((revision, events, size))

    def lose(self) -> None:
        """Lets all watchers read the log: something went wrong, and what their feeds hold is not to be trusted."""
        self._queue.clear()
        self._queue.append((self.received, None, 0))

    async def reached(self, revision: int) -> None:
        """Returns once everything up to a revision has been handed on, or nothing will be any more."""
        if self.position < revision:
            reached = asyncio.get_running_loop().create_future()
            self._waiting.append((revision, reached))
            await reached

    def end(self) -> None:
        """Nothing will be handed on any more."""
        self._queue.clear()
        self._reach(1 << 63)
        while self._reached:
            _wake(self._reached.popleft())

    def steps(self) -> Iterator[float]:
        """Hands on what there is, a little at a time; yields what each step cost, in microseconds."""
        while self._queue or self._due or self._waking is not None or self._reached:
            while self._queue:
                revision, events, _ = self._queue[0]
                yield from self._leave_all(revision) if events is None else self._hand_on(events)
                self._queue.popleft()
                self._reach(revision)
                self._due.extend(self._backlog.formed)
                self._backlog.formed.clear()
                if self._backlog.size > self._backlog.bound:
                    yield from self._relieve()
            yield from self._wake_some()

    def _reach(self, revision: int) -> None:
        """Moves the position. Linear in who waits for it."""
        self.position = revision
        waiting, self._waiting = self._waiting, []
        for awaited, reached in waiting:
            if awaited > revision:
                self._waiting.append((awaited, reached))
            else:
                self._reached.append(reached)

    def _hand_on(self, events: list[StoredEvent]) -> Iterator[float]:
        layout, feeds = self._layout, self._feeds
        feeds.search()
        try:
            for event in events:
                cost = _EVENT
                for feed in feeds.of(layout.key(event.key)):
                    if feed.watchers:
                        feed.add(event)
                    cost += _MATCH
                    if cost > 100:
                        yield cost
                        cost = 0
                yield cost
        finally:
            feeds.searched()

    def _leave_all(self, revision: int) -> Iterator[float]:
        """Lets everybody read in the log who has not taken everything up to a revision."""
        for feed in self._feeds:
            yield _MATCH
            for watcher in feed.members():
                # it may have gone, or have come anew from the log at a later position
                if watcher.feed is feed and watcher.position < revision:
                    yield self._leave(feed, watcher)

    def _relieve(self) -> Iterator[float]:
        """Lets the hindmost read in the log while the feeds hold too much: those behind the middle of its revisions."""
        backlog = self._backlog
        yield from self._free_some()
        while backlog.size > backlog.bound and backlog.late:
            oldest = self.position
            for feed in list(backlog.late):
                if feed.groups:
                    oldest = min(oldest, feed.groups[0].revision)
                yield _MATCH
            middle = (oldest + self.position) // 2
            for feed in list(backlog.late):
                yield _MATCH
                for watcher in feed.late(middle):
                    yield self._leave(feed, watcher)
            yield from self._free_some()

    def _leave(self, feed: Feed, watcher: Watcher) -> float:
        watcher.position = max(watcher.position, feed.taken_up_to(watcher, self.position))
        self._feeds.leave(watcher)
        self._left_behind(watcher)
        return _WAKE if watcher.listener(watcher) else _NO_WAKE

    def _wake_some(self) -> Iterator[float]:
        woken = 0
        while woken < _WOKEN_IN_A_STEP and self._reached:
            _wake(self._reached.popleft())
            woken += 1
            yield _WAKE
        while woken < _WOKEN_IN_A_STEP and (watcher := self._next_to_wake()) is not None:
            if watcher.listener(watcher):
                woken += 1
                yield _WAKE
            else:
                yield _NO_WAKE

    def _next_to_wake(self) -> Watcher | None:
        while self._waking is not None or self._due:
            if self._waking is None:
                self._waking = _members(self._due.popleft())
            watcher = next(self._waking, None)
            if watcher is not None:
                return watcher
            self._waking = None
        return None

    def _free_some(self) -> Iterator[float]:
        while self._backlog.freed:
            yield self._backlog.free_some() * _FREE


def _members(group: Group) -> Iterator[Watcher]:
    """The watchers of a group, without those who have taken what there was before it was their turn."""
    for watcher in list(group.watchers):
        if watcher in group.watchers:
            yield watcher


def _wake(waiting: asyncio.Future[None]) -> None:
    if not waiting.done():
        waiting.set_result(None)

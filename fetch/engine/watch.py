"""Watches of one tenant in this daemon.

The log of events is the truth. The hub follows it at `position`, up to which everything has been handed on. Watchers of
the same range share a `_Feed`: what has happened in the range since its slowest watcher was served, each event encoded
once. A watcher is a position in its feed, not a queue: a slow reader costs no memory of its own, and when a feed holds
too much, those who are furthest behind leave it and read the log from storage until they have caught up. A stream takes
from each of its watchers, in one go, everything since its last turn; so answers grow when it is busy and one event goes
out at once when it is not.
"""

import asyncio
import time
from bisect import bisect_right
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from fetch import errors
from fetch.engine.batch import Delivered
from fetch.engine.layout import FIRST_REVISION, NEVER, Layout, unpack_revision
from fetch.engine.reads import View
from fetch.engine.records import StoredEvent
from fetch.stores.protocol import Store, StoreUnavailable
from fetch.stores.transaction import all_rows

_FEED_BYTES = 8 << 20
_CHUNK = 500
_SHARED_BYTES = 1 << 20
_RETRY_SECONDS = 0.5


@dataclass(slots=True, eq=False)
class Watcher:
    """One watch. `position`: everything up to this revision has been taken, and anything after it has not.

    `revision` of the start: 0 for now. `feed` is None while the watcher reads from storage. `listener` is called
    whenever there may be something to take.
    """

    begin: bytes
    end: bytes
    prev_kv: bool
    puts: bool
    deletes: bool
    listener: "Callable[[Watcher], None]"
    position: int
    feed: "_Feed | None" = None
    taken: int = 0

    def passes(self, event: StoredEvent) -> bool:
        """Whether the filters let the event through."""
        return self.deletes if event.deleted else self.puts


@dataclass(slots=True)
class Delivery:
    """What a watcher has to hear: framed events by revision, and the revision up to which that is all."""

    revisions: list[list[bytes]]
    revision: int
    joined: bytes


@dataclass(slots=True, eq=False)
class _Feed:
    """What has happened in one range since its slowest watcher was served.

    Positions in it count all events that it ever had; `dropped` of them it has let go of at its front. `late` watchers
    have not taken all of them; `joined` keeps what watchers at the same position are told, until more happens.
    `arrivals` are the positions at which events came, `times` when they did.
    """

    begin: bytes
    end: bytes
    events: list[StoredEvent] = field(default_factory=list)
    size: int = 0
    dropped: int = 0
    late: int = 0
    watchers: set[Watcher] = field(default_factory=set)
    joined: dict[tuple[int, bool], bytes] = field(default_factory=dict)
    arrivals: list[int] = field(default_factory=list)
    times: list[float] = field(default_factory=list)

    @property
    def ahead(self) -> int:
        """The position behind the last event."""
        return self.dropped + len(self.events)

    def append(self, events: Iterable[StoredEvent]) -> None:
        """Adds what has happened, and lets those who lag furthest go when it is too much to hold."""
        self.joined.clear()
        self.arrivals.append(self.ahead)
        self.times.append(time.perf_counter())
        for event in events:
            self.events.append(event)
            self.size += len(event.encoded)
        self.late = len(self.watchers)
        while self.size > _FEED_BYTES and self.watchers:
            self._expel_slowest()
        for watcher in self.watchers:
            watcher.listener(watcher)

    def take(self, watcher: Watcher) -> list[StoredEvent]:
        """What the watcher has not taken yet."""
        ahead = self.ahead
        if watcher.taken == ahead:
            return []
        events = self.events[watcher.taken - self.dropped :]
        watcher.taken = ahead
        self._served()
        return events

    def waiting_since(self, position: int) -> float:
        """When the event at a position of the feed came."""
        return self.times[bisect_right(self.arrivals, position) - 1]

    def join(self, watcher: Watcher) -> None:
        """Adds a watcher that is told of what happens from now on."""
        watcher.feed, watcher.taken = self, self.ahead
        self.watchers.add(watcher)

    def leave(self, watcher: Watcher) -> None:
        """Removes a watcher."""
        watcher.feed = None
        self.watchers.discard(watcher)
        if watcher.taken < self.ahead:
            self._served()

    def _served(self) -> None:
        self.late -= 1
        if self.late == 0:
            self.dropped = self.ahead
            self.events.clear()
            self.arrivals.clear()
            self.times.clear()
            self.size = 0

    def _expel_slowest(self) -> None:
        slowest = min(watcher.taken for watcher in self.watchers)
        for watcher in [watcher for watcher in self.watchers if watcher.taken == slowest]:
            self.leave(watcher)
            watcher.listener(watcher)
        if self.late:
            unread = min(watcher.taken for watcher in self.watchers) - self.dropped
            self.size -= sum(len(event.encoded) for event in self.events[:unread])
            self.dropped += unread
            del self.events[:unread]
            gone = bisect_right(self.arrivals, self.dropped) - 1
            del self.arrivals[:gone], self.times[:gone]


class Hub:
    """All watches of a tenant, and the one who follows its log."""

    def __init__(self, store: Store, layout: Layout, delivered: Callable[[Delivered], None]) -> None:
        """`delivered` is told of what watchers are given."""
        self._store = store
        self._layout = layout
        self._delivered = delivered
        self._feeds: dict[tuple[bytes, bytes], _Feed] = {}
        self._single: dict[bytes, _Feed] = {}
        self._ranges: dict[tuple[bytes, bytes], _Feed] = {}
        self._catching_up: list[asyncio.Future[None]] = []
        self._follower: asyncio.Task[None] | None = None
        self.position = -1
        self.watchers = 0

    async def register_key_watch(
        self,
        key: bytes,
        range_end: bytes,
        start_revision: int,
        *,
        prev_kv: bool,
        puts: bool,
        deletes: bool,
        listener: Callable[[Watcher], None],
    ) -> Watcher:
        """A watcher of the range from `start_revision` (0: from now) on. It may be in the future, or compacted: the
        latter shows when it is served."""
        await self._start()
        # now is not where this daemon is, but where the last acknowledged write of any is
        now = await self._newest() if self._store.shared and not start_revision else self.position
        begin, end = self._layout.key_range(key, range_end)
        position = max(start_revision - 1, now, self.position)
        watcher = Watcher(begin, end, prev_kv, puts, deletes, listener, position)
        self.watchers += 1
        if 0 < start_revision <= self.position:
            watcher.position = start_revision - 1
            listener(watcher)
        else:
            self._join(watcher)
        return watcher

    def cancel_key_watch(self, watcher: Watcher) -> None:
        """Ends a watch."""
        self.watchers -= 1
        self._leave(watcher)
        watcher.listener = _nobody
        if not self.watchers and self._follower is not None:
            self._follower.cancel()
            self._follower = None
            self.position = -1

    def publish(self, before: int, revision: int, events: list[StoredEvent]) -> None:
        """Hands on what this daemon has committed, after revision `before` and up to `revision`.

        Where another daemon's commits lie between, the log is read instead.
        """
        if self.position == before:
            self._advance(revision, events)

    async def take(self, watcher: Watcher) -> Delivery | None:
        """What has happened in the watcher's range since the last call, None when there is nothing.

        :raises Compacted: the log does not reach back to the watcher's position any more
        """
        if watcher.feed is None:
            return await self._replay(watcher)
        behind, watcher.position = watcher.position, max(watcher.position, self.position)
        start = watcher.taken
        if start == watcher.feed.ahead:
            return None
        lag = time.perf_counter() - watcher.feed.waiting_since(start)
        events = watcher.feed.take(watcher)
        self._delivered(Delivered(len(events), lag))
        if watcher.puts and watcher.deletes and events[0].revision > behind:
            joined = watcher.feed.joined
            delivery = _delivery(events, watcher.prev_kv, self.position, joined.get((start, watcher.prev_kv)))
            if len(delivery.joined) < _SHARED_BYTES:
                joined[start, watcher.prev_kv] = delivery.joined
            return delivery
        events = [event for event in events if event.revision > behind and watcher.passes(event)]
        return _delivery(events, watcher.prev_kv, self.position) if events else None

    def is_synced(self, watcher: Watcher) -> bool:
        """Whether everything up to the hub's position has been taken."""
        return watcher.feed is not None and watcher.taken == watcher.feed.ahead

    @property
    def behind(self) -> int:
        """The watchers that read from the log, since they started in the past or could not keep up."""
        return self.watchers - sum(len(feed.watchers) for feed in self._feeds.values())

    async def caught_up(self) -> int:
        """The newest revision of the tenant, once the hub has handed on everything up to it."""
        newest = await self._newest()
        while self.position < newest and self.watchers:
            advanced = asyncio.get_running_loop().create_future()
            self._catching_up.append(advanced)
            await advanced
        return newest

    async def _newest(self) -> int:
        with self._store.snapshot() as snapshot:
            return (await View.open(snapshot, self._layout)).revision

    async def _replay(self, watcher: Watcher) -> Delivery | None:
        """What the log has for the watcher: read until there is something to say or the hub has been caught up with."""
        layout = self._layout
        found: list[StoredEvent] = []
        while not found:
            goal = self.position
            if watcher.position >= goal:
                self._join(watcher)
                return None
            with self._store.snapshot() as snapshot:
                view = await View.open(snapshot, layout)
                if watcher.position + 1 < view.compacted:
                    raise errors.Compacted
                rows, more = await snapshot.get_range(
                    layout.event(watcher.position + 1), layout.event(goal + 1), _CHUNK
                )
                last = layout.unpack_event(rows[-1][0]) if more else goal
                if more and layout.unpack_event(rows[0][0]) == last:  # one revision fills the page: read all of it
                    rows = [row async for row in all_rows(snapshot, layout.event(last), layout.event(last + 1))]
                elif more:
                    last -= 1  # the last revision may go on behind the page: it comes with the next one
            for row, encoded in rows:
                event = StoredEvent.parse(layout.unpack_event(row), encoded)
                if event.revision > last:
                    break
                if watcher.begin <= layout.key(event.key) < watcher.end and watcher.passes(event):
                    if event.revision <= view.compacted:
                        event = StoredEvent(event.revision, event.key, encoded[: event.bare], event.bare, event.deleted)
                    found.append(event)
            watcher.position = last
        self._delivered(Delivered(len(found), None))
        return _delivery(found, watcher.prev_kv, last)

    def _join(self, watcher: Watcher) -> None:
        span = watcher.begin, watcher.end
        feed = self._feeds.get(span)
        if feed is None:
            feed = self._feeds[span] = _Feed(*span)
            if watcher.end == watcher.begin + b"\x00":
                self._single[watcher.begin] = feed
            else:
                self._ranges[span] = feed
        feed.join(watcher)

    def _leave(self, watcher: Watcher) -> None:
        feed = watcher.feed
        if feed is None:
            return
        feed.leave(watcher)
        if not feed.watchers:
            self._forget(feed)

    def _forget(self, feed: _Feed) -> None:
        """Lets go of a feed that nobody watches: it would hold whatever happens, and nobody would take it."""
        span = feed.begin, feed.end
        del self._feeds[span]
        if self._ranges.pop(span, None) is None:
            del self._single[feed.begin]

    async def _start(self) -> None:
        if self.position >= 0:
            return
        revision = await self._newest()
        if self.position < 0:
            self.position = revision
            if self._store.shared:
                self._follower = asyncio.create_task(self._follow())

    async def _follow(self) -> None:
        """Reads what other daemons commit. Sleeps until the tenant's revision changes."""
        layout = self._layout
        seen: bytes | None = None
        while True:
            try:
                await self._store.changed(layout.revision, seen)
                with self._store.snapshot() as snapshot:
                    seen, compacted = await snapshot.get_many([layout.revision, layout.compacted])
                    revision, before = unpack_revision(seen, FIRST_REVISION), self.position
                    if revision <= before:
                        continue  # it was this daemon's own commit
                    log = all_rows(snapshot, layout.event(before + 1), layout.event(revision + 1))
                    events = [StoredEvent.parse(layout.unpack_event(row), encoded) async for row, encoded in log]
                if unpack_revision(compacted, NEVER) > before + 1:
                    self._miss(revision)
                elif self.position < revision:
                    self._advance(revision, [event for event in events if event.revision > self.position])
            except StoreUnavailable:
                await asyncio.sleep(_RETRY_SECONDS)

    def _miss(self, revision: int) -> None:
        """Goes on at a revision although the log does not reach back to the position any more.

        The watchers have to find out on their own what of it concerns them: that their positions are compacted.
        """
        for feed in list(self._feeds.values()):
            for watcher in list(feed.watchers):
                self._leave(watcher)
                watcher.listener(watcher)
        self._advance(revision, [])

    def _advance(self, revision: int, events: list[StoredEvent]) -> None:
        self.position = revision
        while self._catching_up:
            advanced = self._catching_up.pop()
            if not advanced.done():
                advanced.set_result(None)
        if not self._feeds:
            return
        layout = self._layout
        matched: dict[int, tuple[_Feed, list[StoredEvent]]] = {}
        for event in events:
            row = layout.key(event.key)
            single = self._single.get(row)
            if single is not None:
                matched.setdefault(id(single), (single, []))[1].append(event)
            for feed in self._ranges.values():
                if feed.begin <= row < feed.end:
                    matched.setdefault(id(feed), (feed, []))[1].append(event)
        for feed, happened in matched.values():
            feed.append(happened)
            if not feed.watchers:  # they have all been left behind
                self._forget(feed)


def _delivery(events: list[StoredEvent], prev_kv: bool, revision: int, joined: bytes | None = None) -> Delivery:
    if joined is not None:
        return Delivery([[joined]], revision, joined)
    revisions: list[list[bytes]] = []
    last = -1
    for event in events:
        if event.revision != last:
            revisions.append([])
            last = event.revision
        revisions[-1].append(event.framed(previous=prev_kv))
    return Delivery(revisions, revision, b"".join([framed for group in revisions for framed in group]))


def _nobody(_: Watcher) -> None:
    """The listener of a watch that has ended."""

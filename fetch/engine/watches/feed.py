"""Watchers, and what has happened in their ranges since they were served.

Watchers of the same range share a `Feed`. A watcher is a position in its feed, not a queue: a slow reader costs no
memory of its own. Those who have taken everything are the feed's `idle` ones; the others stand in groups, by what they
have taken, and the feed holds what the hindmost group has not. An event is held once however many feeds hold it, and
what all feeds of a tenant hold is counted in its `Backlog`.

Every call costs the same however many watchers and events there are, or O(log n), unless it says otherwise.
"""

import itertools
import time
from bisect import bisect_left, bisect_right
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from operator import attrgetter

from fetch.engine.records import StoredEvent

BACKLOG_BYTES = 64 << 20
"""What the feeds of a tenant may hold, and a commit more for the moment that it takes to let the hindmost go."""

# what an event, a feed's reference to it, and a group cost beyond the event's bytes
_EVENT_BYTES = 200
_REFERENCE_BYTES = 8
_GROUP_BYTES = 500

_MOST_EVENTS = 2000
_FREED_AT_ONCE = 500

_revision_of = attrgetter("revision")
_position_of = attrgetter("position")


@dataclass(slots=True, eq=False)
class Watcher:
    """One watch. `position`: everything up to this revision has been taken, and anything after it has not.

    `listener` is called whenever there may be something to take, and tells whether it woke anybody. `feed` is None
    while the watcher reads the log; `found` then tells that the log has something right behind `position`. `taken` is
    its position in its feed. `ended`: it hears nothing more.
    """

    begin: bytes
    end: bytes
    prev_kv: bool
    puts: bool
    deletes: bool
    listener: "Callable[[Watcher], bool | None]"
    position: int
    feed: "Feed | None" = None
    taken: int = 0
    found: bool = False
    ended: bool = False

    @property
    def is_behind(self) -> bool:
        """Whether it reads the log."""
        return self.feed is None and not self.ended

    def passes(self, event: StoredEvent) -> bool:
        """Whether the filters let the event through."""
        return self.deletes if event.deleted else self.puts


@dataclass(slots=True)
class Joined:
    """Framed events as one, from the position of a group up to `end`. `full`: there was more than goes into one."""

    encoded: bytes
    end: int
    events: int
    revision: int
    full: bool


@dataclass(slots=True, eq=False)
class Group:
    """Watchers of a feed who have taken everything up to `position`. `revision` is that of the event behind it, which
    came at `came`. `joined` keeps what they are told, with and without previous values, while any of them waits."""

    position: int
    revision: int
    came: float
    watchers: dict[Watcher, None]
    joined: dict[bool, Joined] = field(default_factory=dict)


class Backlog:
    """What all feeds of a tenant hold, in bytes, and how much that may be.

    `formed` are groups that events have come for since they were last looked at. `freed` are events that feeds have
    let go of, too many to be freed in one go.
    """

    def __init__(self) -> None:
        self.size = 0
        self.bound = BACKLOG_BYTES
        self.late: dict[Feed, None] = {}
        self.formed: list[Group] = []
        self.freed: deque[list[StoredEvent]] = deque()

    def has_room(self, size: int) -> bool:
        """Whether so many bytes more may be held."""
        return self.size + size <= self.bound

    def free(self, events: list[StoredEvent]) -> None:
        """Takes over events that a feed has let go of. Linear up to a bound; longer ones wait for `free_some`."""
        if len(events) > _FREED_AT_ONCE:
            self.freed.append(events)
        else:
            self._free(events)

    def free_some(self) -> int:
        """Frees some of what waits to be freed; how many events."""
        events = self.freed[0]
        if len(events) > _FREED_AT_ONCE:
            some = events[-_FREED_AT_ONCE:]
            del events[-_FREED_AT_ONCE:]
        else:
            some = self.freed.popleft()
        self._free(some)
        return len(some)

    def _free(self, events: list[StoredEvent]) -> None:
        self.size -= _REFERENCE_BYTES * len(events)
        for event in events:
            event.held -= 1
            if not event.held:
                self.size -= len(event.encoded) + _EVENT_BYTES


class Feed:
    """What has happened in one range since its slowest watcher was served.

    Positions in it count all events that it ever had; `dropped` of them it has let go of at its front. `is_listed`:
    events of its range are looked up for it.
    """

    __slots__ = ("backlog", "begin", "dropped", "end", "events", "groups", "idle", "is_listed", "watchers")

    def __init__(self, begin: bytes, end: bytes, backlog: Backlog) -> None:
        self.begin = begin
        self.end = end
        self.backlog = backlog
        self.events: list[StoredEvent] = []
        self.dropped = 0
        self.idle: dict[Watcher, None] = {}
        self.groups: list[Group] = []
        self.watchers = 0
        self.is_listed = False

    @property
    def ahead(self) -> int:
        """The position behind the last event."""
        return self.dropped + len(self.events)

    def add(self, event: StoredEvent) -> None:
        """Adds what has happened. It may be taken once the hub's position has reached its revision."""
        backlog = self.backlog
        if self.idle:
            self._form(Group(self.ahead, event.revision, time.perf_counter(), self.idle))
            self.idle = {}
        if not self.events:
            backlog.late[self] = None
        self.events.append(event)
        backlog.size += _REFERENCE_BYTES
        if not event.held:
            backlog.size += len(event.encoded) + _EVENT_BYTES
        event.held += 1

    def has_more(self, watcher: Watcher, revision: int) -> bool:
        """Whether there is something up to a revision that the watcher has not taken."""
        at = watcher.taken - self.dropped
        return at < len(self.events) and self.events[at].revision <= revision

    def end_of_turn(self, watcher: Watcher, revision: int, limit: int) -> int:
        """The position up to which the watcher takes in one go, of what has happened up to a revision."""
        start = watcher.taken - self.dropped
        return self.dropped + cut(self.events, start, revision, limit)

    def between(self, start: int, end: int) -> list[StoredEvent]:
        """The events between two positions. Linear."""
        return self.events[start - self.dropped : end - self.dropped]

    def group_of(self, watcher: Watcher) -> Group:
        """The group of a watcher that has not taken everything."""
        groups = self.groups
        first = groups[0]
        return first if first.position == watcher.taken else groups[self._at(watcher.taken)]

    def move(self, watcher: Watcher, end: int, position: int) -> None:
        """Notes that the watcher has taken everything up to `end`; `position` is the hub's."""
        group = self.group_of(watcher)
        del group.watchers[watcher]
        watcher.taken = end
        if end == self.ahead:
            self.idle[watcher] = None
        else:
            at = self._at(end)
            if at < len(self.groups) and self.groups[at].position == end:
                self.groups[at].watchers[watcher] = None
            else:
                revision = self.events[end - self.dropped].revision
                self._form(Group(end, revision, group.came, {watcher: None}), at, is_due=revision > position)
        if not group.watchers:
            self._dissolve(group)

    def join(self, watcher: Watcher) -> None:
        """Adds a watcher that is told of what happens from now on."""
        watcher.feed, watcher.taken = self, self.ahead
        self.idle[watcher] = None
        self.watchers += 1

    def leave(self, watcher: Watcher) -> None:
        """Removes a watcher."""
        watcher.feed = None
        self.watchers -= 1
        if watcher in self.idle:
            del self.idle[watcher]
            return
        group = self.group_of(watcher)
        del group.watchers[watcher]
        if not group.watchers:
            self._dissolve(group)

    def keep(self, group: Group, joined: Joined, *, prev_kv: bool) -> None:
        """Keeps what a watcher of the group was told for the others of it."""
        self._forget_joined(group, prev_kv=prev_kv)
        group.joined[prev_kv] = joined
        self.backlog.size += len(joined.encoded)

    def taken_up_to(self, watcher: Watcher, position: int) -> int:
        """The revision up to which the watcher has taken everything, where the hub's position is `position`."""
        return position if watcher in self.idle else self.group_of(watcher).revision - 1

    def members(self) -> list[Watcher]:
        """All watchers. Linear."""
        return [*itertools.chain(*(group.watchers for group in self.groups), self.idle)]

    def late(self, revision: int) -> Iterator[Watcher]:
        """The watchers that have not taken all up to a revision, hindmost first. They may leave meanwhile."""
        while self.groups and self.groups[0].revision <= revision:
            group = self.groups[0]
            for watcher in list(group.watchers):
                if watcher in group.watchers:
                    yield watcher

    def _form(self, group: Group, at: int | None = None, *, is_due: bool = True) -> None:
        self.groups.insert(len(self.groups) if at is None else at, group)
        self.backlog.size += _GROUP_BYTES
        if is_due:
            self.backlog.formed.append(group)

    def _dissolve(self, group: Group) -> None:
        """Forgets a group that nobody is in any more, and what was held for it alone. Linear in what that is."""
        self._forget_joined(group, prev_kv=True)
        self._forget_joined(group, prev_kv=False)
        self.backlog.size -= _GROUP_BYTES
        del self.groups[self._at(group.position)]
        kept_from = self.groups[0].position if self.groups else self.ahead
        count = kept_from - self.dropped
        if not count:
            return
        if count == len(self.events):
            gone, self.events = self.events, []
            del self.backlog.late[self]
        else:
            gone = self.events[:count]
            del self.events[:count]
        self.dropped = kept_from
        self.backlog.free(gone)

    def _forget_joined(self, group: Group, *, prev_kv: bool) -> None:
        joined = group.joined.pop(prev_kv, None)
        if joined is not None:
            self.backlog.size -= len(joined.encoded)

    def _at(self, position: int) -> int:
        return bisect_left(self.groups, position, key=_position_of)


def cut(events: Sequence[StoredEvent], start: int, revision: int, limit: int) -> int:
    """Where what is told in one go ends: whole revisions up to `revision`, at most `limit` bytes but at least one.

    Looks at no more events than that, and at no more than a bound.
    """
    at, size = start, 0
    stop = min(len(events), start + _MOST_EVENTS)
    while at < stop and size < limit and events[at].revision <= revision:
        size += len(events[at].encoded)
        at += 1
    if at == start or (size <= limit and (at == len(events) or events[at].revision != events[at - 1].revision)):
        return at
    last = events[at - 1].revision
    first = bisect_left(events, last, start, at, key=_revision_of)
    return first if first > start else bisect_right(events, last, at, key=_revision_of)

"""Reading keys at a revision.

The newest revision is one range read of `keys`. An older revision R is the same range read, corrected by the range's
history: of each key that something superseded after R, the first such event holds the value that the key had at R. A
key's history rows lie in order of their revisions, so that one is a seek away, however many versions lie before and
behind it: a read at R costs by the keys that it looks at.

A long read is a series of pages. Between them it takes turns with others' work, and when its snapshot has grown old it
goes on with a new one, at the same revision: what has changed since is then read from the history.
"""

import asyncio
import contextlib
import heapq
import itertools
import time
from collections import OrderedDict, deque
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from fetch import errors
from fetch.api.rpc_pb2 import RangeRequest
from fetch.engine.layout import FIRST_REVISION, NEVER, Layout, pack_revision, unpack_revision, unpack_sub
from fetch.engine.records import StoredEvent, key_of, mod_revision_of, numbers_of, value_of, without_value
from fetch.engine.turns import Work
from fetch.stores.protocol import SnapshotExpired, Store
from fetch.stores.transaction import Source

T = TypeVar("T")

EVERYTHING = 1 << 62
LARGE_BYTES = 32 << 20
"""Answers beyond are made one after the other, of one tenant."""

_PAGE = 1000
_PAGE_BYTES = 1 << 20
_BRIEF = 100
"""The rows that a read may look at without taking turns: 0.1 ms."""

_FEWEST = 16
"""The least rows of the history that are read at once: about what a seek costs."""

_MOST_PIECES = 20_000
_SORTED_BYTES = 1 << 20
_COUNTED_AT_ONCE = 5000
_EVENTS_AT_ONCE = 500
_MOST_EVENTS_COUNTED = 2000
_MOST_COUNTS = 1024
_SNAPSHOT_SECONDS = 1.0
"""How long one snapshot is read: LMDB uses none of the pages again that a snapshot sees, FoundationDB ends it."""

_TRIES = 3
_REVISION_BYTES = 8


@dataclass(slots=True)
class View:
    """A tenant at one moment: `revision` is the newest then, and reads go back as far as `compacted`.

    `source` is where it is read. With `reopen` that is another snapshot from time to time, in which `newest` is the
    newest revision. `work` is what the reading is part of. `room` is for how many bytes of answers there still is, and
    `pieces` are those that the answers so far consist of. `large` is what a tenant's large answers take turns by.
    """

    source: Source
    layout: Layout
    revision: int
    compacted: int
    work: Work | None = None
    reopen: Callable[[], Source] | None = None
    room: int = EVERYTHING
    pieces: int = 0
    large: asyncio.Lock | None = None
    newest: int = field(init=False)
    _renewal: float = field(init=False, default=0.0)
    _made: int = field(init=False, default=0)
    _is_large: bool = field(init=False, default=False)

    def __post_init__(self) -> None:
        self.newest = self.revision
        if self.reopen is not None:
            self._renewal = time.perf_counter() + _SNAPSHOT_SECONDS

    @classmethod
    async def open(cls, source: Source, layout: Layout) -> "View":
        """The view of a tenant in a snapshot."""
        return cls(source, layout, *await _revisions(source, layout))

    def check(self, revision: int) -> None:
        """Raises what etcd answers for a revision that cannot be read.

        :raises FutureRevision: :raises Compacted: OUT_OF_RANGE
        """
        if revision > self.revision:
            raise errors.FutureRevision
        if 0 < revision < self.compacted:
            raise errors.Compacted

    async def pause(self) -> None:
        """Lets others run when the slice is over. What is read stays the same: the snapshot is held on to."""
        if self.work is not None and self.work.is_spent():
            await self.work.give_way()

    async def go_on(self, revision: int) -> None:
        """To be called between two pages of what is read at a revision: pauses, and renews what has grown old.

        :raises Compacted: compaction has overtaken the revision
        """
        await self.pause()
        if self.reopen is not None and time.perf_counter() >= self._renewal:
            await self.renew(revision)

    async def renew(self, revision: int) -> None:
        """Goes on in a new snapshot. Nothing that was read before may be relied on, but what was read at a revision.

        :raises Compacted: compaction has overtaken the revision
        """
        if self.reopen is None:
            return
        self.source = self.reopen()
        self.newest, self.compacted = await _revisions(self.source, self.layout)
        self._renewal = time.perf_counter() + _SNAPSHOT_SECONDS
        self.check(revision)

    def require_room(self, size: int) -> None:
        """Raises what a gRPC server answers instead of a message that is too large.

        :raises ResponseTooLarge: RESOURCE_EXHAUSTED
        """
        if size > self.room:
            raise errors.ResponseTooLarge

    async def require_room_for(self, size: int) -> None:
        """The same, of an answer that grows. Once it is large it waits until no other of its tenant's is being made:
        how large they become shows only then, and together they would have no bound.

        :raises ResponseTooLarge: RESOURCE_EXHAUSTED
        """
        self.require_room(size)
        if self.large is not None and not self._is_large and self._made + size > LARGE_BYTES:
            await self.large.acquire()
            self._is_large = True

    def take_room(self, size: int) -> None:
        """The same, and leaves so many bytes less for what else the answer has."""
        self.require_room(size)
        self.room -= size
        self._made += size

    def close(self) -> None:
        """Lets the next large answer be made."""
        if self.large is not None and self._is_large:
            self._is_large = False
            self.large.release()


@contextlib.asynccontextmanager
async def lasting_view(store: Store, layout: Layout, work: Work) -> AsyncIterator[View]:
    """A view for a long read, which holds one snapshot at a time and none of them for long."""
    with contextlib.ExitStack() as held:

        def reopen() -> Source:
            held.close()
            return held.enter_context(store.snapshot())

        source = reopen()
        yield View(source, layout, *await _revisions(source, layout), work, reopen)


@dataclass(slots=True)
class Found:
    """The answer to a range: its stored frames in their order, many of a large answer in one piece, how many keys the
    range has, at what revision it was served, and the bytes of the frames."""

    frames: list[bytes]
    more: bool
    count: int
    revision: int
    size: int = 0


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
        if len(self._known) > _MOST_COUNTS:
            self._known.popitem(last=False)

    def is_large(self, begin: bytes, end: bytes) -> bool:
        """Whether rows [begin, end) were last found to be more than a page of a brief read. May have changed since."""
        known = self._known.get((begin, end))
        return known is not None and known[1] > _BRIEF

    async def count(self, view: View, begin: bytes, end: bytes, revision: int) -> int:
        """The number of keys of rows [begin, end) at a revision that the view can read."""
        try:
            found = await self._from_known(view, begin, end, revision, _MOST_EVENTS_COUNTED)
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
        found = await self._from_known(view, begin, end, revision, _BRIEF)
        if found is None and revision == view.newest:
            count, upper = await view.source.count_range(begin, end, _BRIEF)
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
        balance = await _balance(view, begin, end, known[0], revision, min(most, max(_BRIEF, known[1])))
        return None if balance is None else known[1] + balance


async def collect(view: View, begin: bytes, end: bytes, limit: int, revision: int) -> tuple[list[bytes], bytes, bool]:
    """At most `limit` frames of the rows [begin, end) at a revision, where to go on, and whether there is more.

    Reads one page of one snapshot; `more` without a full `limit` asks the caller to go on from the returned row.
    """
    if revision == view.newest:
        rows, more = await view.source.get_range(begin, end, min(limit, _PAGE))
        return [value for _, value in rows], rows[-1][0] + b"\x00" if more else end, more
    found, upper, more = await _as_of(view, begin, end, min(max(limit, _BRIEF), _PAGE), revision)
    if len(found) > limit:
        found = found[:limit]
        return [stored for _, stored in found], found[-1][0] + b"\x00", True
    return [stored for _, stored in found], upper, more


async def page(view: View, begin: bytes, end: bytes, limit: int, revision: int) -> tuple[list[bytes], bytes, bool]:
    """See `collect`. Reads the page again in a new snapshot if the view's has expired and can be renewed."""
    for _ in range(_TRIES - 1):
        try:
            return await collect(view, begin, end, limit, revision)
        except SnapshotExpired:
            if view.reopen is None:
                raise
            await view.renew(revision)
    return await collect(view, begin, end, limit, revision)


async def pages(view: View, begin: bytes, end: bytes, limit: int, revision: int) -> AsyncIterator[list[bytes]]:
    """All frames of the rows [begin, end) at a revision up to `limit`, in pages.

    :raises Compacted: also midway, when compaction overtakes the revision of a view that is renewed
    """
    more = begin < end
    while more and limit > 0:
        frames, begin, more = await page(view, begin, end, limit, revision)
        limit -= len(frames)
        yield frames
        if more and limit > 0:
            await view.go_on(revision)


async def find(view: View, request: RangeRequest, counts: Counts) -> Found:
    """Answers a range request as etcd does (`server/etcdserver/txn/range.go`), the request having been validated.

    :raises FutureRevision: :raises Compacted: OUT_OF_RANGE :raises ResponseTooLarge: RESOURCE_EXHAUSTED
    """
    view.check(request.revision)
    revision = request.revision if request.revision > 0 else view.revision
    view.check(revision)  # a view that was renewed may have left its own revision behind
    begin, end = view.layout.key_range(request.key, request.range_end)
    if begin >= end:
        return Found([], False, 0, view.revision)
    if request.count_only:
        return Found([], False, await counts.count(view, begin, end, revision), view.revision)
    wanted = needed(request)
    gathering = _Gathering(request, view.pieces)
    async for frames in pages(view, begin, end, wanted, revision):
        gathering.add(frames)
        await gathering.settle(view)
        await view.require_room_for(gathering.size)
    if gathering.read < wanted:
        count = gathering.read
        counts.remember(begin, end, revision, count)
    else:
        count = await counts.count(view, begin, end, revision)
    found = Found(await gathering.arranged(view), gathering.more, count, view.revision, gathering.size)
    gathering.remember_rest(view.layout, end, revision, count, counts)
    return found


async def find_briefly(view: View, request: RangeRequest, counts: Counts) -> Found | None:
    """The answer to a range request as `find` gives it, if that takes a few rows; None without having read many more.

    :raises FutureRevision: :raises Compacted: OUT_OF_RANGE :raises ResponseTooLarge: RESOURCE_EXHAUSTED
    """
    view.check(request.revision)
    revision = request.revision if request.revision > 0 else view.revision
    begin, end = view.layout.key_range(request.key, request.range_end)
    if begin >= end:
        return Found([], False, 0, view.revision)
    if request.count_only:
        counted = await counts.count_briefly(view, begin, end, revision)
        return None if counted is None else Found([], False, counted, view.revision)
    if revision < view.newest and not _is_one_key(begin, end):
        return None
    wanted = needed(request)
    frames, _, more = await collect(view, begin, end, min(wanted, _BRIEF), revision)
    if len(frames) < wanted and more:
        return None
    count = await counts.count_briefly(view, begin, end, revision) if len(frames) == wanted else len(frames)
    if count is None:
        return None
    gathering = _Gathering(request, view.pieces)
    gathering.add(frames)
    found = Found(await gathering.arranged(view), gathering.more, count, view.revision, gathering.size)
    gathering.remember_rest(view.layout, end, revision, count, counts)
    return found


def needed(request: RangeRequest) -> int:
    """How many keys of the range have to be read for its answer: one more than the limit, unless sorting or filtering
    comes first. A sort target without an order sorts what the limit has left, as in etcd."""
    default_order = request.sort_order == RangeRequest.NONE or _is_by_key(request)
    return request.limit + 1 if request.limit > 0 and default_order and not is_filtered(request) else EVERYTHING


def is_filtered(request: RangeRequest) -> bool:
    """Whether the request leaves keys out by their revisions."""
    return bool(
        request.min_mod_revision
        or request.max_mod_revision
        or request.min_create_revision
        or request.max_create_revision
    )


def without_values(frames: Sequence[bytes], *, keep_lease: bool = False) -> list[bytes]:
    """The frames as `keys_only` has them. etcd 3.7 answers it from its index, which knows no leases."""
    return [without_value(stored, keep_lease=keep_lease) for stored in frames]


_SORT_KEYS: dict[int, Callable[[bytes], int | bytes]] = {
    RangeRequest.KEY: key_of,
    RangeRequest.VERSION: lambda stored: numbers_of(stored)[2],
    RangeRequest.CREATE: lambda stored: numbers_of(stored)[0],
    RangeRequest.MOD: mod_revision_of,
    RangeRequest.VALUE: value_of,
}


class _Gathering:
    """What an answer is made of: takes pages in order of their keys, and keeps little more of them than it needs.

    It filters, then sorts, then cuts, as etcd does. Without an order, another target than the key means ascending.
    """

    __slots__ = (
        "_by_key", "_descending", "_is_filtered", "_kept", "_last", "_limit", "_others", "_pages", "_passed", "_pieces",
        "_request", "_runs", "_settled", "_sort_key", "_strips", "_strips_late", "read",
    )  # fmt: skip

    def __init__(self, request: RangeRequest, others: int) -> None:
        """`others` are the pieces of other answers that will be let go of together with this one."""
        self._others = others
        self._request = request
        self._limit = request.limit if request.limit > 0 else EVERYTHING
        self._is_filtered = is_filtered(request)
        self._by_key = request.sort_target == RangeRequest.KEY
        self._descending = request.sort_order == RangeRequest.DESCEND
        self._sort_key = _SORT_KEYS[request.sort_target]
        # a value that decides about the order is needed until that is known
        self._strips_late = request.keys_only and request.sort_target == RangeRequest.VALUE
        self._strips = request.keys_only and not self._strips_late
        self._passed = 0
        self._last = b""
        # what is in order of the answer; else the last pages of it in order of their keys, or sorted runs
        self._pieces: list[bytes] = []
        self._pages: deque[list[bytes]] = deque()
        self._runs: list[list[bytes]] = []
        self._kept = self._settled = (0, 0)
        self.read = 0

    @property
    def more(self) -> bool:
        """Whether the limit has cut something."""
        return self._passed > self._limit

    @property
    def size(self) -> int:
        """The bytes that are kept."""
        return self._kept[1]

    def add(self, frames: list[bytes]) -> None:
        """Takes a page, of at most `_PAGE` frames."""
        self.read += len(frames)
        if self._is_filtered:
            frames = [stored for stored in frames if _passes(self._request, stored)]
        room = self._limit - self._passed
        self._passed += len(frames)
        if self._strips:
            frames = without_values(frames)
        if not self._by_key:
            frames.sort(key=self._sort_key, reverse=self._descending)
            del frames[self._limit :]
            self._runs.append(frames)
        elif self._descending:
            self._pages.append(frames)
            while self._kept[0] - len(self._pages[0]) + len(frames) >= self._limit:
                self._keep(self._pages.popleft(), -1)
        elif room > 0:
            del frames[room:]
            self._last = frames[-1] if frames else self._last
            self._append(frames)
        else:
            return
        self._keep(frames, 1)

    async def settle(self, view: View) -> None:
        """Drops of what is sorted by something else than the key what the limit will cut, whenever it has doubled."""
        if self._limit == EVERYTHING or not self._runs:
            return
        (kept, size), (settled, settled_size) = self._kept, self._settled
        if kept > 2 * settled + _PAGE or size > 2 * settled_size + 4 * _PAGE_BYTES:
            run = [stored async for page in self._sorted(view) for stored in page]
            self._runs = [run]
            self._kept = self._settled = (len(run), sum(map(len, run)))

    async def arranged(self, view: View) -> list[bytes]:
        """The answer's frames. Takes turns, within the view's snapshot."""
        if self._runs or self._pages:
            async for frames in self._sorted(view):
                self._append(without_values(frames, keep_lease=True) if self._strips_late else frames)
            self._runs.clear()
            self._pages.clear()
            size = sum(map(len, self._pieces))
            self._kept = len(self._pieces), size
        view.take_room(self._kept[1])
        view.pieces += len(self._pieces)
        return self._pieces

    def remember_rest(self, layout: Layout, end: bytes, revision: int, count: int, counts: Counts) -> None:
        """Remembers the count of what lies behind a page of a list: the next one asks for it."""
        if self.more and self._by_key and not self._descending and not self._is_filtered:
            counts.remember(layout.key(key_of(self._last)) + b"\x00", end, revision, count - self._limit)

    def _append(self, frames: list[bytes]) -> None:
        """Adds to the answer. To join a page costs as much as to join the answer again, but lets go of its frames now:
        for all those of a large answer at once that would take as long as the loop may be held."""
        if self._others + len(self._pieces) < _MOST_PIECES:
            self._pieces += frames
        else:
            self._pieces.append(b"".join(frames))

    def _keep(self, frames: list[bytes], sign: int) -> None:
        kept, size = self._kept
        self._kept = kept + sign * len(frames), size + sign * sum(map(len, frames))

    async def _sorted(self, view: View) -> AsyncIterator[list[bytes]]:
        """The first of what is kept in the order of the answer, up to the limit, in small pages."""
        ordered: Iterator[bytes]
        if self._by_key:
            ordered = (stored for page in _drained(self._pages) for stored in _drained(page))
        else:
            # equal ones stay in order of their keys
            for run in self._runs:
                run.reverse()
            ordered = heapq.merge(*map(_drained, self._runs), key=self._sort_key, reverse=self._descending)
        page: list[bytes] = []
        room = _SORTED_BYTES
        for stored in itertools.islice(ordered, min(self._limit, self._passed)):
            page.append(stored)
            room -= len(stored)
            if len(page) == _BRIEF or room <= 0:
                yield page
                page, room = [], _SORTED_BYTES
                await view.pause()
        yield page


def _drained(items: list[T] | deque[T]) -> Iterator[T]:
    """The items from the last one on, each of them let go of as it is taken: all at once would take long."""
    while items:
        yield items.pop()


def _is_by_key(request: RangeRequest) -> bool:
    return request.sort_target == RangeRequest.KEY and request.sort_order != RangeRequest.DESCEND


def _is_one_key(begin: bytes, end: bytes) -> bool:
    return end == begin + b"\x00"


def _passes(request: RangeRequest, stored: bytes) -> bool:
    create, mod, _ = numbers_of(stored)
    return not (
        (request.max_mod_revision and mod > request.max_mod_revision)
        or (request.min_mod_revision and mod < request.min_mod_revision)
        or (request.max_create_revision and create > request.max_create_revision)
        or (request.min_create_revision and create < request.min_create_revision)
    )


async def _revisions(source: Source, layout: Layout) -> tuple[int, int]:
    """The newest and the compacted revision."""
    revision, compacted = await source.get_many([layout.revision, layout.compacted])
    return unpack_revision(revision, FIRST_REVISION), unpack_revision(compacted, NEVER)


async def _as_of(
    view: View, begin: bytes, end: bytes, limit: int, revision: int
) -> tuple[list[tuple[bytes, bytes]], bytes, bool]:
    """Rows of [begin, end) as they were at an older revision, where to go on, and whether there is more.

    Looks at up to `limit` keys that there are now and as many that were changed or deleted since, and at about
    `_PAGE_BYTES` of what these were. A key that has not changed since is found where it is; one that has in the
    event that superseded what it was; one that was created since is in neither.
    """
    rows, more = await view.source.get_range(begin, end, limit)
    upper = rows[-1][0] + b"\x00" if more else end
    changed, is_cut = await _superseded(view, begin, upper, limit, revision)
    if is_cut:
        upper, more = changed[-1][0] + b"\x00", True
    found = {row: stored for row, stored in rows if row < upper and mod_revision_of(stored) <= revision}
    await view.pause()
    done = size = 0
    at_once = 4
    while done < len(changed):
        if size >= _PAGE_BYTES:
            upper, more = changed[done][0], True
            return sorted(item for item in found.items() if item[0] < upper), upper, more
        group = changed[done : done + at_once]
        events = await view.source.get_many([event for _, event in group])
        for (row, _), encoded in zip(group, events, strict=True):
            if encoded is None:
                raise errors.Corrupt
            size += len(encoded)
            previous = StoredEvent.parse(0, encoded).previous()
            if previous is not None and mod_revision_of(previous) <= revision:
                found[row] = previous
        done += len(group)
        at_once = max(1, min(4 * at_once, (_PAGE_BYTES - size) * done // max(size, 1)))
        await view.pause()
    return sorted(found.items()), upper, more


async def _superseded(
    view: View, begin: bytes, end: bytes, limit: int, revision: int
) -> tuple[list[tuple[bytes, bytes]], bool]:
    """The first `limit` keys of rows [begin, end) that something has superseded after a revision, each as its row and
    that of the first such event, and whether there may be more.

    Reads each key's history from where it is or from behind the revision, and only the beginning of it: pages are as
    small as a seek is dear while keys have many versions, and grow while they have few.
    """
    layout = view.layout
    first, last = layout.history_range(begin, end)
    if _is_one_key(begin, end):
        first = layout.history_row(begin[len(layout.keys) :], revision + 1)
    newest_left_out = pack_revision(revision)
    changed: list[tuple[bytes, bytes]] = []
    of, is_decided = b"", False
    at_once, more = 1 if _is_one_key(begin, end) else _FEWEST, True
    while more:
        rows, more = await view.source.get_range(first, last, at_once)
        keys = 0
        for row, stored in rows:
            if row[:-_REVISION_BYTES] != of:
                of, is_decided = row[:-_REVISION_BYTES], False
                keys += 1
            if is_decided or row[-_REVISION_BYTES:] <= newest_left_out:
                continue
            is_decided = True
            key, superseded_at = layout.unpack_history(row)
            changed.append((layout.key(key), layout.event(superseded_at, unpack_sub(stored))))
            if len(changed) == limit:
                return changed, True
        if more:
            key, _ = layout.unpack_history(rows[-1][0])
            first = layout.behind_history_of(key) if is_decided else layout.history_row(key, revision + 1)
            at_once = max(_FEWEST, min(8 * keys, _PAGE))
        await view.pause()
    return changed, False


async def _counted(view: View, begin: bytes, end: bytes, revision: int) -> int:
    """The number of keys of rows [begin, end) at a revision: those of now, less what events have changed since; or,
    where there are more events than keys, those that there were then, looked at one by one."""
    count, position = 0, begin
    try:
        # in one snapshot: a sum over several would be of no revision
        while position < end:
            counted, position = await view.source.count_range(position, end, _COUNTED_AT_ONCE)
            count += counted
            await view.pause()
        balance = await _balance(view, begin, end, view.newest, revision, max(_BRIEF, count))
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
        rows, more = await view.source.get_range(position, behind, min(most + 1, _EVENTS_AT_ONCE))
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

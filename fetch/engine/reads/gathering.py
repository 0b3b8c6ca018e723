"""What an answer to a range is made of: filtered, sorted, and cut at its limit."""

import heapq
import itertools
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from typing import TypeVar

from fetch.api.rpc_pb2 import RangeRequest
from fetch.engine.layout import Layout
from fetch.engine.reads import bounds
from fetch.engine.reads.counts import Counts
from fetch.engine.reads.view import EVERYTHING, View
from fetch.engine.records import key_of, mod_revision_of, numbers_of, value_of, without_value
from fetch.engine.requests import is_filtered

T = TypeVar("T")


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


class Gathering:
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
        """Takes a page, of at most `bounds.PAGE` frames."""
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
        if kept > 2 * settled + bounds.PAGE or size > 2 * settled_size + 4 * bounds.PAGE_BYTES:
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
        if self._others + len(self._pieces) < bounds.MOST_PIECES:
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
        room = bounds.SORTED_BYTES
        for stored in itertools.islice(ordered, min(self._limit, self._passed)):
            page.append(stored)
            room -= len(stored)
            if len(page) == bounds.BRIEF or room <= 0:
                yield page
                page, room = [], bounds.SORTED_BYTES
                await view.pause()
        yield page


def _drained(items: list[T] | deque[T]) -> Iterator[T]:
    """The items from the last one on, each of them let go of as it is taken: all at once would take long."""
    while items:
        yield items.pop()


def _passes(request: RangeRequest, stored: bytes) -> bool:
    create, mod, _ = numbers_of(stored)
    return not (
        (request.max_mod_revision and mod > request.max_mod_revision)
        or (request.min_mod_revision and mod < request.min_mod_revision)
        or (request.max_create_revision and create > request.max_create_revision)
        or (request.min_create_revision and create < request.min_create_revision)
    )

"""Sorts by number what does not fit into memory: sorted runs in files, merged.

At most a few mebibytes of items are held. When there are `_FAN` runs of one size they become one of the next size, so
that there are never many, and each item is written once for each power of `_FAN` in the number of pages. Items with
the same number stay in the order in which they came.
"""

import heapq
import struct
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from fetch.engine.turns import Work
from fetch.snapshots.spool import Spool

Item = tuple[int, bytes]

_FAN = 16
_HELD_BYTES = 4 << 20
_BUFFER_BYTES = 64 << 10
_WRITTEN_BYTES = 256 << 10
_YIELDED = 250
_HEAD = struct.Struct("<QI")


class Sorter:
    """What is to be sorted: pages of items go in, then all of them come out."""

    def __init__(self, directory: Path | None, work: Work) -> None:
        """Runs lie in `directory`; between slices `work` gives way."""
        self._directory = directory
        self._work = work
        self._pages: list[list[Item]] = []
        self._held = 0
        self._runs: list[_Run] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        for run in self._runs:
            run.spool.close()

    async def add(self, page: list[Item]) -> None:
        """Takes a page of at most some 1000 items: more would take the event loop too long to sort.

        :raises OSError:
        """
        page.sort(key=_number)
        self._pages.append(page)
        self._held += sum(len(data) for _, data in page)
        if len(self._pages) >= _FAN or self._held >= _HELD_BYTES:
            await self._store()
        await self._work.pause()

    async def sorted(self) -> AsyncIterator[list[Item]]:
        """All items in order of their numbers, in small pages.

        :raises OSError:
        """
        sources: list[_StoredRun | _HeldRun] = [
            *(_StoredRun(run) for run in self._runs),
            *(_HeldRun(page) for page in self._pages),
        ]
        async for items in _merged(sources):
            yield items
            await self._work.pause()

    async def _store(self) -> None:
        """Makes a run of the pages that are held, and one of the last runs if there are enough of a size."""
        self._runs.append(await self._run([_HeldRun(page) for page in self._pages], 0))
        self._pages, self._held = [], 0
        while len(last := self._runs[-_FAN:]) == _FAN and last[0].height == last[-1].height:
            merged = await self._run([_StoredRun(run) for run in last], last[0].height + 1)
            for run in last:
                run.spool.close()
            self._runs[-_FAN:] = [merged]

    async def _run(self, sources: Sequence["_StoredRun | _HeldRun"], height: int) -> "_Run":
        spool = Spool(self._directory)
        try:
            pieces: list[bytes] = []
            size = 0
            async for items in _merged(sources):
                for number, data in items:
                    pieces += (_HEAD.pack(number, len(data)), data)
                    size += len(data)
                if size >= _WRITTEN_BYTES:
                    await spool.append(pieces)
                    pieces, size = [], 0
                await self._work.pause()
            await spool.append(pieces)
        except BaseException:
            spool.close()
            raise
        return _Run(spool, height)


@dataclass(frozen=True, slots=True)
class _Run:
    """A sorted run in a file. `height` tells its size: it was merged so many times."""

    spool: Spool
    height: int


class _HeldRun:
    """The items of a sorted page."""

    def __init__(self, page: list[Item]) -> None:
        self._page: list[Item] | None = page

    async def read(self) -> list[Item]:
        """The next items; none at the end."""
        page, self._page = self._page or [], None
        return page


class _StoredRun:
    """The items of a run in a file."""

    def __init__(self, run: _Run) -> None:
        self._spool = run.spool
        self._position = 0

    async def read(self) -> list[Item]:
        """The next items; none at the end."""
        size = _BUFFER_BYTES
        while self._position < self._spool.size:
            data = await self._spool.read(self._position, size)
            items: list[Item] = []
            at = 0
            while at + _HEAD.size <= len(data):
                number, length = _HEAD.unpack_from(data, at)
                end = at + _HEAD.size + length
                if end > len(data):
                    size = end - at
                    break
                items.append((number, data[at + _HEAD.size : end]))
                at = end
            if items:
                self._position += at
                return items
            # a single item that is larger than what was read
        return []


async def _merged(sources: Sequence[_StoredRun | _HeldRun]) -> AsyncIterator[list[Item]]:
    """The items of sorted sources in order, those of earlier sources first where numbers are the same."""
    heads: list[tuple[int, int, int]] = []
    pages: list[list[Item]] = []
    for index, source in enumerate(sources):
        page = await source.read()
        pages.append(page)
        if page:
            heads.append((page[0][0], index, 0))
    heapq.heapify(heads)
    merged: list[Item] = []
    while heads:
        _, index, at = heads[0]
        page = pages[index]
        merged.append(page[at])
        at += 1
        if at == len(page):
            page, at = await sources[index].read(), 0
            pages[index] = page
        if page:
            heapq.heapreplace(heads, (page[at][0], index, at))
        else:
            heapq.heappop(heads)
        if len(merged) == _YIELDED:
            yield merged
            merged = []
    if merged:
        yield merged


def _number(item: Item) -> int:
    return item[0]

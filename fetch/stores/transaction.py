"""A transaction: writes kept in memory over a snapshot, until the store commits them as one.

The same for all stores. Reads see the transaction's own writes. `mark` and `rollback` undo the writes of one
operation among several that share the transaction, which is what group commit needs when one of them is refused.
"""

import itertools
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from typing import Protocol

from sortedcontainers import SortedList

from fetch.spans import Spans
from fetch.stores.snapshot import Row, Snapshot

_EVERYTHING = 1 << 62
_PAGE = 1000
_LEAST = 100
"""Rows that are read at once where few are wanted: those before them may be cleared."""


class Source(Protocol):
    """What is read from: a snapshot, or a transaction under way."""

    async def get(self, key: bytes) -> bytes | None: ...
    async def get_many(self, keys: Sequence[bytes]) -> list[bytes | None]: ...
    async def get_range(self, begin: bytes, end: bytes, limit: int) -> tuple[list[Row], bool]: ...
    async def count_range(self, begin: bytes, end: bytes, limit: int) -> tuple[int, bytes]: ...


async def all_rows(source: Source, begin: bytes, end: bytes) -> AsyncIterator[Row]:
    """All rows of [begin, end), read in pages."""
    more = True
    while more:
        rows, more = await source.get_range(begin, end, _PAGE)
        for row in rows:
            yield row
        if more:
            begin = rows[-1][0] + b"\x00"


class Transaction:
    """Reads at a snapshot, writes on top.

    `writes` maps keys to their new values (None: cleared); `cleared` are the spans that are cleared before `writes` are
    applied; `conflicts` maps keys to the values that they must still have when the transaction commits. `largest` are
    the bytes that the store commits at once. `pause` is awaited between the pages of a long read: whoever runs the
    transaction may let others go on meanwhile, since neither the snapshot nor these writes change by that.

    Reads and writes of single keys cost the same however much has been written. The written keys are put in order when
    a range is read for the first time after something was written, and kept so from then on.
    """

    __slots__ = (
        "_clears", "_known", "_ordered", "_snapshot", "_undo", "cleared", "conflicts", "largest", "pause", "writes",
    )  # fmt: skip

    def __init__(self, snapshot: Snapshot) -> None:
        self._snapshot = snapshot
        self._known: dict[bytes, bytes | None] = {}
        self._undo: list[tuple[bytes, bytes | None, bool]] = []
        self._ordered: SortedList[bytes] | None = None
        self._clears = False  # a call of `cleared` takes longer than all else that `get` does
        self.writes: dict[bytes, bytes | None] = {}
        self.cleared = Spans()
        self.conflicts: dict[bytes, bytes | None] = {}
        self.largest = _EVERYTHING
        self.pause: Callable[[], Awaitable[None]] = _no_pause

    async def get(self, key: bytes) -> bytes | None:
        """The value of the key as this transaction leaves it so far."""
        if key in self.writes:
            return self.writes[key]
        if self._clears and key in self.cleared:
            return None
        if key in self._known:
            return self._known[key]
        return await self._snapshot.get(key)

    async def get_many(self, keys: Sequence[bytes]) -> list[bytes | None]:
        """The values of the keys as this transaction leaves them so far, in one round trip."""
        stored = [key for key in keys if not (key in self.writes or key in self._known or key in self.cleared)]
        if stored:
            await self.prefetch(stored)
        return [await self.get(key) for key in keys]

    async def prefetch(self, keys: Sequence[bytes]) -> None:
        """Reads the keys in one round trip, so that `get` of any of them takes none."""
        self._known.update(zip(keys, await self._snapshot.get_many(keys), strict=True))

    async def get_for_update(self, key: bytes) -> bytes | None:
        """Like `get`, and the transaction commits only if the stored value is still the same then."""
        if key not in self._known:
            self._known[key] = await self._snapshot.get(key)
        self.conflicts.setdefault(key, self._known[key])
        return await self.get(key)

    async def get_range(self, begin: bytes, end: bytes, limit: int) -> tuple[list[Row], bool]:
        """At most `limit` rows of [begin, end) as this transaction leaves them so far, and whether there are more.

        Costs what it passes over: the rows of the answer, and those before them that this transaction has cleared.
        """
        ordered = await self._in_order() if self.writes else None
        if not self._touches(ordered, begin, end):
            page = await self._snapshot.get_range(begin, end, limit)
            await self.pause()
            return page
        rows: list[Row] = []
        position, more = begin, True
        while more and len(rows) <= limit:
            stored, more = await self._snapshot.get_range(position, end, min(max(limit + 1 - len(rows), _LEAST), _PAGE))
            upper = stored[-1][0] + b"\x00" if more else end
            written = iter(()) if ordered is None else ordered.irange(position, upper, (True, False))
            rows.extend(itertools.islice(self._merge(written, stored), limit + 1 - len(rows)))
            position = upper
            await self.pause()
        return rows[:limit], more or len(rows) > limit

    async def count_range(self, begin: bytes, end: bytes, limit: int) -> tuple[int, bytes]:
        """The number of rows of [begin, end) as this transaction leaves them so far: see `Snapshot.count_range`.

        Costs a count of what is stored, and a read for each key of the range that this transaction has written.
        """
        count, upper = await self._snapshot.count_range(begin, end, limit)
        if not self.writes and not self.cleared:
            await self.pause()
            return count, upper
        for first, last in self.cleared.within(begin, upper):
            position = first
            while position < last:  # no more than was counted
                gone, position = await self._snapshot.count_range(position, last, _EVERYTHING)
                count -= gone
        written = (await self._in_order()).irange(begin, upper, (True, False))
        await self.pause()
        while page := list(itertools.islice(written, _LEAST)):
            count += sum(self.writes[key] is not None for key in page)
            unseen = [key for key in page if key not in self.cleared]
            stored = zip(unseen, await self._snapshot.get_many(unseen), strict=True)
            count -= sum(value is not None for _, value in stored)
            await self.pause()
        return count, upper

    def set(self, key: bytes, value: bytes) -> None:
        """Sets the key to the value."""
        self._write(key, value)

    def clear(self, key: bytes) -> None:
        """Removes the key, if it is there."""
        self._write(key, None)

    def clear_range(self, begin: bytes, end: bytes) -> None:
        """Removes all keys of [begin, end). Cannot be undone by `rollback`.

        Looks at all that has been written, unless it is in order already.
        """
        if begin >= end:
            return
        ordered = self._ordered
        if ordered is None:
            gone = [key for key in self.writes if begin <= key < end]
        else:
            gone = list(ordered.irange(begin, end, (True, False)))
        for key in gone:
            del self.writes[key]
            if ordered is not None:
                ordered.remove(key)
        self.cleared.add(begin, end)
        self._clears = True

    def mark(self) -> int:
        """A point to roll back to."""
        return len(self._undo)

    def rollback(self, mark: int, most: int | None = None) -> bool:
        """Undoes every `set` and `clear` since the mark, or the last `most` of them; whether that is all."""
        undo, ordered = self._undo, self._ordered
        stop = mark if most is None else max(mark, len(undo) - most)
        while len(undo) > stop:
            key, value, present = undo.pop()
            if present:
                if ordered is not None and key not in self.writes:
                    ordered.add(key)
                self.writes[key] = value
            elif key in self.writes:
                del self.writes[key]
                if ordered is not None:
                    ordered.remove(key)
        return stop == mark

    def _write(self, key: bytes, value: bytes | None) -> None:
        present = key in self.writes
        self._undo.append((key, self.writes.get(key), present))
        if self._ordered is not None and not present:
            self._ordered.add(key)
        self.writes[key] = value

    def _touches(self, ordered: "SortedList[bytes] | None", begin: bytes, end: bytes) -> bool:
        """Whether anything of [begin, end) is not as it is stored."""
        if ordered is not None and next(ordered.irange(begin, end, (True, False)), None) is not None:
            return True
        return bool(self.cleared and self.cleared.within(begin, end))

    async def _in_order(self) -> "SortedList[bytes]":
        """The written keys, in order. Nothing is written meanwhile: a transaction is one task's."""
        if self._ordered is None:
            ordered: SortedList[bytes] = SortedList()
            keys = iter(self.writes)
            while page := list(itertools.islice(keys, _PAGE)):
                ordered.update(page)
                await self.pause()
            self._ordered = ordered
        return self._ordered

    def _merge(self, written: Iterator[bytes], stored: list[Row]) -> Iterator[Row]:
        """The stored rows with what was written in their place or between them, in order."""
        key = next(written, None)
        for row in stored:
            while key is not None and key <= row[0]:
                value = self.writes[key]
                if value is not None:
                    yield key, value
                key = next(written, None)
            if row[0] not in self.writes and not (self.cleared and row[0] in self.cleared):
                yield row
        while key is not None:
            value = self.writes[key]
            if value is not None:
                yield key, value
            key = next(written, None)


async def _no_pause() -> None:
    """Nobody else waits."""

"""A transaction: writes kept in memory over a snapshot, until the store commits them as one.

The same for all stores. Reads see the transaction's own writes. `mark` and `rollback` undo the writes of one
operation among several that share the transaction, which is what group commit needs when one of them is refused.
"""

from collections.abc import AsyncIterator, Iterator, Sequence
from typing import Protocol

from fetch.stores.protocol import Row, Snapshot

_PAGE = 1000


class Source(Protocol):
    """What is read from: a snapshot, or a transaction under way."""

    async def get(self, key: bytes) -> bytes | None: ...
    async def get_many(self, keys: Sequence[bytes]) -> list[bytes | None]: ...
    async def get_range(self, begin: bytes, end: bytes, limit: int) -> tuple[list[Row], bool]: ...
    async def count_range(self, begin: bytes, end: bytes) -> int: ...


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

    `writes` maps keys to their new values (None: cleared); `cleared` lists ranges that are cleared before `writes`
    are applied; `conflicts` maps keys to the values that they must still have when the transaction commits.
    """

    __slots__ = ("_known", "_snapshot", "_undo", "cleared", "conflicts", "writes")

    def __init__(self, snapshot: Snapshot) -> None:
        self._snapshot = snapshot
        self._known: dict[bytes, bytes | None] = {}
        self._undo: list[tuple[bytes, bytes | None, bool]] = []
        self.writes: dict[bytes, bytes | None] = {}
        self.cleared: list[tuple[bytes, bytes]] = []
        self.conflicts: dict[bytes, bytes | None] = {}

    async def get(self, key: bytes) -> bytes | None:
        """The value of the key as this transaction leaves it so far."""
        if key in self.writes:
            return self.writes[key]
        if self.cleared and self._is_cleared(key):
            return None
        if key in self._known:
            return self._known[key]
        return await self._snapshot.get(key)

    async def get_many(self, keys: Sequence[bytes]) -> list[bytes | None]:
        """The values of the keys as this transaction leaves them so far, in one round trip."""
        stored = [key for key in keys if not (key in self.writes or key in self._known or self._is_cleared(key))]
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
        """At most `limit` rows of [begin, end) as this transaction leaves them so far, and whether there are more."""
        if not self.writes and not self.cleared:
            return await self._snapshot.get_range(begin, end, limit)
        rows: list[Row] = []
        position, more = begin, True
        while more and len(rows) <= limit:
            stored, more = await self._snapshot.get_range(position, end, limit)
            upper = stored[-1][0] + b"\x00" if more else end
            rows.extend(self._merge(position, upper, stored))
            position = upper
        return rows[:limit], more or len(rows) > limit

    async def count_range(self, begin: bytes, end: bytes) -> int:
        """The number of rows of [begin, end) as this transaction leaves them so far."""
        if not self.writes and not self.cleared:
            return await self._snapshot.count_range(begin, end)
        return len([row async for row in all_rows(self, begin, end)])

    def set(self, key: bytes, value: bytes) -> None:
        """Sets the key to the value."""
        self._write(key, value)

    def clear(self, key: bytes) -> None:
        """Removes the key, if it is there."""
        self._write(key, None)

    def clear_range(self, begin: bytes, end: bytes) -> None:
        """Removes all keys of [begin, end). Cannot be undone by `rollback`."""
        for key in [key for key in self.writes if begin <= key < end]:
            del self.writes[key]
        self.cleared.append((begin, end))

    def mark(self) -> int:
        """A point to roll back to."""
        return len(self._undo)

    def rollback(self, mark: int) -> None:
        """Undoes every `set` and `clear` since the mark."""
        while len(self._undo) > mark:
            key, value, present = self._undo.pop()
            if present:
                self.writes[key] = value
            else:
                self.writes.pop(key, None)

    def _write(self, key: bytes, value: bytes | None) -> None:
        self._undo.append((key, self.writes.get(key), key in self.writes))
        self.writes[key] = value

    def _is_cleared(self, key: bytes) -> bool:
        return any(begin <= key < end for begin, end in self.cleared)

    def _merge(self, begin: bytes, end: bytes, stored: list[Row]) -> Iterator[Row]:
        written = {key: value for key, value in self.writes.items() if begin <= key < end}
        for key, value in stored:
            if key not in written and not self._is_cleared(key):
                written[key] = value
        for key in sorted(written):
            value_or_none = written[key]
            if value_or_none is not None:
                yield key, value_or_none

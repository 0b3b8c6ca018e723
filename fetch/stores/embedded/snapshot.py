"""One state of the embedded database: an LMDB read transaction."""

from collections.abc import Callable, Sequence
from typing import Self

import lmdb

from fetch.stores.embedded import longkeys
from fetch.stores.snapshot import Row

_PAGE_BYTES = 1 << 20


class LmdbSnapshot:
    """The snapshot protocol on an LMDB read transaction. Never suspends the caller."""

    __slots__ = ("_failed", "_reader")

    def __init__(self, reader: lmdb.Transaction, failed: Callable[[Exception], Exception]) -> None:
        """`failed` is told of each error, and says what to raise for it."""
        self._reader = reader
        self._failed = failed

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._reader.abort()
        # its slot among the readers is free only when the object is gone, and is the next snapshot's then
        del self._reader

    async def get(self, key: bytes) -> bytes | None:
        """See `Snapshot.get`."""
        try:
            return longkeys.get(self._reader, key)
        except lmdb.Error as error:
            raise self._failed(error) from error

    async def get_many(self, keys: Sequence[bytes]) -> list[bytes | None]:
        """See `Snapshot.get_many`."""
        reader = self._reader
        try:
            return [longkeys.get(reader, key) for key in keys]
        except lmdb.Error as error:
            raise self._failed(error) from error

    async def get_range(self, begin: bytes, end: bytes, limit: int) -> tuple[list[Row], bool]:
        """See `Snapshot.get_range`. A page holds at most about 1 MiB."""
        found: list[Row] = []
        room = _PAGE_BYTES
        try:
            for row in longkeys.rows(self._reader, begin, end):
                if len(found) == limit or room <= 0:
                    return found, True
                found.append(row)
                room -= len(row[0]) + len(row[1])
        except lmdb.Error as error:
            raise self._failed(error) from error
        return found, False

    async def count_range(self, begin: bytes, end: bytes, limit: int) -> tuple[int, bytes]:
        """See `Snapshot.count_range`."""
        try:
            return longkeys.count(self._reader, begin, end, limit)
        except lmdb.Error as error:
            raise self._failed(error) from error

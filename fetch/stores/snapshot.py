"""One state of a store, as it is read: what stores give and transactions stand on."""

from collections.abc import Sequence
from typing import Protocol

Row = tuple[bytes, bytes]


class Snapshot(Protocol):
    """One consistent state of the store: everything that was acknowledged before the snapshot is in it.

    Every read may raise `StoreUnavailable` (see `protocol`), after a bounded time, or one of those that derive from it.
    """

    async def get(self, key: bytes) -> bytes | None:
        """The value of the key, None when it is absent."""

    async def get_many(self, keys: Sequence[bytes]) -> list[bytes | None]:
        """The values of the keys, in their order, in one round trip."""

    async def get_range(self, begin: bytes, end: bytes, limit: int) -> tuple[list[Row], bool]:
        """At most `limit` (> 0) rows of [begin, end) in order of their keys, and whether there are more.

        A store may return fewer than `limit` rows and say that there are more, to bound the bytes it holds; it
        returns at least one row when there is one.
        """

    async def count_range(self, begin: bytes, end: bytes, limit: int) -> tuple[int, bytes]:
        """The number of rows of [begin, end), and `end`; or of its first `limit` (> 0), and where the others begin.

        Where the limit is large a store may count more rows than that, or fewer, but at least one if there is one: as
        many as take it little longer, or as it can count before it has taken long.
        """

"""A store that tells what is read of it, and that may be interrupted at every read, as one over a network is."""

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Self

from fetch.engine.engine import StoredEngine
from fetch.stores.protocol import SnapshotExpired, Store
from fetch.stores.snapshot import Row, Snapshot
from tests.engine.engines import daemon


async def _nothing(_: int) -> None:
    """Does not interrupt."""


class Observed:
    """A store over another one. Counts rows that are read, and those that are counted, reads and snapshots; `interrupt(n)` runs before the n-th read."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self.rows = self.counted = self.reads = self.open = self.most_open = self.snapshots = 0
        self.interrupt: Callable[[int], Awaitable[None]] = _nothing

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    def snapshot(self) -> "_Snapshot":
        return _Snapshot(self, self._store.snapshot())

    def forget(self) -> None:
        """Counts from here on."""
        self.rows = self.counted = self.reads = self.most_open = self.snapshots = 0


class _Snapshot:
    def __init__(self, observed: Observed, inner: Any) -> None:
        self._observed = observed
        self._manager = inner
        self._has_been_read = False
        self._inner: Snapshot = inner

    def __enter__(self) -> Self:
        self._observed.open += 1
        self._observed.snapshots += 1
        self._observed.most_open = max(self._observed.most_open, self._observed.open)
        self._manager.__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        self._observed.open -= 1
        self._manager.__exit__(*error)

    async def get(self, key: bytes) -> bytes | None:
        [value] = await self.get_many([key])
        return value

    async def get_many(self, keys: Sequence[bytes]) -> list[bytes | None]:
        await self._read()
        self._observed.rows += len(keys)
        return await self._inner.get_many(keys)

    async def get_range(self, begin: bytes, end: bytes, limit: int) -> tuple[list[Row], bool]:
        await self._read()
        rows, more = await self._inner.get_range(begin, end, limit)
        self._observed.rows += len(rows)
        return rows, more

    async def count_range(self, begin: bytes, end: bytes, limit: int) -> tuple[int, bytes]:
        await self._read()
        count, upper = await self._inner.count_range(begin, end, limit)
        self._observed.counted += count
        return count, upper

    async def _read(self) -> None:
        self._observed.reads += 1
        try:
            await self._observed.interrupt(self._observed.reads)
        except SnapshotExpired:
            if self._has_been_read:  # else a store tries again itself, with a newer one
                raise
        self._has_been_read = True


@asynccontextmanager
async def observed_engine(directory: Path) -> AsyncIterator[tuple[StoredEngine, Observed]]:
    """The engine of a new tenant, and the store that it reads."""
    stores: list[Observed] = []

    def over(store: Store) -> Store:
        stores.append(Observed(store))
        return stores[0]  # type: ignore[return-value]  # what it does not have itself it takes from the other

    async with daemon(directory, over=over) as running:
        yield await running.open(), stores[0]

"""Stores that suspend their callers, as those over a network do, and streams of watches without a transport."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

from fetch import chain
from fetch.api.rpc_pb2 import WatchCancelRequest, WatchCreateRequest, WatchProgressRequest, WatchRequest, WatchResponse
from fetch.engine.engine import StoredEngine
from fetch.engine.mutations import apply
from fetch.engine.tenants import Tenants
from fetch.services.streams import Streams
from fetch.services.watch import Watch
from fetch.stores.embedded.store import LmdbStore
from fetch.stores.snapshot import Row, Snapshot
from tests.engine.engines import SETTINGS, Daemon, operation_chain


class SuspendingStore:
    """A daemon's view of a store that others write to as well: every call lets everybody else run first.

    `rows` counts what ranges were read. While `open` is cleared, calls wait at its `gate`, and `waits` tells that one
    does. `failing` makes `changed` fail so many times.
    """

    shared = True

    def __init__(self, store: LmdbStore) -> None:
        self._store = store
        self.shared_prefix = store.shared_prefix
        self.rows = 0
        self.failing = 0
        self.open = asyncio.Event()
        self.open.set()
        self.waits = asyncio.Event()

    async def suspend(self) -> None:
        await asyncio.sleep(0)
        if not self.open.is_set():
            self.waits.set()
            await self.open.wait()

    async def hold(self) -> None:
        """Returns when somebody has called the store, and waits."""
        self.open.clear()
        self.waits.clear()
        await self.waits.wait()

    async def open_tenant(self, name: str) -> bytes:
        return await self._store.open_tenant(name)

    async def find_tenant(self, name: str) -> bytes | None:
        await asyncio.sleep(0)
        return await self._store.find_tenant(name)

    @contextmanager
    def snapshot(self) -> Iterator["SuspendingSnapshot"]:
        with self._store.snapshot() as snapshot:
            yield SuspendingSnapshot(self, snapshot)

    async def transact(self, body: Callable[[Any], Awaitable[Any]]) -> Any:
        await asyncio.sleep(0)
        result = await self._store.transact(body)
        await asyncio.sleep(0)
        return result

    async def changed(self, key: bytes, value: bytes | None) -> None:
        if self.failing:
            self.failing -= 1
            raise ValueError("nobody foresaw this")
        await asyncio.sleep(0)
        await self._store.changed(key, value)

    async def size(self) -> int:
        return await self._store.size()

    async def close(self) -> None:
        """The store is its owner's to close."""


class SuspendingSnapshot:
    def __init__(self, store: SuspendingStore, snapshot: Snapshot) -> None:
        self._store = store
        self._snapshot = snapshot

    async def get(self, key: bytes) -> bytes | None:
        value = await self._snapshot.get(key)
        await self._store.suspend()
        return value

    async def get_many(self, keys: Sequence[bytes]) -> list[bytes | None]:
        values = await self._snapshot.get_many(keys)
        await self._store.suspend()
        return values

    async def get_range(self, begin: bytes, end: bytes, limit: int) -> tuple[list[Row], bool]:
        rows, more = await self._snapshot.get_range(begin, end, limit)
        self._store.rows += len(rows)
        await self._store.suspend()
        return rows, more

    async def count_range(self, begin: bytes, end: bytes, limit: int) -> tuple[int, bytes]:
        counted = await self._snapshot.count_range(begin, end, limit)
        await self._store.suspend()
        return counted


@asynccontextmanager
async def daemons(directory: Path, count: int) -> AsyncIterator[list[tuple[SuspendingStore, StoredEngine]]]:
    """Daemons on one store, each with its engine of one tenant."""
    store = LmdbStore(directory)
    opened = [SuspendingStore(store) for _ in range(count)]
    tenants = [
        Tenants(each, 0, None, chain.compose(operation_chain(), apply), lambda *_: None)  # type: ignore[arg-type]
        for each in opened
    ]
    running = [Daemon(store, each) for each in tenants]
    try:
        yield [(each, await daemon.open()) for each, daemon in zip(opened, running, strict=True)]
    finally:
        for each in opened:
            each.open.set()
        for each in tenants:
            await each.close()
        await store.close()


class Stream:
    """A stream of watches: what a client sends, and what it is told. `reads` is cleared while it does not read."""

    def __init__(self, engine: StoredEngine) -> None:
        self.tenant = engine
        self._requests: asyncio.Queue[bytes] = asyncio.Queue()
        self._responses: asyncio.Queue[WatchResponse] = asyncio.Queue()
        self.unread = 0
        self.reads = asyncio.Event()
        self.reads.set()
        self.serving = asyncio.create_task(Watch(SETTINGS, Streams()).watch(None, self))  # type: ignore[arg-type]

    async def read(self) -> bytes:
        return await self._requests.get()

    async def write(self, message: bytes) -> None:
        self.unread = len(message)
        await self.reads.wait()
        self.unread = 0
        self._responses.put_nowait(WatchResponse.FromString(message))

    def ask(self, key: bytes, range_end: bytes = b"", **options: Any) -> None:
        """Asks for a watch."""
        self._send(create_request=WatchCreateRequest(key=key, range_end=range_end, **options))

    def cancel(self, watch_id: int) -> None:
        self._send(cancel_request=WatchCancelRequest(watch_id=watch_id))

    def ask_for_progress(self) -> None:
        self._send(progress_request=WatchProgressRequest())

    async def receive(self) -> WatchResponse:
        return await self._responses.get()

    async def create(self, key: bytes, range_end: bytes = b"", **options: Any) -> WatchResponse:
        """Asks for a watch, and returns the next response."""
        self.ask(key, range_end, **options)
        return await self.receive()

    async def close(self) -> None:
        self.serving.cancel()
        await asyncio.wait([self.serving])

    def _send(self, **request: Any) -> None:
        self._requests.put_nowait(WatchRequest(**request).SerializeToString())


@asynccontextmanager
async def stream(engine: StoredEngine) -> AsyncIterator[Stream]:
    opened = Stream(engine)
    try:
        yield opened
    finally:
        await opened.close()


async def until(condition: Callable[[], bool]) -> None:
    """Returns once others have made the condition true."""
    while not condition():  # noqa: ASYNC110  what it looks at has no events
        await asyncio.sleep(0)

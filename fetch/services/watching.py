"""A watch for one who waits within a call: a range, and what happens in it from a revision on."""

import asyncio
from types import TracebackType
from typing import Self

from fetch.engine.engine import StorageEngine
from fetch.engine.watches.delivery import Delivery
from fetch.engine.watches.feed import Watcher


class Watching:
    """A watch of a range, open while its context is."""

    __slots__ = ("_happened", "_hub", "_key", "_of", "_range_end", "_start", "_watcher")

    def __init__(
        self,
        engine: StorageEngine,
        key: bytes,
        range_end: bytes,
        start: int,
        *,
        puts: bool = True,
        deletes: bool = True,
    ) -> None:
        """`start` is the first revision of which something is to be heard."""
        self._hub = engine.watches
        self._key, self._range_end, self._start = key, range_end, start
        self._of = (puts, deletes)
        self._happened = asyncio.Event()

    async def __aenter__(self) -> Self:
        puts, deletes = self._of
        self._watcher = await self._hub.register_key_watch(
            self._key,
            self._range_end,
            self._start,
            prev_kv=False,
            puts=puts,
            deletes=deletes,
            listener=self._wake,
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._hub.cancel_key_watch(self._watcher)

    async def next(self) -> Delivery:
        """What has happened since the last call, which is something: waits until there is.

        :raises Compacted: the log does not reach back to where this watch is any more
        """
        while True:
            # before it is looked: what happens from here on is heard
            self._happened.clear()
            delivery = await self._hub.take(self._watcher)
            if delivery is not None:
                return delivery
            if not self._hub.has_more(self._watcher):
                await self._happened.wait()

    def _wake(self, _: Watcher) -> bool:
        woken = not self._happened.is_set()
        self._happened.set()
        return woken

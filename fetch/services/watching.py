"""A watch for one who waits within a call: a range, and what happens in it from a revision on."""

import asyncio
from types import TracebackType
from typing import Any, Self

from fetch.engine.protocol import Delivery, KeyWatch, StorageEngine, WatchInstance


class Watching:
    """A watch of a range, open while its context is."""

    __slots__ = ("_engine", "_happened", "_instance", "_key", "_of", "_range_end", "_start", "_watch")

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
        self._engine = engine
        self._key, self._range_end, self._start = key, range_end, start
        self._of = (puts, deletes)
        self._happened = asyncio.Event()

    async def __aenter__(self) -> Self:
        puts, deletes = self._of
        self._instance: WatchInstance[Any] = self._engine.create_watch_instance()
        self._instance.register_watch_listener(self._wake)
        try:
            self._watch: KeyWatch = await self._instance.register_key_watch(
                self._key, self._range_end, self._start, prev_kv=False, puts=puts, deletes=deletes
            )
        except BaseException:
            self._engine.delete_watch_instance(self._instance)
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._engine.delete_watch_instance(self._instance)

    async def next(self) -> Delivery:
        """What has happened since the last call, which is something: waits until there is.

        :raises Compacted: the log does not reach back to where this watch is any more
        """
        while True:
            # before it is looked: what happens from here on is heard
            self._happened.clear()
            delivery = await self._instance.take(self._watch)
            if delivery is not None:
                return delivery
            if not self._instance.has_more(self._watch):
                await self._happened.wait()

    def _wake(self, _: KeyWatch) -> bool:
        woken = not self._happened.is_set()
        self._happened.set()
        return woken

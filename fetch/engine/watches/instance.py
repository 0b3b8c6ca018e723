"""A watch instance of the hub: what one stream of a client has, see `fetch/engine/protocol.py`."""

from collections.abc import Coroutine
from typing import Any

from fetch.engine.protocol import MESSAGE_BYTES, Delivery, Listener
from fetch.engine.turns import Work
from fetch.engine.watches.feed import Watcher
from fetch.engine.watches.hub import Hub


class Instance:
    """Some of a tenant's watches, and the one listener that they have."""

    __slots__ = ("_hub", "_listener", "_watchers")

    def __init__(self, hub: Hub) -> None:
        self._hub = hub
        self._listener: Listener = _nobody
        self._watchers: dict[Watcher, None] = {}

    @property
    def position(self) -> int:
        """See `Hub.position`."""
        return self._hub.position

    @property
    def received(self) -> int:
        """See `Hub.received`."""
        return self._hub.received

    def register_watch_listener(self, listener: Listener) -> None:
        """Sets the listener of all watches that are registered from now on."""
        self._listener = listener

    async def register_key_watch(
        self, key: bytes, range_end: bytes, start_revision: int, *, prev_kv: bool, puts: bool, deletes: bool
    ) -> Watcher:
        """See `Hub.register_key_watch`."""
        watcher = await self._hub.register_key_watch(
            key, range_end, start_revision, prev_kv=prev_kv, puts=puts, deletes=deletes, listener=self._listener
        )
        self._watchers[watcher] = None
        return watcher

    def cancel_key_watch(self, watch: Watcher) -> None:
        """Ends a watch, if it has not ended."""
        self._watchers.pop(watch, None)
        self._hub.cancel_key_watch(watch)

    def cancel_all(self) -> None:
        """Ends all watches, many of them in the background."""
        watchers = list(self._watchers)
        self._watchers.clear()
        self._hub.cancel_key_watches(watchers)

    def take(
        self, watch: Watcher, limit: int = MESSAGE_BYTES, up_to: int | None = None, work: Work | None = None
    ) -> Coroutine[Any, Any, Delivery | None]:
        """See `Hub.take`, whose coroutine this is: one around it would cost each delivery another frame."""
        return self._hub.take(watch, limit, up_to, work)

    def has_more(self, watch: Watcher) -> bool:
        """See `Hub.has_more`."""
        return self._hub.has_more(watch)

    def is_synced(self, watch: Watcher, revision: int | None = None) -> bool:
        """See `Hub.is_synced`."""
        return self._hub.is_synced(watch, revision)

    async def caught_up(self) -> None:
        """See `Hub.caught_up`."""
        await self._hub.caught_up()


def _nobody(_: Watcher) -> None:
    """The listener before there is one."""

"""Calls pass as long as their tenant is served: what is open of one that is served no longer is ended.

A tenant may be disabled or deleted by an administrator at any moment. What it asks for from then on is refused where it
is stored; what waits, a watch for instance, asks for nothing, and is ended here.
"""

from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

from fetch.chain.call import Call
from fetch.chain.interruption import Interruptible
from fetch.engine.protocol import StorageEngine, Tenants
from fetch.errors import EtcdError, TenantDeleted


class Serving:
    """The calls that are open, by their tenants' engines."""

    def __init__(self, tenants: Tenants) -> None:
        self._tenants = tenants
        self._streams: dict[StorageEngine, _Streams] = {}
        tenants.when_ended(self._end)

    def __len__(self) -> int:
        """How many tenants have calls that are open."""
        return len(self._streams)

    async def open(self, name: str) -> StorageEngine:
        """The engine of a tenant, which still is its engine when this returns.

        :raises UnknownTenant: :raises TenantClosed: :raises StoreUnavailable: see `Tenants.open`
        """
        while (engine := await self._tenants.open(name)) is not self._tenants.get(name):
            pass  # it has ended before it came here
        return engine

    def serve(self, call: Call, proceed: Callable[[Call], Awaitable[Any]]) -> Awaitable[Any]:
        """Lets a call pass. Nothing may be awaited between its tenant being found and this being called."""
        if call.tenant is None or not call.is_open_ended:
            return proceed(call)
        streams = self._streams.get(call.tenant)
        if streams is None:
            streams = self._streams[call.tenant] = _Streams(partial(self._forget, call.tenant))
        return streams.serve(call, proceed)

    def _forget(self, engine: StorageEngine) -> None:
        self._streams.pop(engine, None)

    def _end(self, engine: StorageEngine, error: type[EtcdError]) -> None:
        if (streams := self._streams.pop(engine, None)) is not None:
            streams.end(error)


class _Streams:
    """What is open of one tenant."""

    def __init__(self, emptied: Callable[[], None]) -> None:
        self._error: type[EtcdError] = TenantDeleted
        self._calls = Interruptible(lambda: self._error(), emptied)  # noqa: PLW0108  which error it is shows at the end

    async def serve(self, call: Call, proceed: Callable[[Call], Awaitable[Any]]) -> Any:
        """Lets a call pass, until they are ended."""
        with self._calls.serving():
            return await proceed(call)

    def end(self, error: type[EtcdError]) -> None:
        """Ends them with this error."""
        self._error = error
        self._calls.end()

"""Storage engines on the embedded store, without a server: what the tests in this folder look at."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from fetch import chain
from fetch.api.kv_pb2 import Event
from fetch.api.rpc_pb2 import DeleteRangeRequest, PutRequest, RangeRequest, RangeResponse, WatchResponse
from fetch.config import Settings
from fetch.engine.engine import StoredEngine
from fetch.engine.mutations import apply
from fetch.engine.protocol import Delivery
from fetch.engine.tenants import Tenants
from fetch.engine.watches.feed import Watcher
from fetch.stores.embedded.store import LmdbStore
from fetch.stores.protocol import Store
from tests.engine.clocks import Clock

SETTINGS = Settings(listen_client_urls=("http://127.0.0.1:2379",), anonymous_tenant="anonymous")


@dataclass(frozen=True, slots=True)
class Daemon:
    """What runs over a directory. `reports`: what the engines have told of themselves."""

    store: Store
    tenants: Tenants
    reports: list[Any] = field(default_factory=list)

    async def open(self, tenant: str = "alpha") -> StoredEngine:
        return await self.tenants.open(tenant)


@cache
def operation_chain() -> list[chain.Link]:
    """The operation chain that comes with fetch. To look up its entry points takes a while."""
    return chain.load(chain.OPERATION_GROUP, SETTINGS.transaction_interceptors, SETTINGS)


@asynccontextmanager
async def daemon(
    directory: Path,
    *,
    quota: int = 0,
    allowed: Sequence[str] | None = None,
    inner: Sequence[chain.Link] = (),
    outer: Sequence[chain.Link] = (),
    clock: Clock | None = None,
    failed: Callable[[str], None] = lambda _: None,
    over: Callable[[Store], Store] = lambda store: store,
) -> AsyncIterator[Daemon]:
    """The engines over a directory; `inner` are links of the operation chain behind those that come with fetch, `outer`
    such before them; `over` puts something between the engines and the store."""
    store = over(LmdbStore(directory))
    reports: list[Any] = []
    tenants = Tenants(
        store,
        quota,
        allowed,
        chain.compose([*outer, *operation_chain(), *inner], apply),
        lambda _, report: reports.append(report),
        failed,
        clock and clock.served(store),
    )
    try:
        yield Daemon(store, tenants, reports)
    finally:
        await tenants.close()
        await store.close()


async def put(engine: StoredEngine, key: bytes, value: bytes = b"") -> int:
    """Puts a key; its revision."""
    return (await engine.put(PutRequest(key=key, value=value))).header.revision


async def delete(engine: StoredEngine, key: bytes, range_end: bytes = b"") -> int:
    """Deletes a range; the revision after it."""
    return (await engine.delete_range(DeleteRangeRequest(key=key, range_end=range_end))).header.revision


async def listed(engine: StoredEngine, request: RangeRequest) -> list[tuple[bytes, bytes]]:
    """The keys and values that a range answers with."""
    found = await engine.range_keys(request)
    return [(kv.key, kv.value) for kv in RangeResponse.FromString(b"".join(found.frames)).kvs]


async def watch(engine: StoredEngine, key: bytes, range_end: bytes = b"", start_revision: int = 0) -> Watcher:
    """A watcher that nobody wakes: it takes when it is told to."""
    return await engine.watches.register_key_watch(
        key, range_end, start_revision, prev_kv=False, puts=True, deletes=True, listener=lambda _: None
    )


async def take(engine: StoredEngine, watcher: Watcher) -> list[Event]:
    """The events that the watcher has not taken yet."""
    events: list[Event] = []
    while not engine.watches.is_synced(watcher):
        delivery = await engine.watches.take(watcher)
        if delivery is None:
            await asyncio.sleep(0)  # others read the log for it
        else:
            events.extend(told(delivery))
    return events


async def take_once(engine: StoredEngine, watcher: Watcher) -> list[Event]:
    """What the watcher is told in one go; nothing if there is nothing to tell."""
    while not engine.watches.is_synced(watcher):
        delivery = await engine.watches.take(watcher)
        if delivery is not None:
            return told(delivery)
        await asyncio.sleep(0)
    return []


def told(delivery: Delivery) -> list[Event]:
    """The events of a delivery."""
    return list(WatchResponse.FromString(b"".join(delivery.frames)).events)

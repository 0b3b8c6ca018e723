"""A cluster that stops answering, dies and comes back."""

import asyncio
import time
from collections.abc import Awaitable, Callable

import pytest

from fetch.stores.foundationdb.store import FoundationDBStore
from fetch.stores.protocol import StoreUnavailable
from tests.endpoints.foundationdb import FdbServer
from tests.stores.steps import increment, read

BOUND_SECONDS = 8
BACK_SECONDS = 30


async def until_it_answers(store: FoundationDBStore, key: bytes) -> bytes | None:
    """The value of the key, once the store can be read again."""
    async with asyncio.timeout(BACK_SECONDS):
        while True:
            try:
                return await read(store, key)
            except StoreUnavailable:
                continue


OPERATIONS: dict[str, Callable[[FoundationDBStore, bytes], Awaitable[object]]] = {
    "read": read,
    "write": increment,
    "open": lambda store, _: store.open_tenant("beta"),
    "size": lambda store, _: store.size(),
}


@pytest.mark.parametrize("operation", OPERATIONS)
async def test_a_cluster_that_does_not_answer_is_given_up_in_time(server: FdbServer, operation: str) -> None:
    store = FoundationDBStore.open(server.cluster_file)
    key = await store.open_tenant("alpha") + b"n"
    await increment(store, key)
    server.pause()
    started = time.monotonic()
    with pytest.raises(StoreUnavailable):
        await OPERATIONS[operation](store, key)
    assert time.monotonic() - started < BOUND_SECONDS
    server.resume()
    assert await until_it_answers(store, key) in (b"1", b"2")
    await store.close()


async def test_a_store_opens_before_its_cluster_answers(server: FdbServer) -> None:
    server.pause()
    store = FoundationDBStore.open(server.cluster_file)
    with pytest.raises(StoreUnavailable):
        await read(store, b"a")
    server.resume()
    assert await until_it_answers(store, b"a") is None
    await store.close()


async def test_what_waits_for_a_change_hears_of_it_after_a_restart(server: FdbServer) -> None:
    store = FoundationDBStore.open(server.cluster_file)
    key = await store.open_tenant("alpha") + b"n"
    waiting = asyncio.create_task(store.changed(key, None))
    await asyncio.wait([waiting], timeout=0.2)
    server.kill()
    server.restart()
    await until_it_answers(store, key)
    assert not waiting.done()
    await increment(store, key)
    await asyncio.wait_for(waiting, BACK_SECONDS)
    await store.close()


async def test_no_acknowledged_write_is_lost_or_made_twice_when_the_cluster_is_killed_under_load(
    server: FdbServer,
) -> None:
    store = FoundationDBStore.open(server.cluster_file)
    prefix = await store.open_tenant("alpha")
    stopping = asyncio.Event()

    async def count(key: bytes) -> tuple[int, int]:
        """How often it was told to have counted, and how often it was told that this is not known."""
        known = unknown = 0
        while not stopping.is_set():
            try:
                counted = await increment(store, key)
            except StoreUnavailable:
                unknown += 1
            else:
                known += 1
                assert known <= counted <= known + unknown
        return known, unknown

    keys = [prefix + b"%d" % number for number in range(16)]
    counting = [asyncio.create_task(count(key)) for key in keys]
    for _ in range(3):
        await asyncio.wait(counting, timeout=1.5)
        server.kill()
        await asyncio.wait(counting, timeout=0.3)
        server.restart()
        await until_it_answers(store, prefix)
    await asyncio.wait(counting, timeout=1)
    stopping.set()
    for key, (known, unknown) in zip(keys, await asyncio.gather(*counting), strict=True):
        stored = int(await until_it_answers(store, key) or 0)
        assert 0 < known <= stored <= known + unknown
    await store.close()

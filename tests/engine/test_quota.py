"""What a tenant may store, and how it is counted."""

import random
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from fetch import errors
from fetch.engine.alarms import NO_SPACE
from fetch.engine.engine import StoredEngine
from fetch.engine.layout import Layout
from fetch.stores.transaction import all_rows
from tests.engine.engines import Daemon, daemon, delete, put

QUOTA = 10_000
TOO_MUCH = b"x" * QUOTA
NO_ALARM: frozenset[tuple[int, int]] = frozenset()


@pytest.fixture
async def small(tmp_path: Path) -> AsyncIterator[Daemon]:
    """A daemon whose tenants may store `QUOTA` bytes each."""
    async with daemon(tmp_path, quota=QUOTA) as started:
        yield started


@pytest.fixture
async def full(small: Daemon) -> StoredEngine:
    """A tenant that has been refused a put; it has one key."""
    engine = await small.open()
    await put(engine, b"key", b"value")
    with pytest.raises(errors.NoSpace):
        await put(engine, b"big", TOO_MUCH)
    return engine


async def test_a_put_that_does_not_fit_raises_the_alarm(full: StoredEngine) -> None:
    assert (await full.status()).alarms == {NO_SPACE}


async def test_a_put_that_does_not_fit_stores_nothing(full: StoredEngine) -> None:
    status = await full.status()
    assert (status.keys, status.revision) == (1, 2)


async def test_a_full_tenant_is_refused_every_put(full: StoredEngine) -> None:
    with pytest.raises(errors.NoSpace):
        await put(full, b"small")


async def test_a_full_tenant_is_refused_leases(full: StoredEngine) -> None:
    with pytest.raises(errors.NoSpace):
        await full.grant_lease(0, 60)


async def test_a_full_tenant_may_delete(full: StoredEngine) -> None:
    assert await delete(full, b"key") == 3


async def test_other_tenants_go_on(full: StoredEngine, small: Daemon) -> None:
    assert await put(await small.open("beta"), b"key") == 2


async def test_a_tenant_without_its_alarm_may_put_what_fits(full: StoredEngine) -> None:
    await full.change_alarms(deactivate=frozenset({NO_SPACE}))
    assert await put(full, b"small") == 3


async def test_the_alarm_stays_over_a_restart(full: StoredEngine, small: Daemon, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    copy.mkdir()
    (copy / "data.mdb").write_bytes((tmp_path / "data.mdb").read_bytes())
    async with daemon(copy, quota=QUOTA) as restarted:
        assert (await (await restarted.open()).status()).alarms == {NO_SPACE}


async def test_updates_fill_a_tenant_and_compaction_makes_room(small: Daemon) -> None:
    engine = await small.open()
    with pytest.raises(errors.NoSpace):
        await update_forever(engine)
    newest = (await engine.status()).revision
    await engine.compact(newest, physical=True)
    await engine.change_alarms(deactivate=frozenset({NO_SPACE}))
    assert await put(engine, b"key", b"x" * 1000) == newest + 1


async def update_forever(engine: StoredEngine) -> None:
    while True:
        await put(engine, b"key", b"x" * 1000)


async def test_without_a_quota_there_is_no_bound(running: Daemon) -> None:
    engine = await running.open()
    await put(engine, b"key", TOO_MUCH)
    assert (await engine.status()).alarms == NO_ALARM


@pytest.mark.parametrize("seed", range(3))
async def test_usage_is_what_is_stored(running: Daemon, seed: int) -> None:
    engine = await running.open()
    choice = random.Random(seed)
    for _ in range(100):
        key = b"key%d" % choice.randrange(8)
        if choice.random() < 0.3:
            await delete(engine, key, choice.choice([b"", b"key4"]))
        else:
            await put(engine, key, b"x" * choice.randrange(200))
    await engine.compact((await engine.status()).revision - 30, physical=True)
    status = await engine.status()
    assert (status.stored_bytes, status.keys) == await stored(running, engine._layout)


async def stored(running: Daemon, layout: Layout) -> tuple[int, int]:
    """The bytes of keys and log that a tenant has, and the number of keys."""
    with running.store.snapshot() as snapshot:
        keys = [row async for row in all_rows(snapshot, layout.keys, layout.keys_end)]
        events = [value async for _, value in all_rows(snapshot, layout.events, layout.events_end)]
    current = sum(len(key) - len(layout.keys) + len(value) for key, value in keys)
    return current + sum(map(len, events)), len(keys)

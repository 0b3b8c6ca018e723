"""The time that leases run out by: it goes on while somebody serves, whatever wall clocks show."""

import random
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fetch.engine.layout import served_row
from fetch.engine.lease import Grant
from fetch.engine.served import BEAT, LOST, ServedTime, served_since
from fetch.stores.embedded.store import LmdbStore
from fetch.stores.protocol import StoreFull
from tests.engine.clocks import Clock
from tests.stores.steps import read


@pytest.fixture
async def alone(tmp_path: Path) -> AsyncIterator[LmdbStore]:
    """A store that one process writes to."""
    store = LmdbStore(tmp_path)
    yield store
    await store.close()


@pytest.fixture
async def store(alone: LmdbStore) -> LmdbStore:
    """A store that other processes may write to, on this and on other machines."""
    alone.shared = True
    return alone


@pytest.fixture
def clock() -> Clock:
    return Clock()


async def since(store: LmdbStore) -> int:
    with store.snapshot() as snapshot:
        return await served_since(snapshot, store.shared_prefix)


async def begun(clock: Clock, store: LmdbStore) -> ServedTime:
    served = clock.served(store)
    await served.begin()
    return served


async def test_time_goes_on_as_the_monotonic_clock_does(alone: LmdbStore, clock: Clock) -> None:
    served = await begun(clock, alone)
    before = served.now()
    await clock.pass_by(100, served)
    assert served.now() == before + 100_000


@pytest.mark.parametrize("jump", [3600, -3600, 1e9, -1e9])
async def test_a_jump_of_the_wall_clock_does_not_move_it(alone: LmdbStore, clock: Clock, jump: float) -> None:
    served = await begun(clock, alone)
    before = served.now()
    clock.ahead += jump
    await clock.pass_by(1, served)
    assert served.now() == before + 1000


@pytest.mark.parametrize("jump", [0, 3600, -3600])
async def test_time_stands_still_while_nobody_serves(alone: LmdbStore, clock: Clock, jump: float) -> None:
    served = await begun(clock, alone)
    await clock.pass_by(BEAT, served)
    before = served.now()
    clock.monotonic += 500
    clock.ahead += jump
    assert (await begun(clock, alone)).now() == before


@pytest.mark.parametrize("seconds", [0, 1, 500])
async def test_a_daemon_that_starts_alone_begins_the_service(alone: LmdbStore, clock: Clock, seconds: float) -> None:
    served = await begun(clock, alone)
    await clock.pass_by(10, served)
    clock.monotonic += seconds
    again = await begun(clock, alone)
    assert await since(alone) == again.now()
    assert again.is_current


async def test_a_full_store_can_be_read_from_the_start(
    alone: LmdbStore, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = (await begun(clock, alone)).now()
    clock.monotonic += 100
    transact = alone.transact

    async def full(_: object) -> None:
        raise StoreFull

    monkeypatch.setattr(alone, "transact", full)
    served = await begun(clock, alone)
    assert (served.now(), served.is_current) == (before, False)
    monkeypatch.setattr(alone, "transact", transact)
    clock.monotonic += LOST + BEAT
    await served.beat()
    assert served.is_current
    assert await since(alone) == served.now()


async def test_who_stops_for_long_begins_the_service_anew(alone: LmdbStore, clock: Clock) -> None:
    served = await begun(clock, alone)
    clock.monotonic += LOST
    assert not served.is_current
    await served.beat()
    assert served.is_current
    assert await since(alone) == served.now()


async def test_a_pause_that_is_short_is_no_gap(alone: LmdbStore, clock: Clock) -> None:
    served = await begun(clock, alone)
    before = await since(alone)
    clock.monotonic += LOST - 1
    await served.beat()
    assert served.is_current
    assert await since(alone) == before


async def test_one_row_is_written_a_beat_however_many_workers_there_are(store: LmdbStore, clock: Clock) -> None:
    workers = [await begun(clock, store) for _ in range(4)]
    rows: set[bytes | None] = set()
    for _ in range(20):
        await clock.pass_by(1, *workers)
        rows.add(await read(store, served_row(store.shared_prefix)))
    assert 2 <= len(rows) <= 20 / BEAT + 1


async def test_a_worker_that_starts_beside_another_knows_the_time_at_once(store: LmdbStore, clock: Clock) -> None:
    first = await begun(clock, store)
    began = await since(store)
    await clock.pass_by(3.5, first)
    clock.monotonic += 1.25
    second = await begun(clock, store)
    assert second.is_current
    assert (second.now(), second.latest(), await since(store)) == (first.now(), first.now(), began)


async def test_workers_that_are_started_again_begin_the_service_once(store: LmdbStore, clock: Clock) -> None:
    before = clock.served(store, b"before".ljust(16))
    await before.begin()
    await clock.pass_by(4, before)
    clock.monotonic += 1
    began = set()
    for _ in range(3):
        worker = clock.served(store, b"after".ljust(16))
        await worker.begin()
        assert worker.is_current
        began.add(await since(store))
        clock.monotonic += 0.5
    assert len(began) == 1
    assert before.now() - 3000 <= began.pop() <= before.now()


async def test_a_daemon_that_starts_beside_one_elsewhere_finds_no_gap(store: LmdbStore, clock: Clock) -> None:
    first = await begun(clock, store)
    began = await since(store)
    there = Clock(5.0, 1_600_000_000.0, b"another machine".ljust(16))
    second = await begun(there, store)
    assert not second.is_current
    for _ in range(30):
        clock.monotonic += 0.5
        there.monotonic += 0.5
        await first.beat()
        await second.beat()
    assert second.is_current
    assert await since(store) == began


async def test_what_is_granted_before_the_time_is_known_runs_out_late(store: LmdbStore, clock: Clock) -> None:
    first = await begun(clock, store)
    clock.monotonic += BEAT
    second = await begun(replace(clock, machine=b"another machine".ljust(16)), store)
    assert second.latest() >= first.now()


async def test_a_daemon_that_finds_the_row_standing_still_begins_the_service(store: LmdbStore, clock: Clock) -> None:
    await begun(clock, store)
    there = replace(clock, machine=b"another machine".ljust(16))
    second = await begun(there, store)
    began = await since(store)
    for _ in range(int(LOST + BEAT) - 1):
        there.monotonic += 1
        await second.beat()
    assert (second.is_current, await since(store)) == (False, began)
    there.monotonic += 1
    await second.beat()
    assert (second.is_current, await since(store)) == (True, second.now())


async def test_who_was_cut_off_while_another_served_begins_nothing(store: LmdbStore, clock: Clock) -> None:
    first = await begun(clock, store)
    there = replace(clock, machine=b"another machine".ljust(16))
    second = await begun(there, store)
    for _ in range(10):
        clock.monotonic += 1
        there.monotonic += 1
        await first.beat()
        await second.beat()
    began = await since(store)
    for _ in range(60):
        clock.monotonic += 1
        there.monotonic += 1
        await first.beat()
    assert not second.is_current
    for _ in range(4):
        await second.beat()
        clock.monotonic += 1
        there.monotonic += 1
        await first.beat()
    await second.beat()
    assert second.is_current
    assert await since(store) == began


async def test_when_all_were_cut_off_the_service_begins_anew(store: LmdbStore, clock: Clock) -> None:
    there = replace(clock, machine=b"another machine".ljust(16))
    first, second = await begun(clock, store), await begun(there, store)
    for _ in range(10):
        clock.monotonic += 1
        there.monotonic += 1
        await first.beat()
        await second.beat()
    before = first.now()
    clock.monotonic += 60
    there.monotonic += 60
    assert (first.is_current, second.is_current) == (False, False)
    for _ in range(20):
        await second.beat()
        await first.beat()
        clock.monotonic += 1
        there.monotonic += 1
    assert await since(store) >= before + LOST * 1000


@settings(deadline=None, max_examples=10)
@given(seed=st.integers(0, 2**32), machines=st.integers(1, 4))
async def test_nothing_runs_out_early_on_any_daemon(
    tmp_path_factory: pytest.TempPathFactory, seed: int, machines: int
) -> None:
    """Daemons start, stop, stall and look at the row at random, with wall clocks that are hours apart and jump."""
    rng = random.Random(seed)
    store = LmdbStore(tmp_path_factory.mktemp("served"))
    store.shared = True
    clocks = [Clock(rng.uniform(0, 1e6), rng.uniform(1e9, 2e9), b"%016d" % number) for number in range(machines)]
    daemons: list[ServedTime | None] = [None] * machines
    stalled = [0.0] * machines
    granted: list[tuple[float, Grant]] = []
    real = 0.0
    looks = [0.0] * machines
    for _ in range(1000):
        step = rng.choice([0.05, 0.05, 0.05, 0.3, 1.0])
        real += step
        for number, clock in enumerate(clocks):
            clock.monotonic += step
            clock.ahead += rng.choice([0, 0, 0, -5000, 5000])
            stalled[number] = max(0.0, stalled[number] - step)
            daemon = daemons[number]
            if daemon is None:
                if rng.random() < 0.02:
                    daemons[number] = await begun(clock, store)
                    looks[number] = real
                continue
            if rng.random() < 0.005:
                daemons[number] = None
            elif rng.random() < 0.005:
                stalled[number] = rng.uniform(0, 20)
            elif not stalled[number]:
                if looks[number] <= real or not daemon.is_current:
                    await daemon.beat()
                    looks[number] = real + BEAT
                if rng.random() < 0.3:
                    granted.append((real, Grant(0, (ttl := rng.choice([2, 5, 30])), daemon.latest() + ttl * 1000)))
            if daemon.is_current:
                began, now = await since(store), daemon.now()
                out = [(at, lease) for at, lease in granted if lease.ends(began) <= now]
                assert all(real - at > lease.ttl - 0.01 for at, lease in out)
                granted = [found for found in granted if found not in out]
    await store.close()

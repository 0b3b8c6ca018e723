"""What is compacted without being asked for: what it means is etcd's, when it happens is a clock's that a test moves."""

import asyncio
from collections.abc import Sequence
from pathlib import Path

import pytest

from fetch import errors
from fetch.api.rpc_pb2 import RangeRequest
from fetch.engine import retention
from fetch.engine.engine import StoredEngine
from fetch.engine.retention import Kept, Retention, claim
from tests.engine.clocks import Clock
from tests.engine.engines import Daemon, daemon, put

TEN_MINUTES = Retention(seconds=600)
MINUTE = 60


class Machine:
    """A daemon whose clock a test moves, with the engine of alpha."""

    def __init__(self, clock: Clock, running: Daemon, engine: StoredEngine) -> None:
        self.clock, self.running, self.engine = clock, running, engine

    async def look(self, kept: Retention, *, after: int = 0) -> int:
        """Lets seconds pass and looks at the tenant; the revision that it is compacted at."""
        self.clock.monotonic += after
        return await self.engine.compact_by(kept)

    async def looks(self, kept: Retention, minutes: int) -> list[int]:
        """Looks every minute; the revisions that it is compacted at."""
        return [found for _ in range(minutes) if (found := await self.look(kept, after=MINUTE))]


@pytest.fixture
async def machine(tmp_path: Path):
    clock = Clock()
    async with daemon(tmp_path, clock=clock) as running:
        yield Machine(clock, running, await running.open())


async def test_nothing_is_compacted_before_the_retention_is_over(machine: Machine) -> None:
    await put(machine.engine, b"key")
    await machine.look(TEN_MINUTES)
    assert await machine.looks(TEN_MINUTES, 9) == []


async def test_what_was_newest_a_retention_ago_is_what_is_kept(machine: Machine) -> None:
    then = await put(machine.engine, b"key")
    await machine.look(TEN_MINUTES)
    await put(machine.engine, b"key")
    assert await machine.looks(TEN_MINUTES, 10) == [then]


async def test_reads_of_what_is_older_than_the_retention_fail(machine: Machine) -> None:
    then = await put(machine.engine, b"key")
    await put(machine.engine, b"key")
    await machine.look(TEN_MINUTES)
    await machine.looks(TEN_MINUTES, 10)
    with pytest.raises(errors.Compacted):
        await machine.engine.range_keys(RangeRequest(key=b"key", revision=then))


async def test_a_tenant_that_is_written_to_all_the_time_is_compacted_as_often_as_the_retention_is_long(
    machine: Machine,
) -> None:
    compacted = []
    for _ in range(35):
        await put(machine.engine, b"key")
        compacted += await machine.looks(TEN_MINUTES, 1)
    assert len(compacted) == 3
    assert compacted == sorted(compacted)


async def test_a_day_is_compacted_every_hour(machine: Machine) -> None:
    day = Retention(seconds=24 * 3600)
    compacted = []
    for _ in range(30 * 10):
        await put(machine.engine, b"key")
        if found := await machine.look(day, after=6 * MINUTE):
            compacted.append(found)
    assert 5 <= len(compacted) <= 7


async def test_what_is_kept_of_weeks_is_a_small_row(machine: Machine) -> None:
    weeks = Retention(seconds=30 * 24 * 3600)
    for _ in range(300):
        await put(machine.engine, b"key")
        await machine.look(weeks, after=int(weeks.interval))
    with machine.running.store.snapshot() as snapshot:
        assert len(await snapshot.get(machine.engine._layout.retained) or b"") < 8192


async def test_a_tenant_that_does_not_change_is_compacted_once(machine: Machine) -> None:
    then = await put(machine.engine, b"key")
    await machine.look(TEN_MINUTES)
    assert await machine.looks(TEN_MINUTES, 60) == [then]


async def test_a_look_at_a_tenant_that_does_not_change_writes_nothing(machine: Machine) -> None:
    await put(machine.engine, b"key")
    await machine.looks(TEN_MINUTES, 1)
    layout = machine.engine._layout
    with machine.running.store.snapshot() as snapshot:
        before = await snapshot.get(layout.retained)
    await machine.looks(TEN_MINUTES, 5)
    with machine.running.store.snapshot() as snapshot:
        assert await snapshot.get(layout.retained) == before


async def test_all_but_so_many_revisions_go(machine: Machine) -> None:
    for _ in range(50):
        newest = await put(machine.engine, b"key")
    assert await machine.look(Retention(revisions=20), after=300) == newest - 20


async def test_fewer_revisions_than_are_kept_stay(machine: Machine) -> None:
    await put(machine.engine, b"key")
    assert await machine.look(Retention(revisions=20), after=300) == 0


async def test_what_its_clients_have_compacted_further_is_let_be(machine: Machine) -> None:
    await put(machine.engine, b"key")
    await machine.look(TEN_MINUTES)
    await machine.engine.compact(await put(machine.engine, b"key"), physical=True)
    assert await machine.looks(TEN_MINUTES, 15) == []


async def test_of_two_daemons_one_compacts(machine: Machine) -> None:
    store, layout = machine.running.store, machine.engine._layout
    await put(machine.engine, b"key")
    await machine.look(TEN_MINUTES)
    now = machine.engine._served.now() + 600_000
    claimed = await asyncio.gather(*(claim(store, layout, now, TEN_MINUTES) for _ in range(8)))
    assert sum(map(bool, claimed)) == 1


async def test_a_compaction_that_did_not_come_about_is_tried_again(machine: Machine) -> None:
    store, layout = machine.running.store, machine.engine._layout
    then = await put(machine.engine, b"key")
    await machine.look(TEN_MINUTES)
    await claim(store, layout, machine.engine._served.now() + 600_000, TEN_MINUTES)  # and the daemon ends
    machine.clock.monotonic += 600
    assert await machine.looks(TEN_MINUTES, 10) == [then]


async def test_the_retention_goes_on_over_a_restart(tmp_path: Path) -> None:
    clock = Clock()
    async with daemon(tmp_path, clock=clock) as first:
        engine = await first.open()
        then = await put(engine, b"key")
        await engine.compact_by(TEN_MINUTES)
        await clock.pass_by(540, first.tenants.served)
    async with daemon(tmp_path, clock=clock) as second:
        await clock.pass_by(65, second.tenants.served)
        assert await (await second.open()).compact_by(TEN_MINUTES) == then


def test_a_mark_of_a_revision_that_there_is_not_is_forgotten() -> None:
    kept = Kept(0, 0, ((0, 500),))
    assert kept.looked_at(20, -1, 10**9, TEN_MINUTES)[0].marks == ((10**9, 20),)


class Looked:
    """An engine that notes when it is looked at."""

    def __init__(self, tenant: str, order: list[str], error: Exception | None = None) -> None:
        self.tenant = tenant
        self._order = order
        self._error = error

    async def compact_by(self, kept: Retention) -> int:
        self._order.append(self.tenant)
        if self._error is not None:
            raise self._error
        return 0


class RoundOverError(Exception):
    """The last pause of a round has come."""


async def one_round(engines: Sequence[Looked]) -> tuple[list[float], list[str]]:
    """The pauses of a round, and the failures that were told."""
    pauses: list[float] = []
    failed: list[str] = []

    async def pause(seconds: float) -> None:
        pauses.append(seconds)
        if len(pauses) > len(engines):
            raise RoundOverError

    with pytest.raises(RoundOverError):
        await retention.run(lambda: engines, TEN_MINUTES, failed.append, pause)
    return pauses, failed


async def test_hundreds_of_tenants_are_looked_at_one_after_the_other_all_over_the_interval() -> None:
    order: list[str] = []
    pauses, _ = await one_round([Looked(f"tenant-{number}", order) for number in range(500)])
    tenths = {int(pause / (TEN_MINUTES.interval / 10)) for pause in pauses[:-1]}
    assert len(order) == 500
    assert tenths == set(range(10))


async def test_a_tenant_that_fails_keeps_no_other_from_its_turn() -> None:
    order: list[str] = []
    engines = [Looked("alpha", order, OSError()), Looked("beta", order), Looked("gamma", order)]
    assert (await one_round(engines))[1] == [retention.TASK]
    assert sorted(order) == ["alpha", "beta", "gamma"]


async def test_that_clients_came_first_is_no_failure() -> None:
    assert (await one_round([Looked("alpha", [], errors.Compacted())]))[1] == []

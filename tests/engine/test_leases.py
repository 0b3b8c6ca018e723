"""Leases run out by the time that is served, in batches of bounded size, and no tenant's expiries wait for another's."""

import asyncio
import logging
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from fetch import errors
from fetch.api.rpc_pb2 import PutRequest, RangeRequest
from fetch.chain import Link, ProceedMutation
from fetch.engine import lease as leases
from fetch.engine.batch import Batch, Committed, Mutation
from fetch.engine.engine import StoredEngine
from fetch.engine.lease import Due, Grant, slack
from fetch.engine.reaper import TASK, Reaper
from fetch.engine.served import LOST
from fetch.stores.protocol import StoreUnavailable, TransactionTooLarge
from tests.engine.clocks import Clock
from tests.engine.engines import Daemon, daemon, put
from tests.stores.steps import rows, write

EVERYTHING = RangeRequest(key=b"\0", range_end=b"\0", count_only=True)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def running(tmp_path: Path, clock: Clock) -> AsyncIterator[Daemon]:
    async with daemon(tmp_path, clock=clock) as started:
        yield started


async def pass_by(running: Daemon, clock: Clock, seconds: float) -> None:
    """Lets time pass while the daemon serves, then expires what is due."""
    await clock.pass_by(seconds, running.tenants.served)
    await reap(running)


async def reap(running: Daemon) -> None:
    """Rounds of the reaper until one has found nothing to do."""
    reaper = running.tenants.reaper
    while True:
        await reaper.round()
        if not reaper.is_busy:
            return
        await reaper.idle()


async def exists(engine: StoredEngine, lease: int) -> bool:
    return lease in (await engine.leases())[0]


async def attach(engine: StoredEngine, lease: int, *keys: bytes) -> None:
    await asyncio.gather(*(engine.put(PutRequest(key=key, lease=lease)) for key in keys))


async def remaining(engine: StoredEngine, lease: int) -> int:
    return (await engine.find_lease(lease, keys=False))[1]


async def count(engine: StoredEngine) -> int:
    return (await engine.range_keys(EVERYTHING)).count


def batches(running: Daemon) -> list[int]:
    """How many writes each batch had, of those that changed a revision or not."""
    return [report.writes for report in running.reports if isinstance(report, Committed)]


# when


@pytest.mark.parametrize("ttl", [2, 5, 60, 3600])
async def test_a_lease_lives_for_its_time_and_no_longer_than_a_bound(
    engine: StoredEngine, running: Daemon, clock: Clock, ttl: int
) -> None:
    await engine.grant_lease(7, ttl)
    await pass_by(running, clock, ttl)
    assert await exists(engine, 7)
    await pass_by(running, clock, slack(ttl) / 1000)
    assert not await exists(engine, 7)


async def test_what_remains_is_told_in_seconds_as_etcd_does(
    engine: StoredEngine, running: Daemon, clock: Clock
) -> None:
    await engine.grant_lease(7, 2)
    assert await remaining(engine, 7) == 1
    await clock.pass_by(2, running.tenants.served)
    assert await remaining(engine, 7) == 0


@pytest.mark.parametrize("jump", [86400, -86400])
async def test_a_jump_of_the_wall_clock_ends_no_lease_and_keeps_none(
    engine: StoredEngine, running: Daemon, clock: Clock, jump: float
) -> None:
    await engine.grant_lease(7, 10)
    clock.ahead += jump
    await pass_by(running, clock, 9)
    assert (await exists(engine, 7), await remaining(engine, 7)) == (True, 1)
    await pass_by(running, clock, 2)
    assert not await exists(engine, 7)


@pytest.mark.parametrize("jump", [0, 86400, -86400])
async def test_a_lease_has_its_time_anew_after_nobody_served(tmp_path: Path, clock: Clock, jump: float) -> None:
    async with daemon(tmp_path, clock=clock) as first:
        await (await first.open()).grant_lease(7, 10)
        await pass_by(first, clock, 9)
    clock.monotonic += 3600
    clock.ahead += jump
    async with daemon(tmp_path, clock=clock) as second:
        engine = await second.open()
        await pass_by(second, clock, 9)
        assert (await exists(engine, 7), await remaining(engine, 7)) == (True, 1)
        await pass_by(second, clock, 3)
        assert not await exists(engine, 7)


async def test_a_long_lease_does_not_live_on_with_each_restart(tmp_path: Path, clock: Clock) -> None:
    async with daemon(tmp_path, clock=clock) as first:
        await (await first.open()).grant_lease(7, 3600)
        await pass_by(first, clock, 600)
    async with daemon(tmp_path, clock=clock) as second:
        assert 2990 <= await remaining(await second.open(), 7) <= 3010


async def test_a_lease_has_its_time_anew_after_the_daemon_stood_still(
    engine: StoredEngine, running: Daemon, clock: Clock
) -> None:
    await engine.grant_lease(7, 10)
    clock.monotonic += 60
    await reap(running)
    assert await exists(engine, 7)  # the gap has not been noticed yet
    await pass_by(running, clock, 10)
    assert await exists(engine, 7)
    await pass_by(running, clock, 2)
    assert not await exists(engine, 7)


async def test_an_expiry_that_waited_for_the_store_through_a_gap_is_given_up(
    engine: StoredEngine, running: Daemon, clock: Clock
) -> None:
    granted, _ = await engine.grant_lease(7, 2)
    await clock.pass_by(3, running.tenants.served)
    clock.monotonic += LOST
    await engine.expire_leases([(7, granted.expires)])
    assert await exists(engine, 7)


async def test_what_was_stored_before_there_was_a_time_served_is_kept(running: Daemon, clock: Clock) -> None:
    engine = await running.open()
    layout = engine._layout
    old = Grant(7, 10, int(clock.wall() * 1000) + 5000)
    await write(running.store, {layout.lease(7): old.pack(), layout.expiry(old.expires, 7): b"alpha"})
    assert await remaining(engine, 7) == 9
    await pass_by(running, clock, 11)
    assert not await exists(engine, 7)


# renewing


async def test_a_renewal_that_changes_nothing_is_not_written(
    engine: StoredEngine, running: Daemon, clock: Clock
) -> None:
    await engine.grant_lease(7, 60)
    before = len(batches(running))
    for _ in range(50):
        clock.monotonic += 0.01
        assert (await engine.renew_leases([7]))[0][0] is not None
    assert len(batches(running)) == before


@pytest.mark.parametrize("steps", [1, 4, 100])
async def test_a_renewed_lease_never_ends_early(
    engine: StoredEngine, running: Daemon, clock: Clock, steps: int
) -> None:
    await engine.grant_lease(7, 2)
    for _ in range(steps):
        clock.monotonic += 0.11
        await running.tenants.served.beat()
        await engine.renew_leases([7])
    await pass_by(running, clock, 1.999)
    assert await exists(engine, 7)


async def test_renewals_of_many_streams_share_a_batch(engine: StoredEngine, running: Daemon, clock: Clock) -> None:
    for number in range(1, 101):
        await engine.grant_lease(number, 60)
    clock.monotonic += 5
    before = len(batches(running))
    answers = await asyncio.gather(*(engine.renew_leases([number, number % 7 + 1]) for number in range(1, 101)))
    assert [[grant and grant.lease for grant in found] for found, _ in answers] == [
        [number, number % 7 + 1] for number in range(1, 101)
    ]
    assert len(batches(running)) - before <= 2


async def test_a_renewal_whose_caller_has_gone_still_answers_the_others(
    engine: StoredEngine, running: Daemon, clock: Clock
) -> None:
    await engine.grant_lease(7, 60)
    clock.monotonic += 5
    first, second = (asyncio.create_task(engine.renew_leases([7])) for _ in range(2))
    await asyncio.sleep(0)
    first.cancel()
    [granted] = (await second)[0]
    assert granted is not None


async def test_a_lease_that_is_revoked_while_its_renewal_waits_is_gone(
    engine: StoredEngine, running: Daemon, clock: Clock
) -> None:
    await engine.grant_lease(7, 60)
    clock.monotonic += 5
    revoking = asyncio.create_task(engine.revoke_lease(7))
    await asyncio.sleep(0)
    assert (await engine.renew_leases([7]))[0] == [None]
    await revoking


# expiring in steps


async def test_a_lease_is_expired_at_one_revision_however_many_keys_it_has(
    engine: StoredEngine, running: Daemon, clock: Clock
) -> None:
    await engine.grant_lease(7, 2)
    await attach(engine, 7, *(b"%d" % number for number in range(2500)))
    before = await engine.revision()
    await pass_by(running, clock, 3)
    assert (await count(engine), await engine.revision()) == (0, before + 1)


async def test_many_leases_are_expired_in_batches_between_which_others_write(
    engine: StoredEngine, running: Daemon, clock: Clock
) -> None:
    for number in range(1, 101):
        await engine.grant_lease(number, 2)
        await attach(engine, number, *(b"%d-%d" % (number, key) for key in range(10)))
    before = await engine.revision()
    await clock.pass_by(3, running.tenants.served)
    await running.tenants.reaper.round()
    await asyncio.sleep(0)
    written = await put(engine, b"other")
    await reap(running)
    assert await count(engine) == 1
    assert before < written < before + 60


async def test_what_the_store_cannot_commit_at_once_is_expired_in_steps(
    engine: StoredEngine, running: Daemon, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    await engine.grant_lease(7, 2)
    await attach(engine, 7, *(b"%d" % number for number in range(300)))
    transact = running.store.transact

    async def bounded(body: Any) -> Any:
        async def measured(transaction: Any) -> Any:
            result = await body(transaction)
            if len(transaction.writes) > 400:
                raise TransactionTooLarge
            return result

        return await transact(measured)

    monkeypatch.setattr(running.store, "transact", bounded)
    await pass_by(running, clock, 3)
    assert (await count(engine), await exists(engine, 7)) == (0, False)


async def test_a_lease_that_is_expired_in_steps_cannot_be_renewed(
    engine: StoredEngine, running: Daemon, clock: Clock
) -> None:
    granted, _ = await engine.grant_lease(7, 2)
    await attach(engine, 7, *(b"%d" % number for number in range(20)))
    await clock.pass_by(3, running.tenants.served)

    async def step(batch: Batch) -> int:
        return await leases.expire(batch, "alpha", [(7, granted.expires)], running.tenants.served, 5, whole=False)

    await engine._writer.submit(step)
    assert (await engine.renew_leases([7]))[0] == [None]
    assert await count(engine) == 15
    await reap(running)
    assert await count(engine) == 0


# tenants beside each other


class FailsForOneTenant:
    """Raises what one tenant's deletes meet behind everything else in the chain."""

    def __init__(self, prefix: bytes, error: BaseException) -> None:
        self.prefix = prefix
        self.error = error
        self.fails = True
        self.passed = asyncio.Event()

    async def intercept(self, mutation: Mutation, proceed: ProceedMutation) -> None:
        await proceed(mutation)
        if self.fails and mutation.kind == "delete" and mutation.key.startswith(self.prefix):
            raise self.error
        if mutation.kind == "delete":
            self.passed.set()


ERRORS = [ValueError("foreign"), errors.LeaseExists(), StoreUnavailable("away"), MemoryError(), KeyError("a")]


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
async def test_a_tenant_whose_leases_cannot_expire_delays_no_other(
    tmp_path: Path, clock: Clock, error: Exception
) -> None:
    failed: list[str] = []
    link = Link("fails", "tests", FailsForOneTenant(b"bad", error))
    async with daemon(tmp_path, inner=[link], clock=clock, failed=failed.append) as running:
        bad, good = await running.open("bad"), await running.open("good")
        for number in range(1, 301):
            await bad.grant_lease(number, 2)
        await asyncio.gather(*(attach(bad, number, b"bad-%d" % number) for number in range(1, 301)))
        await good.grant_lease(7, 3)
        await attach(good, 7, b"good")
        await pass_by(running, clock, 4)
        assert not await exists(good, 7)
        assert await count(bad) == 300
        assert TASK in failed


async def test_a_tenant_that_failed_is_tried_again(tmp_path: Path, clock: Clock) -> None:
    failing = FailsForOneTenant(b"bad", ValueError("foreign"))
    async with daemon(tmp_path, inner=[Link("fails", "tests", failing)], clock=clock) as running:
        engine = await running.open()
        await engine.grant_lease(7, 2)
        await attach(engine, 7, b"bad")
        await pass_by(running, clock, 3)
        assert await exists(engine, 7)
        failing.fails = False
        running.tenants.start()
        await failing.passed.wait()


async def test_a_failure_is_logged_with_its_tenant_and_traceback(
    tmp_path: Path, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    link = Link("fails", "tests", FailsForOneTenant(b"bad", ValueError("foreign")))
    async with daemon(tmp_path, inner=[link], clock=clock) as running:
        engine = await running.open("gamma")
        await engine.grant_lease(7, 2)
        await attach(engine, 7, b"bad")
        with caplog.at_level(logging.ERROR):
            await pass_by(running, clock, 3)
    assert "failed for gamma" in caplog.text
    assert "ValueError: foreign" in caplog.text


@pytest.fixture
async def queue(running: Daemon) -> list[tuple[str, list[Due]]]:
    """A queue of expiries of made-up tenants: 5,000 of `many`, and behind them one of each of five others."""
    engine = await running.open()
    now = running.tenants.served.now()
    due: dict[bytes, bytes | None] = {engine._layout.expiry(now - 9000 + n // 10, n): b"many" for n in range(5000)}
    due |= {engine._layout.expiry(now - 100, n): b"other%d" % n for n in range(5)}
    await write(running.store, due)
    return []


async def some_rounds(reaper: Reaper, rounds: int) -> None:
    for _ in range(rounds):
        await reaper.round()
        await asyncio.sleep(0)
        await asyncio.sleep(0)


async def test_a_slow_tenant_delays_no_other(running: Daemon, queue: list[tuple[str, list[Due]]]) -> None:
    async def expire(tenant: str, due: Sequence[Due]) -> int:
        queue.append((tenant, list(due)))
        if tenant == "many":
            await asyncio.Event().wait()
        return len(due)

    reaper = Reaper(running.store, running.tenants.served, expire, lambda _: None)
    await some_rounds(reaper, 3)
    assert {tenant for tenant, _ in queue} == {"many", *(f"other{number}" for number in range(5))}
    await reaper.close()


async def test_what_is_kept_of_a_tenant_that_is_due_is_bounded(
    running: Daemon, queue: list[tuple[str, list[Due]]]
) -> None:
    async def expire(tenant: str, due: Sequence[Due]) -> int:
        queue.append((tenant, list(due)))
        raise ValueError

    reaper = Reaper(running.store, running.tenants.served, expire, lambda _: None)
    await some_rounds(reaper, 20)
    assert max(len(due) for _, due in queue) <= 1024
    assert [tenant for tenant, _ in queue].count("many") <= 3  # it waits longer each time


async def test_a_round_walks_a_bounded_stretch_and_the_next_goes_on_there(
    running: Daemon, queue: list[tuple[str, list[Due]]], monkeypatch: pytest.MonkeyPatch
) -> None:
    walked: list[int] = []
    snapshot = type(running.store.snapshot())
    get_range = snapshot.get_range

    async def counted(self: Any, begin: bytes, end: bytes, limit: int) -> Any:
        found = await get_range(self, begin, end, limit)
        walked.append(len(found[0]))
        return found

    monkeypatch.setattr(snapshot, "get_range", counted)

    async def expire(_: str, __: Sequence[Due]) -> int:
        return await asyncio.Event().wait() or 0

    reaper = Reaper(running.store, running.tenants.served, expire, lambda _: None)
    await reaper.round()
    assert sum(walked) <= 2048
    await some_rounds(reaper, 2)
    assert sum(walked) >= 5000
    await reaper.close()


async def test_a_store_that_is_away_is_no_end(running: Daemon, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = await running.open()
    await engine.grant_lease(7, 2)
    await clock.pass_by(3, running.tenants.served)
    away = True
    snapshot = running.store.snapshot

    def maybe_away() -> Any:
        if away:
            raise StoreUnavailable("away")
        return snapshot()

    monkeypatch.setattr(running.store, "snapshot", maybe_away)
    assert await running.tenants.reaper.round() < 1
    away = False
    await reap(running)
    assert not await exists(engine, 7)


async def test_what_nobody_foresaw_is_no_end(tmp_path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    met = asyncio.Event()
    passing = FailsForOneTenant(b"none", ValueError())
    inner = [Link("passes", "tests", passing)]
    async with daemon(tmp_path, inner=inner, clock=clock, failed=lambda _: met.set()) as running:
        engine = await running.open()
        await engine.grant_lease(7, 2)
        await attach(engine, 7, b"key")
        await clock.pass_by(3, running.tenants.served)
        with monkeypatch.context() as patched:
            patched.setattr(running.tenants.reaper, "_walk", None)  # to await it is a TypeError
            running.tenants.start()
            await met.wait()
        await passing.passed.wait()


async def test_the_queue_has_one_row_a_lease_whatever_happens_to_it(
    engine: StoredEngine, running: Daemon, clock: Clock
) -> None:
    await engine.grant_lease(7, 10)
    for _ in range(5):
        await clock.pass_by(3, running.tenants.served)
        await engine.renew_leases([7])
    clock.monotonic += 60
    await pass_by(running, clock, 1)
    queued = await rows(running.store, b"\x02", b"\x03")
    assert len(queued) == 1
    await engine.revoke_lease(7)
    assert await rows(running.store, b"\x02", b"\x03") == []

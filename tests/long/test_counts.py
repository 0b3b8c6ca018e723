"""Counts of ranges that are far larger than what can be counted in one snapshot."""

import asyncio

import pytest

from fetch import errors
from fetch.api.kv_pb2 import KeyValue
from fetch.api.rpc_pb2 import RangeRequest, RangeResponse
from fetch.engine.answers import Found
from fetch.engine.engine import StoredEngine
from fetch.engine.reads import bounds
from fetch.stores.protocol import StoreUnavailable
from tests.engine.engines import delete, put
from tests.long.cluster import COUNT, EVERYTHING, SmallCluster, engines, fill, key, keys_of, run

KEYS = 1500
PAGE = RangeRequest(key=b"/key/", range_end=b"/key0", limit=20)


@pytest.fixture(autouse=True)
def _small_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("PAGE", "EVENTS_AT_ONCE"):
        monkeypatch.setattr(bounds, name, 50)
    monkeypatch.setattr(bounds, "COUNTED_AT_ONCE", 60)
    monkeypatch.setattr(bounds, "BRIEF", 10)


def kvs(found: Found) -> list[KeyValue]:
    return list(RangeResponse.FromString(b"".join(found.frames)).kvs)


async def churn(engine: StoredEngine) -> None:
    """Creates, updates and deletes keys all over the range until it is cancelled."""
    number = 0
    while True:
        number += 1
        place = number * 7919 % KEYS
        if number % 3 == 0:
            await delete(engine, key(place))
        else:
            await put(engine, key(place) + b"/%d" % (number % 2 * number), b"x")


def test_a_count_goes_over_many_snapshots_and_is_of_one_revision() -> None:
    async def test() -> None:
        cluster = SmallCluster()
        async with engines(cluster, 2) as (engine, other):
            await fill(engine, KEYS)
            churning = asyncio.create_task(churn(other))
            for _ in range(3):
                engine._counts.__init__()  # type: ignore[misc]  # nothing is known
                cluster.expired = 0
                found = await engine.range_keys(COUNT)
                assert cluster.expired >= 2
                assert found.count == len(await keys_of(engine, found.revision))
            churning.cancel()

    run(test)


def test_a_count_of_an_old_revision_is_right() -> None:
    async def test() -> None:
        async with engines(SmallCluster(), 2) as (engine, other):
            await fill(engine, KEYS)
            old = await engine.revision()
            await delete(engine, key(100), key(200))
            churning = asyncio.create_task(churn(other))
            await asyncio.sleep(1)
            count = RangeRequest(key=b"/", range_end=b"0", count_only=True, revision=old)
            assert (await engine.range_keys(count)).count == KEYS
            churning.cancel()

    run(test)


def test_a_limited_list_tells_the_count_of_its_revision() -> None:
    async def test() -> None:
        async with engines(SmallCluster(), 2) as (engine, other):
            await fill(engine, KEYS)
            churning = asyncio.create_task(churn(other))
            found = await engine.range_keys(PAGE)
            assert found.count == len(await keys_of(engine, found.revision))
            churning.cancel()

    run(test)


def test_a_count_that_is_known_costs_what_has_changed() -> None:
    async def test() -> None:
        cluster = SmallCluster()
        async with engines(cluster) as (engine,):
            await fill(engine, KEYS)
            await engine.range_keys(PAGE)
            for number in range(50):
                await put(engine, key(number) + b"/new")
            cluster.sent = 0
            assert (await engine.range_keys(PAGE)).count == KEYS + 50
            assert cluster.sent < 50 + 2 * 21

    run(test)


def test_lists_that_ask_at_once_share_one_count() -> None:
    async def test() -> None:
        cluster = SmallCluster()
        async with engines(cluster) as (engine,):
            await fill(engine, KEYS)
            cluster.sent = 0
            found = await asyncio.gather(*(engine.range_keys(PAGE) for _ in range(5)))
            assert [each.count for each in found] == [KEYS] * 5
            assert cluster.sent < 2 * KEYS

    run(test)


def test_nobody_counts_on_for_a_client_that_has_gone() -> None:
    async def test() -> None:
        cluster = SmallCluster()
        async with engines(cluster) as (engine,):
            await fill(engine, KEYS)
            cluster.sent = 0
            await cancelled_after(cluster, KEYS // 3, asyncio.create_task(engine.range_keys(COUNT)))
            before = cluster.sent
            await asyncio.sleep(1)
            assert cluster.sent < before + 100  # what was on its way

    run(test)


def test_the_next_one_goes_on_where_a_client_has_gone() -> None:
    async def test() -> None:
        cluster = SmallCluster()
        async with engines(cluster) as (engine,):
            await fill(engine, KEYS)
            cluster.sent = 0
            await cancelled_after(cluster, KEYS * 2 // 3, asyncio.create_task(engine.range_keys(COUNT)))
            await put(engine, key(1) + b"/new")
            await delete(engine, key(KEYS - 1))
            await delete(engine, key(2))
            cluster.sent = 0
            assert (await engine.range_keys(COUNT)).count == KEYS - 1
            assert cluster.sent < KEYS * 2 // 3

    run(test)


def test_who_waits_for_a_count_goes_on_with_it_when_its_client_has_gone() -> None:
    async def test() -> None:
        cluster = SmallCluster()
        async with engines(cluster) as (engine,):
            await fill(engine, KEYS)
            cluster.sent = 0
            first, second = (asyncio.create_task(engine.range_keys(COUNT)) for _ in range(2))
            await cancelled_after(cluster, KEYS // 2, first)
            assert (await second).count == KEYS
            assert cluster.sent < KEYS * 3 // 2

    run(test)


async def cancelled_after(cluster: SmallCluster, rows: int, task: "asyncio.Task[object]") -> None:
    """Cancels a task when the cluster has sent so many rows."""
    enough = asyncio.Event()
    cluster.interrupt = lambda: enough.set() if cluster.sent >= rows else None
    await enough.wait()
    cluster.interrupt = lambda: None
    task.cancel()
    await asyncio.wait([task])
    assert task.cancelled()


def test_a_count_that_compaction_overtakes_is_right() -> None:
    async def test() -> None:
        cluster = SmallCluster()
        async with engines(cluster, 2) as (engine, other):
            await fill(engine, KEYS)
            await engine.compact(await engine.revision() - 3, physical=True)
            half = asyncio.Event()
            cluster.sent = 0
            cluster.interrupt = lambda: half.set() if cluster.sent > KEYS // 2 else None
            counting = asyncio.create_task(engine.range_keys(COUNT))
            await half.wait()
            cluster.interrupt = lambda: None
            await delete(other, key(0))
            await put(other, key(KEYS))
            await put(other, key(KEYS + 1))
            await other.compact(await other.revision(), physical=True)
            found = await counting
            assert found.count == KEYS + 1
            assert found.revision == await other.revision()

    run(test)


def test_an_old_revision_that_compaction_overtakes_is_refused() -> None:
    async def test() -> None:
        cluster = SmallCluster()
        async with engines(cluster, 2) as (engine, other):
            await fill(engine, KEYS)
            old = await engine.revision()
            half = asyncio.Event()
            cluster.sent = 0
            cluster.interrupt = lambda: half.set() if cluster.sent > KEYS // 2 else None
            request = RangeRequest(key=b"/", range_end=b"0", count_only=True, revision=old)
            counting = asyncio.create_task(engine.range_keys(request))
            await half.wait()
            await put(other, key(KEYS))
            await other.compact(await other.revision(), physical=True)
            with pytest.raises(errors.Compacted):
                await counting

    run(test)


def test_each_page_of_a_list_over_two_daemons_costs_its_rows() -> None:
    async def test() -> None:
        cluster = SmallCluster()
        async with engines(cluster, 2) as both:
            await fill(both[0], KEYS)
            for engine in both:
                await engine.range_keys(COUNT)
            revision = await both[0].revision()
            begin, left = b"/key/", KEYS
            for number in range(10):
                request = RangeRequest(key=begin, range_end=b"/key0", limit=100, revision=revision)
                await put(both[0], b"/other/%d" % number)
                cluster.sent = 0
                found = await both[number % 2].range_keys(request)
                assert (found.count, found.more) == (left, True)
                if number > 1:
                    # the page, its history, and what lies between its beginning and what this daemon knows
                    assert cluster.sent < 700
                left -= 100
                begin = key(number * 100 + 99) + b"\x00"

    run(test)


def test_a_list_of_everything_goes_over_many_snapshots_and_is_of_one_revision() -> None:
    async def test() -> None:
        cluster = SmallCluster()
        async with engines(cluster, 2) as (engine, other):
            await fill(engine, KEYS)
            churning = asyncio.create_task(churn(other))
            await asyncio.sleep(0.5)
            cluster.expired = 0
            found = await engine.range_keys(EVERYTHING)
            assert cluster.expired >= 2
            churning.cancel()
            await asyncio.wait([churning])
            again = await engine.range_keys(
                RangeRequest(key=b"\x00", range_end=b"\x00", revision=found.revision, sort_order=RangeRequest.DESCEND)
            )
            assert kvs(found) == kvs(again)[::-1]

    run(test)


def test_the_first_count_of_a_cluster_that_is_slow_comes_to_an_end() -> None:
    """Where a second is not enough for what is counted at once."""

    async def test() -> None:
        cluster = SmallCluster(snapshot_seconds=5.0)
        async with engines(cluster) as (engine,):
            await fill(engine, KEYS)
            cluster.faults.least_delay, cluster.faults.most_delay = 0.3, 0.4
            assert (await engine.range_keys(COUNT)).count == KEYS

    run(test)


def test_a_count_of_a_cluster_that_has_gone_is_unavailable() -> None:
    async def test() -> None:
        cluster = SmallCluster()
        async with engines(cluster) as (engine,):
            await fill(engine, KEYS)
            counting = asyncio.create_task(engine.range_keys(COUNT))
            await asyncio.sleep(0.1)
            cluster.away = True
            loop = asyncio.get_running_loop()
            began = loop.time()
            try:
                with pytest.raises(StoreUnavailable):
                    await counting
                assert loop.time() - began < 7
            finally:
                cluster.away = False

    run(test)

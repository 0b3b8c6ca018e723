"""Watchers of one tenant: what is told to whom, and what is held in memory for those who do not ask."""

from itertools import groupby

import pytest

from fetch.api.rpc_pb2 import RequestOp, TxnRequest
from fetch.engine.engine import StoredEngine
from fetch.engine.watches import feed, log
from tests.engine.engines import delete, put, take, take_once, watch

HELD = 10_000
"""Bytes that the feeds of a tenant may hold here."""
VALUE = b"x" * 1000
PUTS = 50


@pytest.fixture(autouse=True)
def little_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feed, "BACKLOG_BYTES", HELD)


async def test_a_watcher_is_told_what_happens_in_its_range(engine: StoredEngine) -> None:
    watcher = await watch(engine, b"b", b"d")
    for key in (b"a", b"b", b"c", b"d"):
        await put(engine, key)
    assert [event.kv.key for event in await take(engine, watcher)] == [b"b", b"c"]


async def test_a_watcher_is_told_once(engine: StoredEngine) -> None:
    watcher = await watch(engine, b"a")
    await put(engine, b"a")
    await take(engine, watcher)
    assert await take(engine, watcher) == []


async def test_a_watcher_from_the_past_is_told_of_it_and_goes_on(engine: StoredEngine) -> None:
    start = await put(engine, b"a")
    await put(engine, b"a")
    watcher = await watch(engine, b"a", start_revision=start)
    past = await take(engine, watcher)
    await put(engine, b"a")
    assert [event.kv.version for event in past + await take(engine, watcher)] == [1, 2, 3]


async def test_a_watcher_from_the_future_is_told_from_then_on(engine: StoredEngine) -> None:
    watcher = await watch(engine, b"a", start_revision=4)
    for _ in range(4):
        await put(engine, b"a")
    assert [event.kv.mod_revision for event in await take(engine, watcher)] == [4, 5]


async def test_a_slow_watcher_loses_nothing(engine: StoredEngine) -> None:
    slow = await watch(engine, b"k", b"l")
    for number in range(PUTS):
        await put(engine, b"k%03d" % number, VALUE)
    assert [event.kv.key for event in await take(engine, slow)] == [b"k%03d" % number for number in range(PUTS)]


async def test_a_slow_watcher_is_told_what_happens_while_it_catches_up(engine: StoredEngine) -> None:
    slow = await watch(engine, b"k", b"l")
    for number in range(PUTS):
        await put(engine, b"k%03d" % number, VALUE)
    first = await take_once(engine, slow)
    await delete(engine, b"k", b"l")
    assert len(first) + len(await take(engine, slow)) == 2 * PUTS


async def test_a_slow_watcher_is_fed_from_memory_again_once_it_has_caught_up(engine: StoredEngine) -> None:
    slow = await watch(engine, b"k", b"l")
    for _ in range(PUTS):
        await put(engine, b"k", VALUE)
    left_behind = slow.feed is None
    await take(engine, slow)
    assert (left_behind, slow.feed is None) == (True, False)


async def test_what_is_held_for_slow_watchers_is_bounded(engine: StoredEngine) -> None:
    watchers = [await watch(engine, b"k", b"l") for _ in range(10)]
    held: list[int] = []
    for number in range(PUTS):
        await put(engine, b"k", VALUE)
        if number % 3 == 0:
            await take(engine, watchers[number % len(watchers)])
        held.append(engine.watches._backlog.size)
    assert max(held) <= HELD


async def test_a_slow_watcher_does_not_delay_a_quick_one_of_the_same_range(engine: StoredEngine) -> None:
    slow, quick = await watch(engine, b"k", b"l"), await watch(engine, b"k", b"l")
    told = 0
    for _ in range(PUTS):
        await put(engine, b"k", VALUE)
        told += len(await take(engine, quick))
    assert (told, quick.feed is not None, slow.feed is None) == (PUTS, True, True)


async def test_a_page_of_the_log_does_not_split_a_revision(engine: StoredEngine) -> None:
    keys = [b"k%03d" % number for number in range(log.PAGE_EVENTS // 2 + 50)]
    puts = [RequestOp(request_put={"key": key}) for key in keys]
    for _ in range(3):
        await engine.txn(TxnRequest(success=puts))
    watcher = await watch(engine, b"k", b"l", start_revision=2)
    sizes: list[int] = []
    while told := await take_once(engine, watcher):
        sizes.extend(len(list(events)) for _, events in groupby(told, lambda event: event.kv.mod_revision))
    assert sizes == [len(keys)] * 3


async def test_a_revision_longer_than_a_page_is_told_whole(engine: StoredEngine) -> None:
    puts = [RequestOp(request_put={"key": b"k%04d" % number}) for number in range(log.PAGE_EVENTS * 2 + 1)]
    await engine.txn(TxnRequest(success=puts))
    watcher = await watch(engine, b"k", b"l", start_revision=2)
    assert [event.kv.key for event in await take_once(engine, watcher)] == [put.request_put.key for put in puts]


async def test_nothing_is_held_when_nobody_watches(engine: StoredEngine) -> None:
    watcher = await watch(engine, b"k", b"l")
    await put(engine, b"k", VALUE)
    engine.watches.cancel_key_watch(watcher)
    await put(engine, b"k", VALUE)
    assert (engine.watches.watchers, len(engine.watches._feeds), engine.watches.held) == (0, 0, 0)


async def test_nothing_is_held_when_all_who_watch_have_been_left_behind(engine: StoredEngine) -> None:
    for _ in range(3):
        await watch(engine, b"k", b"l")
    for _ in range(PUTS):
        await put(engine, b"k", VALUE)
    assert (engine.watches.watchers, len(engine.watches._feeds), engine.watches.held) == (3, 0, 0)

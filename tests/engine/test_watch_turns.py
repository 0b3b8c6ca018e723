"""What watches ask for never holds the loop: it is bounded how much of it happens in one iteration, whatever there is."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from fetch.api.rpc_pb2 import RequestOp, TxnRequest
from fetch.engine.engine import StoredEngine
from fetch.engine.protocol import MESSAGE_BYTES
from fetch.engine.records import StoredEvent, frame, put_event
from fetch.engine.watches import feed, log, replay
from fetch.engine.watches.feed import Watcher
from tests.engine.engines import put, take, watch
from tests.engine.suspending import SuspendingStore, daemons, stream, until

MANY = 3000
AT_ONCE = 200
"""More of anything than happens in an iteration of the loop."""


@dataclass
class Iterations:
    """How often something was counted in one iteration of the loop at most, and in all."""

    most: int = 0
    total: int = 0
    now: int = 0

    def count(self, *_: object) -> bool:
        self.now += 1
        self.total += 1
        return True


@asynccontextmanager
async def iterations() -> AsyncIterator[Iterations]:
    counted = Iterations()
    loop = asyncio.get_running_loop()
    ended = False

    def iteration() -> None:
        counted.most, counted.now = max(counted.most, counted.now), 0
        if not ended:
            loop.call_soon(iteration)

    iteration()
    yield counted
    ended = True


def counting(counted: Iterations, called: Callable[..., object]) -> Callable[..., object]:
    def call(*arguments: object, **options: object) -> object:
        counted.count()
        return called(*arguments, **options)

    return call


def listen(engine: StoredEngine, counted: Iterations, key: bytes, range_end: bytes, start: int = 0):
    return engine.watches.register_key_watch(
        key, range_end, start, prev_kv=False, puts=True, deletes=True, listener=counted.count
    )


def commit(engine: StoredEngine, count: int) -> int:
    """Hands on a commit of so many events, as if it had been written; its revision."""
    before = engine.watches.received
    events = []
    for number in range(count):
        stored = frame(b"k%06d" % number, b"v", before + 1, before + 1, 1, 0)
        events.append(StoredEvent(before + 1, b"k%06d" % number, put_event(stored, None), len(stored), deleted=False))
    engine.watches.publish(before, before + 1, events)
    return before + 1


async def test_one_event_wakes_many_watchers_of_a_range_a_few_at_a_time(engine: StoredEngine) -> None:
    async with iterations() as counted:
        for _ in range(MANY):
            await listen(engine, counted, b"k", b"l")
        await put(engine, b"k")
        await until(lambda: counted.total == MANY)
    assert counted.most < AT_ONCE


async def test_one_event_goes_to_many_ranges_a_few_at_a_time(
    engine: StoredEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with iterations() as woken, iterations() as added:
        monkeypatch.setattr(feed.Feed, "add", counting(added, feed.Feed.add))
        for number in range(2 * MANY):
            await listen(engine, woken, b"k", b"l%06d" % number)
        await put(engine, b"k")
        await until(lambda: woken.total == 2 * MANY)
    assert woken.most < AT_ONCE
    assert (added.total, added.most < 2 * MANY) == (2 * MANY, True)


async def test_a_large_commit_is_handed_on_in_slices_and_seen_whole(
    engine: StoredEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    watcher = await watch(engine, b"k", b"l")
    async with iterations() as added:
        monkeypatch.setattr(feed.Feed, "add", counting(added, feed.Feed.add))
        revision = commit(engine, 20_000)
        seen = []
        while engine.watches.position < revision:
            seen.append(engine.watches.has_more(watcher))
            await asyncio.sleep(0)
    assert (any(seen), added.total, added.most < 5000) == (False, 20_000, True)
    assert len(await take(engine, watcher)) == 20_000


async def test_watches_that_are_left_behind_by_a_large_commit_are_told_of_it(engine: StoredEngine) -> None:
    watchers = [await watch(engine, b"k", b"k%d" % number) for number in range(3)]
    engine.watches._backlog.bound = 0
    puts = [RequestOp(request_put={"key": b"k%06d" % number}) for number in range(MANY)]
    await engine.txn(TxnRequest(success=puts))
    await engine.watches.caught_up()
    assert [len(await take(engine, watcher)) for watcher in watchers] == [0, MANY, MANY]


async def test_many_requests_on_a_stream_are_read_a_few_at_a_time(engine: StoredEngine) -> None:
    async with stream(engine) as opened, iterations() as read:
        opened.read = counting(read, opened.read)  # type: ignore[method-assign]
        for number in range(MANY):
            opened.ask(b"k%06d" % number, b"l")
        await until(lambda: engine.watches.watchers == MANY)
    assert read.most < AT_ONCE


async def test_a_stream_of_many_watches_ends_a_few_at_a_time(
    engine: StoredEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fetch.engine.turns.SLICE_SECONDS", 0)
    async with stream(engine) as opened, iterations() as ended:
        for number in range(MANY):
            opened.ask(b"k%06d" % number, b"l")
        await until(lambda: engine.watches.watchers == MANY)
        monkeypatch.setattr(engine.watches, "cancel_key_watch", counting(ended, engine.watches.cancel_key_watch))
        await opened.close()
        await until(lambda: engine.watches.watchers == 0)
    assert (ended.total, ended.most < AT_ONCE) == (MANY, True)


async def test_a_stream_of_many_watches_is_told_of_an_event_a_few_messages_at_a_time(engine: StoredEngine) -> None:
    async with stream(engine) as opened, iterations() as written:
        for _ in range(MANY):
            opened.ask(b"k")
        for _ in range(MANY):
            await opened.receive()
        opened.write = counting(written, opened.write)  # type: ignore[method-assign]
        await put(engine, b"k")
        ids = {(await opened.receive()).watch_id for _ in range(MANY)}
    assert (ids, written.most < AT_ONCE) == (set(range(MANY)), True)


async def test_a_client_that_reads_nothing_has_no_more_requests_read_than_answers_may_wait(
    engine: StoredEngine,
) -> None:
    async with stream(engine) as opened:
        opened.reads.clear()
        for _ in range(MANY):
            opened.ask(b"k")
        await until(lambda: engine.watches.watchers >= 1000)
        for _ in range(1000):
            await asyncio.sleep(0)
        assert engine.watches.watchers < 1100


# those that are behind


@pytest.fixture
async def opened(tmp_path: Path) -> AsyncIterator[tuple[SuspendingStore, StoredEngine]]:
    async with daemons(tmp_path, 1) as (one,):
        yield one


async def fill(engine: StoredEngine, count: int, size: int = 10) -> int:
    """Writes so many revisions; the first."""
    first = await engine.revision() + 1
    await asyncio.gather(*(put(engine, b"k%06d" % number, b"v" * size) for number in range(count)))
    return first


async def test_watches_from_the_past_read_the_log_once_for_all(
    opened: tuple[SuspendingStore, StoredEngine],
) -> None:
    store, engine = opened
    first = await fill(engine, MANY)
    store.rows = 0
    watchers = [await watch(engine, b"none%d" % number, b"o", first) for number in range(200)]
    for watcher in watchers:
        await engine.watches.take(watcher)
    await until(lambda: all(map(engine.watches.is_synced, watchers)))
    assert store.rows < 1.2 * MANY


async def test_a_watch_that_comes_later_reads_only_what_it_has_missed(
    opened: tuple[SuspendingStore, StoredEngine],
) -> None:
    store, engine = opened
    first = await fill(engine, 2 * MANY)
    early = await watch(engine, b"none", b"o", first)
    await engine.watches.take(early)
    await until(lambda: early.position > first + MANY)
    store.rows = 0
    late = await watch(engine, b"nobody", b"o", first)
    await engine.watches.take(late)
    await until(lambda: engine.watches.is_synced(early) and engine.watches.is_synced(late))
    assert store.rows < 2.3 * MANY


async def test_a_reader_that_is_slow_holds_up_nobody_who_is_behind_too(engine: StoredEngine) -> None:
    first = await fill(engine, MANY)
    counted = Iterations()
    slow = [await listen(engine, counted, b"k", b"l", first) for _ in range(10)]
    quick = await watch(engine, b"k", b"l", first)
    for watcher in slow:
        await engine.watches.take(watcher)
    assert len(await take(engine, quick)) == MANY
    assert (counted.total, [watcher.position for watcher in slow]) == (10, [first - 1] * 10)


async def test_what_is_held_for_those_who_are_behind_is_bounded(
    engine: StoredEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log, "PAGE_BYTES", 50_000)
    monkeypatch.setattr(replay, "_MOST_BYTES", 200_000)
    first = await fill(engine, 500, 1000)
    watchers = [await watch(engine, b"k%06d" % (10 * number), b"l", first) for number in range(50)]
    held: list[int] = []
    told = dict.fromkeys(watchers, 0)

    async def hear(watcher: Watcher) -> None:
        told[watcher] = len(await take(engine, watcher))
        held.append(engine.watches.held)

    await asyncio.gather(*map(hear, watchers))
    assert (list(told.values()), max(held) < 300_000) == ([500 - 10 * number for number in range(50)], True)
    assert engine.watches.held == 0


# memory


async def test_an_event_is_held_once_for_all_ranges(engine: StoredEngine) -> None:
    watchers = [await watch(engine, b"k", b"l%d" % number) for number in range(100)]
    for number in range(10):
        await put(engine, b"k%d" % number, b"v" * 10_000)
    assert engine.watches.held < 200_000
    assert [len(await take(engine, watcher)) for watcher in watchers] == [10] * 100


async def test_nothing_is_held_once_everybody_has_taken_it(engine: StoredEngine) -> None:
    watchers = [await watch(engine, b"k", b"l%d" % (number % 10)) for number in range(100)]
    await put(engine, b"k", b"v" * 10_000)
    for watcher in watchers:
        await take(engine, watcher)
    assert engine.watches.held == 0


async def test_what_watchers_of_one_range_are_told_is_made_once(
    engine: StoredEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    watchers = [await watch(engine, b"k", b"l") for _ in range(50)]
    await put(engine, b"k")
    made = Iterations()
    monkeypatch.setattr(StoredEvent, "framed", counting(made, StoredEvent.framed))
    told = [await engine.watches.take(watcher) for watcher in watchers]
    assert (made.total, len({id(delivery.frames[0]) for delivery in told if delivery})) == (1, 1)


async def test_a_stream_that_is_not_read_holds_one_message(engine: StoredEngine) -> None:
    async with stream(engine) as opened:
        for _ in range(20):
            await opened.create(b"k", b"l")
        opened.reads.clear()
        for _ in range(30):
            await put(engine, b"k", b"v" * 50_000)
        await until(lambda: opened.unread > 0)
        assert opened.unread < MESSAGE_BYTES + 100_000


async def test_what_freed_events_took_is_given_back_a_little_at_a_time(engine: StoredEngine) -> None:
    watcher = await watch(engine, b"k", b"l")
    revision = commit(engine, 20_000)
    await until(lambda: engine.watches.position == revision)
    engine.watches.cancel_key_watch(watcher)
    at_once = engine.watches._backlog.size
    await until(lambda: engine.watches.held == 0)
    assert at_once > 0

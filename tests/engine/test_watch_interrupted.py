"""Watches on a store that others write to and that suspends at every call: whatever happens meanwhile, each watch hears
everything, once and in order."""

import asyncio
import random
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from fetch import errors
from fetch.engine import background
from fetch.engine.engine import StoredEngine
from fetch.engine.watches import feed, log
from fetch.engine.watches.feed import Watcher
from tests.engine import suspending
from tests.engine.engines import put, take, told, watch
from tests.engine.suspending import SuspendingStore, daemons, stream, until

Opened = tuple[SuspendingStore, StoredEngine]


@pytest.fixture
async def two(tmp_path: Path) -> AsyncIterator[list[Opened]]:
    """Two daemons on a store."""
    async with daemons(tmp_path, 2) as opened:
        yield opened


@pytest.fixture
def store(two: list[Opened]) -> SuspendingStore:
    return two[0][0]


@pytest.fixture
def engine(two: list[Opened]) -> StoredEngine:
    return two[0][1]


@pytest.fixture
def other(two: list[Opened]) -> StoredEngine:
    """The same tenant in another daemon."""
    return two[1][1]


async def hear(engine: StoredEngine, watcher: Watcher, count: int) -> list[int]:
    """The revisions of the next events, as many as that."""
    heard: list[int] = []
    while len(heard) < count:
        heard += [event.kv.mod_revision for event in await take(engine, watcher)]
        await asyncio.sleep(0)
    return heard


async def test_a_watch_hears_what_another_daemon_writes(engine: StoredEngine, other: StoredEngine) -> None:
    watcher = await watch(engine, b"a")
    revision = await put(other, b"a")
    assert await hear(engine, watcher, 1) == [revision]


async def test_what_others_have_written_while_nobody_looked_is_handed_on_page_by_page(
    store: SuspendingStore, engine: StoredEngine, other: StoredEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log, "PAGE_EVENTS", 10)
    watcher = await watch(engine, b"a")
    held = asyncio.create_task(store.hold())
    await put(other, b"a")
    await held
    revisions = [await put(other, b"a") for _ in range(40)]
    store.open.set()
    pages = []
    receive = engine.watches._receive
    monkeypatch.setattr(engine.watches, "_receive", lambda *page: pages.append(len(page[1])) or receive(*page))
    heard = await hear(engine, watcher, 41)
    assert (heard[1:], sum(pages), max(pages)) == (revisions, 41, 10)


async def test_a_watch_that_is_registered_while_the_only_other_ends_hears(
    store: SuspendingStore, engine: StoredEngine, other: StoredEngine
) -> None:
    first = await watch(engine, b"a")
    registering = asyncio.create_task(watch(engine, b"b"))
    await store.hold()
    engine.watches.cancel_key_watch(first)
    store.open.set()
    watcher = await registering
    revision = await put(other, b"b")
    assert await hear(engine, watcher, 1) == [revision]


async def test_nothing_follows_the_log_for_a_watch_that_is_given_up_while_it_is_registered(
    store: SuspendingStore, engine: StoredEngine
) -> None:
    registering = asyncio.create_task(watch(engine, b"a"))
    await store.hold()
    registering.cancel()
    store.open.set()
    await asyncio.wait([registering])
    assert (engine.watches.watchers, engine.watches.position, engine.watches._background._tasks) == (0, -1, {})


async def test_the_follower_survives_what_nobody_foresaw(
    store: SuspendingStore,
    engine: StoredEngine,
    other: StoredEngine,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(background, "FIRST_PAUSE_SECONDS", 0)
    store.failing = 3
    watcher = await watch(engine, b"a")
    revision = await put(other, b"a")
    assert await hear(engine, watcher, 1) == [revision]
    assert caplog.text.count("following the log failed for") == 3


async def test_what_fails_while_a_commit_is_handed_on_costs_the_watches_nothing(
    engine: StoredEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(background, "FIRST_PAUSE_SECONDS", 0)
    watchers = [await watch(engine, b"a", bytes([ord("b") + number])) for number in range(3)]
    add, calls = feed.Feed.add, 0

    def fail_once(*arguments: object) -> None:
        nonlocal calls
        calls += 1
        if calls == 2:
            raise ValueError("nobody foresaw this")
        add(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(feed.Feed, "add", fail_once)
    revisions = [await put(engine, b"a") for _ in range(3)]
    assert [await hear(engine, watcher, 3) for watcher in watchers] == [revisions] * 3


async def test_a_watch_that_ends_while_the_log_is_read_for_it_leaves_nothing(
    store: SuspendingStore, engine: StoredEngine
) -> None:
    start = await put(engine, b"a")
    watcher = await watch(engine, b"a", start_revision=start)
    taking = asyncio.create_task(take(engine, watcher))
    await store.hold()
    engine.watches.cancel_key_watch(watcher)
    taking.cancel()
    store.open.set()
    await asyncio.wait([taking])
    hub = engine.watches
    await until(lambda: not hub._background._tasks)
    assert (hub.watchers, hub.behind, len(hub._feeds), hub.held) == (0, 0, 0, 0)


async def test_a_watch_is_told_when_compaction_overtakes_it_while_the_log_is_read(
    store: SuspendingStore, engine: StoredEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log, "_ROWS", 1)
    start = await put(engine, b"a")
    for _ in range(5):
        last = await put(engine, b"a")
    watcher = await watch(engine, b"a", start_revision=start)
    taking = asyncio.create_task(take(engine, watcher))
    rows = store.rows
    await until(lambda: store.rows >= rows + 2)
    await store.hold()
    await engine.compact(last, physical=False)
    store.open.set()
    with pytest.raises(errors.Compacted):
        await taking


async def test_a_quiet_watch_that_is_left_behind_is_not_ended_by_a_compaction_of_what_it_has(
    engine: StoredEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    watcher = await watch(engine, b"quiet")
    for _ in range(10):
        last = await put(engine, b"loud")
    await engine.compact(last, physical=True)
    engine.watches._backlog.bound = 0
    revision = await put(engine, b"quiet")
    left_behind = watcher.feed is None
    assert (left_behind, await hear(engine, watcher, 1)) == (True, [revision])


async def test_waiting_until_the_hub_has_caught_up_ends_with_the_last_watch(
    engine: StoredEngine, other: StoredEngine
) -> None:
    watcher = await watch(engine, b"a")
    engine.watches._background.cancel("following the log")
    await put(other, b"a")
    waiting = asyncio.create_task(engine.watches.caught_up())
    await until(lambda: bool(engine.watches._fan_out._waiting))
    engine.watches.cancel_key_watch(watcher)
    await waiting


async def test_progress_speaks_of_what_was_told_while_it_was_looked_up(
    store: SuspendingStore, engine: StoredEngine
) -> None:
    async with stream(engine) as opened:
        await opened.create(b"a")
        opened.ask_for_progress()
        await store.hold()
        revision = await put(engine, b"a")
        store.open.set()
        told = [await opened.receive()]
        while told[-1].watch_id != -1:
            told.append(await opened.receive())
    assert [response.header.revision for response in told] == [revision, revision]


async def test_no_notice_of_progress_speaks_of_less_than_the_log_has_told(
    engine: StoredEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    # seed 2949 of the simulation: what the hub was still handing on had been read in the log
    monkeypatch.setattr(suspending, "SETTINGS", replace(suspending.SETTINGS, watch_progress_notify_interval=0.1))
    await watch(engine, b"b")
    goes_on, hand_on = asyncio.Event(), engine.watches._hand_on

    async def hand_on_later() -> None:
        await goes_on.wait()
        await hand_on()

    async with stream(engine) as opened:
        with monkeypatch.context() as held:
            held.setattr(engine.watches, "_hand_on_for", lambda _: False)
            held.setattr(engine.watches, "_hand_on", hand_on_later)
            revision = await put(engine, b"a")
            await opened.create(b"a", start_revision=revision, progress_notify=True)
            (event,) = (await opened.receive()).events
            notice = await opened.receive()
            opened.ask_for_progress()
        said = [event.kv.mod_revision, engine.watches.position, notice.watch_id, notice.header.revision]
        goes_on.set()
        while notice.watch_id != -1:
            notice = await opened.receive()
    assert (said, notice.header.revision) == ([revision, revision - 1, 0, revision], revision)


async def test_progress_never_speaks_of_less_than_was_told(engine: StoredEngine, other: StoredEngine) -> None:
    async def write(daemon: StoredEngine) -> None:
        for _ in range(30):
            await put(daemon, b"a")

    async with stream(engine) as opened:
        await opened.create(b"a")
        start = await engine.revision()
        writing = [asyncio.create_task(write(engine)), asyncio.create_task(write(other))]
        told, reports = start, 0
        opened.ask_for_progress()
        while told < start + 60 or not reports:
            response = await opened.receive()
            if response.watch_id == -1:
                assert response.header.revision >= told
                reports += 1
                opened.ask_for_progress()
            for event in response.events:
                assert event.kv.mod_revision == told + 1
                told += 1
        await asyncio.wait(writing)


async def test_watches_from_any_revision_hear_everything_once_and_in_order(
    engine: StoredEngine, other: StoredEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log, "PAGE_EVENTS", 7)
    monkeypatch.setattr(log, "_ROWS", 5)
    engine.watches._backlog.bound = 3000
    choice = random.Random(11)
    writes = 60

    async def write(daemon: StoredEngine) -> None:
        for number in range(writes):
            await put(daemon, b"k%d" % (number % 5), b"x" * 100)
            await asyncio.sleep(0)

    async def listen(start: int) -> list[int]:
        watcher = await watch(engine, b"k", b"l", start_revision=start)
        heard: list[int] = []
        while not heard or heard[-1] < first + 2 * writes - 1:
            delivery = await engine.watches.take(watcher)
            if delivery is not None:
                heard += [event.kv.mod_revision for event in told(delivery)]
            for _ in range(choice.randrange(20)):
                await asyncio.sleep(0)
        engine.watches.cancel_key_watch(watcher)
        return heard

    first = await engine.revision() + 1
    writing = [asyncio.create_task(write(engine)), asyncio.create_task(write(other))]
    starts, listening = [], []
    for _ in range(30):
        for _ in range(choice.randrange(30)):
            await asyncio.sleep(0)
        starts.append(choice.randint(first, await engine.revision() + 5))
        listening.append(asyncio.create_task(listen(starts[-1])))
    heard = await asyncio.gather(*listening)
    await asyncio.wait(writing)
    assert heard == [list(range(start, first + 2 * writes)) for start in starts]

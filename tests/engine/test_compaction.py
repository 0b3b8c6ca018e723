"""Compaction: the past is closed at once and cleared in the background, by whoever comes to it."""

import asyncio
from pathlib import Path

import pytest

from fetch import errors
from fetch.api.rpc_pb2 import RangeRequest
from fetch.engine import compaction
from fetch.engine.engine import StoredEngine
from fetch.stores.transaction import all_rows
from tests.engine.engines import Daemon, daemon, listed, put, take, watch

UPDATES = 1200
"""More than is cleared in one step."""


async def updated(engine: StoredEngine, times: int = UPDATES) -> int:
    """Updates a key; its last revision."""
    return (await asyncio.gather(*(put(engine, b"key", b"%d" % number) for number in range(times))))[-1]


async def rows_of_the_past(running: Daemon) -> tuple[int, int]:
    """How many rows the log and the history of alpha have."""
    layout = (await running.open())._layout
    with running.store.snapshot() as snapshot:
        events = [row async for row in all_rows(snapshot, layout.events, layout.events_end)]
        history = [row async for row in all_rows(snapshot, *layout.history_range(layout.keys, layout.keys_end))]
    return len(events), len(history)


async def until_cleared(running: Daemon, left: tuple[int, int]) -> None:
    async with asyncio.timeout(60):
        while await rows_of_the_past(running) != left:  # noqa: ASYNC110  nobody is told when the background is done
            await asyncio.sleep(0.01)


async def test_the_past_is_cleared_when_a_physical_compaction_returns(running: Daemon) -> None:
    engine = await running.open()
    await engine.compact(await updated(engine), physical=True)
    assert await rows_of_the_past(running) == (1, 1)


async def test_the_past_is_cleared_in_the_background(running: Daemon) -> None:
    engine = await running.open()
    await engine.compact(await updated(engine), physical=False)
    await until_cleared(running, (1, 1))


async def test_the_past_is_closed_before_it_is_cleared(running: Daemon) -> None:
    engine = await running.open()
    newest = await updated(engine)
    await engine.compact(newest, physical=False)
    with pytest.raises(errors.Compacted):
        await engine.range_keys(RangeRequest(key=b"key", revision=newest - 1))


async def test_a_compaction_that_was_cut_off_goes_on_after_a_restart(tmp_path: Path) -> None:
    async with daemon(tmp_path) as first:
        engine = await first.open()
        newest = await updated(engine)
        # what compact() commits before the background sets out, and its first step
        await engine._writer.submit(lambda batch: compaction.compact(batch, newest))
        await engine._writer.submit(compaction.clear_step)
        cut_off = await rows_of_the_past(first)
    async with daemon(tmp_path) as second:
        await second.open()
        await until_cleared(second, (1, 1))
    assert cut_off > (1, 1)


async def test_the_newest_values_outlive_a_compaction(engine: StoredEngine) -> None:
    newest = await updated(engine)
    await engine.compact(newest, physical=True)
    assert await listed(engine, RangeRequest(key=b"key", revision=newest)) == [(b"key", b"%d" % (UPDATES - 1))]


async def test_a_revision_is_compacted_once(engine: StoredEngine) -> None:
    newest = await updated(engine, 5)
    await engine.compact(newest, physical=True)
    with pytest.raises(errors.Compacted):
        await engine.compact(newest, physical=True)


async def test_a_revision_that_is_not_there_yet_cannot_be_compacted(engine: StoredEngine) -> None:
    with pytest.raises(errors.FutureRevision):
        await engine.compact(await updated(engine, 5) + 1, physical=True)


async def test_a_watch_may_start_at_the_compacted_revision(engine: StoredEngine) -> None:
    newest = await updated(engine, 5)
    await engine.compact(newest, physical=True)
    watcher = await watch(engine, b"key", start_revision=newest)
    assert [event.kv.mod_revision for event in await take(engine, watcher)] == [newest]


async def test_a_watch_may_not_start_before_the_compacted_revision(engine: StoredEngine) -> None:
    newest = await updated(engine, 5)
    await engine.compact(newest, physical=True)
    watcher = await watch(engine, b"key", start_revision=newest - 1)
    with pytest.raises(errors.Compacted):
        await take(engine, watcher)

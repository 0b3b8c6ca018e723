"""The embedded store by itself: its readers, its writer, its formats."""

import asyncio
import contextlib
import sys
from pathlib import Path

import lmdb
import pytest

from fetch.stores.embedded import store as embedded
from fetch.stores.embedded.store import LmdbStore
from fetch.stores.protocol import StoreBusy, StoreUnavailable
from fetch.stores.transaction import Transaction
from tests.stores.steps import read, write

ROWS = 100_000
SECONDS = 20


async def test_the_event_loop_goes_on_while_a_hundred_thousand_rows_are_committed(tmp_path: Path) -> None:
    store = LmdbStore(tmp_path)
    committing = asyncio.create_task(write(store, {b"\x02%06d" % number: b"value" for number in range(ROWS)}))
    await asyncio.sleep(0)  # it is evaluated in its first step
    turns = 0
    while not committing.done():
        await read(store, b"\x02000000")
        await asyncio.sleep(0)
        turns += 1
    await committing
    assert turns > 100
    await store.close()


async def test_what_was_committed_is_let_go_of_though_nothing_follows(tmp_path: Path) -> None:
    store = LmdbStore(tmp_path)
    value = bytes(1 << 20)
    holders = sys.getrefcount(value)
    await write(store, {b"\x02a": value})
    async with asyncio.timeout(SECONDS):
        while sys.getrefcount(value) > holders:  # noqa: ASYNC110  nothing tells when an object is let go of
            await asyncio.sleep(0)
    await store.close()


async def test_two_thousand_snapshots_can_be_open_at_once(tmp_path: Path) -> None:
    store = LmdbStore(tmp_path)
    with contextlib.ExitStack() as opened:
        snapshots = [opened.enter_context(store.snapshot()) for _ in range(2000)]
        assert [await snapshot.get(b"\x02a") for snapshot in snapshots] == [None] * 2000
    await store.close()


async def test_a_snapshot_too_many_is_refused_and_those_before_it_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(embedded, "_MOST_SNAPSHOTS", 20)
    store = LmdbStore(tmp_path)
    await write(store, {b"\x02a": b"1"})
    snapshots = [store.snapshot() for _ in range(20)]
    with pytest.raises(StoreBusy):
        store.snapshot()
    for snapshot in snapshots:
        with snapshot as opened:
            assert await opened.get(b"\x02a") == b"1"
    assert await read(store, b"\x02a") == b"1"
    await store.close()


async def test_a_transaction_too_many_waits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embedded, "_MOST_TRANSACTIONS", 3)
    store = LmdbStore(tmp_path)
    begun = 0
    go = asyncio.Event()

    async def body(transaction: Transaction) -> None:
        nonlocal begun
        begun += 1
        await go.wait()
        transaction.set(b"\x02a", b"1")

    running = [asyncio.create_task(store.transact(body)) for _ in range(10)]
    await asyncio.wait(running, timeout=0.1)
    assert begun == 3
    go.set()
    await asyncio.gather(*running)
    assert begun == 10
    await store.close()


HOLD = """
import lmdb, sys, time
environment = lmdb.open(sys.argv[1], map_size=1 << 30, max_spare_txns=0)
readers = [environment.begin() for _ in range(int(sys.argv[2]))]
print("held", flush=True)
time.sleep(600)
"""


async def test_the_slots_of_a_reader_that_was_killed_are_used_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(embedded, "_MOST_SNAPSHOTS", 20)
    store = LmdbStore(tmp_path)
    command = [sys.executable, "-c", HOLD, str(tmp_path), "15"]
    holder = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
    assert holder.stdout is not None
    assert await holder.stdout.readline() == b"held\n"
    holder.kill()
    await holder.wait()
    snapshots = [store.snapshot() for _ in range(15)]
    for snapshot in snapshots:
        snapshot.__exit__()
    await store.close()


async def test_a_database_of_the_format_before_is_brought_to_this_one(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", logger="fetch")
    prefix, rest = b"\x02" * 500, b"r" * 300
    bucket = len(rest).to_bytes(4, "big") + len(b"value").to_bytes(4, "big") + rest + b"value"
    with lmdb.open(str(tmp_path), map_size=1 << 20) as old, old.begin(write=True) as writer:
        writer.put(b"\x00format", b"fetch 1")
        writer.put(prefix + b"\x00", bucket)
    for _ in range(2):
        store = LmdbStore(tmp_path)
        assert await read(store, prefix + rest) == b"value"
        await store.close()
    assert caplog.text.count("1 buckets") == 1


async def test_a_database_of_a_format_to_come_is_refused(tmp_path: Path) -> None:
    with lmdb.open(str(tmp_path), map_size=1 << 20) as new, new.begin(write=True) as writer:
        writer.put(b"\x00format", b"fetch 3")
    with pytest.raises(StoreUnavailable, match="fetch 3"):
        LmdbStore(tmp_path)

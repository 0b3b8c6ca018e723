"""What taking a snapshot costs, and what may happen meanwhile."""

import asyncio
import tracemalloc
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from fetch.api.rpc_pb2 import DeleteRangeRequest, PutRequest, RequestOp, TxnRequest
from fetch.engine.engine import StoredEngine
from fetch.engine.turns import Turns
from fetch.snapshots import schema
from fetch.snapshots.reader import FileReader
from fetch.snapshots.sorting import Item, Sorter
from fetch.snapshots.taking import pieces, take
from tests.engine.engines import daemon, delete, put
from tests.engine.suspending import daemons

MEBIBYTE = 1 << 20
KEYS = 100_000


async def fill(engine: StoredEngine, keys: int, value: bytes) -> None:
    for begin in range(0, keys, 1000):
        puts = [PutRequest(key=b"%06d" % number, value=value) for number in range(begin, min(begin + 1000, keys))]
        await engine.txn(TxnRequest(success=[RequestOp(request_put=it) for it in puts]))


async def saved(engine: StoredEngine, directory: Path) -> Path:
    """Takes a snapshot and writes it to a file."""
    path = directory / "snapshot"
    with await take(engine, directory) as spool, path.open("wb") as file:
        async for piece in pieces(spool):
            file.write(piece.data)
    return path


@pytest.fixture
async def engine(tmp_path: Path) -> AsyncIterator[StoredEngine]:
    async with daemon(tmp_path / "data") as running:
        yield await running.open()


async def test_a_snapshot_of_many_keys_takes_little_memory(engine: StoredEngine, tmp_path: Path) -> None:
    await fill(engine, KEYS, b"v" * 300)
    await fill(engine, KEYS // 10, b"w" * 300)
    await engine.compact(await engine.revision(), physical=True)
    tracemalloc.start()
    try:
        path = await saved(engine, tmp_path)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert path.stat().st_size > 30 * MEBIBYTE
    assert peak < 20 * MEBIBYTE


async def test_keys_lie_in_the_order_of_their_revisions(engine: StoredEngine, tmp_path: Path) -> None:
    for number in range(3000):
        await put(engine, b"%04d" % (number * 7 % 1000))
    await engine.compact(await engine.revision() - 10, physical=True)
    with FileReader(await saved(engine, tmp_path)) as file:
        assert [key for key, _ in file.rows(schema.KEY)] == [schema.revision_key(at, 0) for at in range(1992, 3002)]


async def test_a_snapshot_is_of_the_revision_at_which_it_began(tmp_path: Path) -> None:
    async with daemons(tmp_path / "data", 1) as [(store, engine)]:
        await put(engine, b"a", b"1")
        await put(engine, b"b", b"1")
        taking = asyncio.create_task(saved(engine, tmp_path))
        await store.hold()
        store.open.set()
        await put(engine, b"a", b"2")
        await delete(engine, b"b")
        with FileReader(await taking) as file:
            assert [key for key, _ in file.rows(schema.KEY)] == [schema.revision_key(2, 0), schema.revision_key(3, 0)]


async def test_a_snapshot_that_compaction_overtakes_begins_anew(tmp_path: Path) -> None:
    async with daemons(tmp_path / "data", 1) as [(_, engine)]:
        for number in range(50):
            await put(engine, b"a", b"%d" % number)
        views = []

        async def read(view: object, _: object) -> int:
            views.append(view)
            if len(views) == 1:
                await engine.compact(51, physical=True)
                await view.renew(2)  # type: ignore[attr-defined]
            return len(views)

        assert await engine.read_contents(read) == 2


async def test_others_are_served_while_a_snapshot_is_taken(engine: StoredEngine, tmp_path: Path) -> None:
    await fill(engine, 20_000, b"v" * 100)
    await engine.compact(await engine.revision(), physical=True)
    taking = asyncio.create_task(saved(engine, tmp_path))
    revisions = []
    while not taking.done():
        revisions.append(await put(engine, b"other"))
    await taking
    assert len(revisions) > 10


async def test_a_snapshot_that_is_given_up_leaves_nothing_behind(engine: StoredEngine, tmp_path: Path) -> None:
    await fill(engine, 5000, b"v" * 100)
    (tmp_path / "spools").mkdir()
    taking = asyncio.create_task(take(engine, tmp_path / "spools"))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    taking.cancel()
    await asyncio.wait([taking])
    assert list((tmp_path / "spools").iterdir()) == []


async def test_a_deleted_key_is_gone_behind_the_compacted_revision(engine: StoredEngine, tmp_path: Path) -> None:
    await put(engine, b"a")
    await engine.delete_range(DeleteRangeRequest(key=b"a"))
    await engine.compact(await put(engine, b"b"), physical=True)
    with FileReader(await saved(engine, tmp_path)) as file:
        assert [key for key, _ in file.rows(schema.KEY)] == [schema.revision_key(4, 0)]


# sorting


@pytest.mark.parametrize("pages", [0, 1, 15, 16, 17, 300])
async def test_what_is_sorted_comes_out_in_order_and_equals_as_they_came(tmp_path: Path, pages: int) -> None:
    items: list[Item] = [(number * 7919 % 1000, b"%d" % number) for number in range(pages * 20)]
    async with Turns().work("a") as work:
        with Sorter(tmp_path, work) as sorter:
            for begin in range(0, len(items), 20):
                await sorter.add(items[begin : begin + 20])
            found = [item async for page in sorter.sorted() for item in page]
    assert found == sorted(items, key=lambda item: item[0])


async def test_items_larger_than_what_is_read_at_once_are_sorted(tmp_path: Path) -> None:
    items: list[Item] = [(number * 7 % 20, bytes([number]) * 700_000) for number in range(20)]
    async with Turns().work("a") as work:
        with Sorter(tmp_path, work) as sorter:
            for item in items:
                await sorter.add([item])
            found = [item async for page in sorter.sorted() for item in page]
    assert found == sorted(items, key=lambda item: item[0])

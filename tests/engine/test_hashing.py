"""The hash of a tenant's keys, however it is interrupted, and what is kept for it."""

import asyncio
import random
from collections.abc import AsyncIterator
from pathlib import Path

import google_crc32c
import pytest

from fetch import errors
from fetch.api.rpc_pb2 import RequestOp, TxnRequest
from fetch.engine import hashing, turns
from fetch.engine.engine import StoredEngine
from fetch.engine.reads import bounds
from fetch.stores.transaction import all_rows
from tests.endpoints import requests
from tests.engine.engines import delete, put
from tests.engine.observed import Observed, observed_engine

Opened = tuple[StoredEngine, Observed]
PLACES = range(1, 25)


@pytest.fixture(autouse=True)
def _tiny_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bounds, "PAGE", 3)
    monkeypatch.setattr(bounds, "SNAPSHOT_SECONDS", 0.0)
    monkeypatch.setattr(hashing, "_EVENTS", 2)
    monkeypatch.setattr(hashing, "_SUBS", 2)
    monkeypatch.setattr(turns, "SLICE_SECONDS", 0.0)


@pytest.fixture
async def opened(tmp_path: Path) -> AsyncIterator[Opened]:
    async with observed_engine(tmp_path) as (engine, store):
        for number in range(12):
            await txn(engine, requests.put(b"%02d" % number, b"old"), requests.put(b"x%02d" % number, b"old"))
        yield engine, store


async def txn(engine: StoredEngine, *operations: RequestOp) -> int:
    return (await engine.txn(TxnRequest(success=operations))).revision


async def kept(engine: StoredEngine) -> list[bytes]:
    """The keys of which subs are kept."""
    layout = engine._layout
    with engine._store.snapshot() as snapshot:
        return [row[len(layout.subs) :] async for row, _ in all_rows(snapshot, layout.subs, layout.subs_end)]


@pytest.mark.parametrize("place", PLACES)
async def test_a_compaction_in_between_is_seen_as_a_whole_or_not_at_all(opened: Opened, place: int) -> None:
    engine, store = opened
    await engine.compact(6, physical=True)
    before = await engine.hash_keys(0)
    interrupted = asyncio.Event()

    async def compact(number: int) -> None:
        if number == place and not interrupted.is_set():
            interrupted.set()
            await engine.compact(10, physical=True)

    store.forget()
    store.interrupt = compact
    answer = await engine.hash_keys(0)
    if interrupted.is_set():
        assert answer in (before, await engine.hash_keys(0))
    else:
        assert answer == before


@pytest.mark.parametrize("place", PLACES)
async def test_writes_in_between_are_not_hashed(opened: Opened, place: int) -> None:
    engine, store = opened
    await engine.compact(6, physical=True)
    before = await engine.hash_keys(0)

    async def write(number: int) -> None:
        if number == place:
            await put(engine, b"%02d" % place, b"new")
            await delete(engine, b"x01")

    store.forget()
    store.interrupt = write
    hashed, _, revision = await engine.hash_keys(0)
    if revision == before[2]:
        assert hashed == before[0]
    else:
        assert hashed == (await engine.hash_keys(revision))[0]


async def test_a_revision_that_is_compacted_meanwhile_is_refused(opened: Opened) -> None:
    engine, store = opened

    async def compact(number: int) -> None:
        if number == 8:
            await engine.compact(10, physical=True)

    store.forget()
    store.interrupt = compact
    with pytest.raises(errors.Compacted):
        await engine.hash_keys(9)


async def test_subs_are_kept_of_what_is_still_there(opened: Opened) -> None:
    engine, _ = opened
    await put(engine, b"x00", b"new")
    await delete(engine, b"x01")
    await engine.compact(await put(engine, b"end"), physical=True)
    assert await kept(engine) == [b"x%02d" % number for number in range(2, 12)]
    await delete(engine, b"x", b"y")
    await engine.compact(await put(engine, b"end"), physical=True)
    assert await kept(engine) == []


async def test_no_sub_is_kept_where_transactions_have_one_change(opened: Opened) -> None:
    engine, _ = opened
    await delete(engine, b"\x00", b"\x00")
    await engine.compact(await put(engine, b"a"), physical=True)
    await put(engine, b"a")
    await engine.compact(await put(engine, b"b"), physical=True)
    assert await kept(engine) == []


@pytest.mark.parametrize("length", [0, 1, 7, 100, 1 << 16, (1 << 20) + 1])
def test_hashes_are_put_together_as_if_they_were_made_in_one_go(length: int) -> None:
    first, second = random.Random(1).randbytes(10), random.Random(length).randbytes(length)
    crc32c = hashing.Crc32c(first)
    crc32c.append(google_crc32c.value(second), length)
    assert crc32c.value == google_crc32c.value(first + second)

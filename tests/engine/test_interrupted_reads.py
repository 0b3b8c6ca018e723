"""Every read may be interrupted where it waits for the store: by writes, other reads, compaction, an expired snapshot.

Whatever happens, its answer is the state of one revision, and so are the answers of those who come after it.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from fetch import errors
from fetch.api.rpc_pb2 import RangeRequest, RangeResponse, RequestOp, TxnRequest, TxnResponse
from fetch.engine import engine as engine_module
from fetch.engine import reads, turns
from fetch.engine.answers import Found
from fetch.engine.engine import StoredEngine
from fetch.engine.reads import bounds
from fetch.stores.protocol import SnapshotExpired
from tests.engine.engines import delete, put
from tests.engine.observed import Observed, observed_engine

KEYS = 12
PLACES = range(1, 13)
"""Where a read is interrupted: before which of its reads of the store. Some have fewer."""

EVERYTHING = RangeRequest(key=b"\x00", range_end=b"\x00")
Opened = tuple[StoredEngine, Observed]


@pytest.fixture(autouse=True)
def _tiny_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("PAGE", "COUNTED_AT_ONCE", "EVENTS_AT_ONCE", "BRIEF", "FEWEST"):
        monkeypatch.setattr(bounds, name, 3)
    monkeypatch.setattr(engine_module, "_PIECE", 3)
    monkeypatch.setattr(turns, "SLICE_SECONDS", 0.0)


@pytest.fixture
def renewed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every page of a read is of another snapshot."""
    monkeypatch.setattr(bounds, "SNAPSHOT_SECONDS", 0.0)


@pytest.fixture
async def opened(tmp_path: Path) -> AsyncIterator[Opened]:
    async with observed_engine(tmp_path) as (engine, store):
        await asyncio.gather(*(put(engine, b"%02d" % number, b"old") for number in range(KEYS)))
        yield engine, store


@pytest.fixture
def engine(opened: Opened) -> StoredEngine:
    return opened[0]


@contextmanager
def interrupted(store: Observed, place: int, what: Callable[[], Awaitable[object]]) -> Iterator[None]:
    """Lets something happen before a read of the store, counted from now; it is not interrupted itself."""
    store.forget()

    async def once(number: int) -> None:
        if number == place:
            store.interrupt = nothing
            await what()

    async def nothing(_: int) -> None:
        """Once is enough."""

    store.interrupt = once
    yield
    store.interrupt = nothing


def rows(found: Found) -> list[tuple[bytes, bytes]]:
    return [(kv.key, kv.value) for kv in RangeResponse.FromString(b"".join(found.frames)).kvs]


async def state(engine: StoredEngine, revision: int = 0) -> list[tuple[bytes, bytes]]:
    return rows(await engine.range_keys(RangeRequest(key=b"\x00", range_end=b"\x00", revision=revision)))


async def change(engine: StoredEngine) -> None:
    """Changes, deletes and creates keys at the beginning, in the middle and at the end, and lists what there is."""
    puts = [put(engine, key, b"new") for key in (b"001", b"05", b"11", b"12")]
    await asyncio.gather(*puts, delete(engine, b"00"), delete(engine, b"06", b"08"))
    for limit in (0, 4):
        await engine.range_keys(RangeRequest(key=b"\x00", range_end=b"\x00", limit=limit))


@pytest.mark.parametrize("limit", [0, 4, KEYS - 1])
@pytest.mark.parametrize("place", PLACES)
async def test_a_list_that_is_overtaken_by_writes_and_lists_is_of_one_revision(
    opened: Opened, place: int, limit: int
) -> None:
    engine, store = opened
    with interrupted(store, place, lambda: change(engine)):
        found = await engine.range_keys(RangeRequest(key=b"\x00", range_end=b"\x00", limit=limit))
    whole = await state(engine, found.revision)
    assert rows(found) == whole[: limit or None]
    assert found.count == len(whole)


@pytest.mark.usefixtures("renewed")
@pytest.mark.parametrize("limit", [0, 4, KEYS - 1])
@pytest.mark.parametrize("place", PLACES)
async def test_so_is_one_that_goes_on_in_new_snapshots(opened: Opened, place: int, limit: int) -> None:
    engine, store = opened
    with interrupted(store, place, lambda: change(engine)):
        found = await engine.range_keys(RangeRequest(key=b"\x00", range_end=b"\x00", limit=limit))
    whole = await state(engine, found.revision)
    assert rows(found) == whole[: limit or None]
    assert found.count == len(whole)


@pytest.mark.parametrize("count_only", [True, False])
@pytest.mark.parametrize("place", PLACES)
async def test_the_counts_after_a_read_that_was_overtaken_are_right(
    opened: Opened, place: int, count_only: bool
) -> None:
    engine, store = opened
    request = RangeRequest(key=b"\x00", range_end=b"\x00", limit=4, count_only=count_only)
    await engine.range_keys(request)
    await put(engine, b"02", b"new")
    with interrupted(store, place, lambda: change(engine)):
        await engine.range_keys(request)
    expected = len(await state(engine))
    assert (await engine.range_keys(request)).count == expected
    await put(engine, b"99")
    assert (await engine.range_keys(request)).count == expected + 1


async def test_a_reader_does_not_use_the_count_of_a_newer_one(opened: Opened) -> None:
    engine, store = opened
    request = RangeRequest(key=b"\x00", range_end=b"\x00", limit=4)

    async def overtake() -> None:
        await put(engine, b"99")
        assert (await engine.range_keys(request)).count == KEYS + 1

    await engine.range_keys(request)
    with interrupted(store, 2, overtake):  # the snapshot has been opened by its first read
        assert (await engine.range_keys(request)).count == KEYS
    assert (await engine.range_keys(request)).count == KEYS + 1


@pytest.mark.usefixtures("renewed")
@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("limit", [0, 4])
async def test_a_list_that_is_overtaken_by_compaction_is_given_all_the_same(
    opened: Opened, place: int, limit: int
) -> None:
    engine, store = opened

    async def compact() -> None:
        await change(engine)
        await engine.compact(await engine.revision(), physical=True)

    with interrupted(store, place, compact):
        found = await engine.range_keys(RangeRequest(key=b"\x00", range_end=b"\x00", limit=limit))
    before = [(b"%02d" % number, b"old") for number in range(KEYS)]
    expected = before if found.revision == KEYS + 1 else await state(engine, found.revision)
    assert rows(found) == expected[: limit or None]
    assert found.count == len(expected)


@pytest.mark.usefixtures("renewed")
async def test_an_old_revision_that_compaction_overtakes_is_refused(opened: Opened) -> None:
    engine, store = opened
    old = await engine.revision()
    await change(engine)

    async def compact() -> None:
        await engine.compact(await engine.revision(), physical=True)

    with interrupted(store, 8, compact), pytest.raises(errors.Compacted):
        await engine.range_keys(RangeRequest(key=b"\x00", range_end=b"\x00", revision=old))


@pytest.mark.parametrize("limit", [0, 4])
@pytest.mark.parametrize("revision", [0, KEYS + 1, 7])
@pytest.mark.parametrize("place", PLACES)
async def test_a_list_whose_snapshot_expires_goes_on_at_its_revision(
    opened: Opened, place: int, revision: int, limit: int
) -> None:
    engine, store = opened
    await engine.range_keys(EVERYTHING)

    async def expire() -> None:
        await change(engine)
        raise SnapshotExpired

    with interrupted(store, place, expire):
        found = await engine.range_keys(RangeRequest(key=b"\x00", range_end=b"\x00", revision=revision, limit=limit))
    whole = await state(engine, revision or found.revision)
    assert rows(found) == whole[: limit or None]
    assert found.count == len(whole)


@pytest.mark.parametrize("place", PLACES)
async def test_a_count_whose_snapshot_expires_is_right(opened: Opened, place: int) -> None:
    engine, store = opened
    revision = await engine.revision()
    await change(engine)
    engine._counts = reads.Counts()

    async def expire() -> None:
        raise SnapshotExpired

    with interrupted(store, place, expire):
        found = await engine.range_keys(
            RangeRequest(key=b"\x00", range_end=b"\x00", revision=revision, count_only=True)
        )
    assert found.count == KEYS


async def test_a_snapshot_that_expires_again_and_again_is_given_up(opened: Opened) -> None:
    engine, store = opened

    async def expire(number: int) -> None:
        if number > 3:
            raise SnapshotExpired

    store.forget()
    store.interrupt = expire
    with pytest.raises(SnapshotExpired):
        await engine.range_keys(EVERYTHING)


@pytest.mark.usefixtures("renewed")
@pytest.mark.parametrize("place", PLACES)
async def test_all_ranges_of_a_transaction_are_of_one_revision(opened: Opened, place: int) -> None:
    engine, store = opened
    with interrupted(store, place, lambda: change(engine)):
        ranges = [RequestOp(request_range=EVERYTHING) for _ in range(3)]
        answer = await engine.read_only_txn(TxnRequest(success=ranges))
    whole = await state(engine, answer.revision)
    found = [each.response_range for each in TxnResponse.FromString(b"".join(answer.message.parts)).responses]
    assert [[(kv.key, kv.value) for kv in each.kvs] for each in found] == [whole] * 3
    assert {each.header.revision for each in found} == {answer.revision}


@pytest.mark.usefixtures("renewed")
@pytest.mark.parametrize("place", PLACES)
async def test_a_hash_that_is_overtaken_is_of_one_revision(opened: Opened, place: int) -> None:
    engine, store = opened
    with interrupted(store, place, lambda: change(engine)):
        checksum, _, revision = await engine.hash_keys(0)
    assert (await engine.hash_keys(revision))[0] == checksum


@pytest.mark.usefixtures("renewed")
@pytest.mark.parametrize("place", PLACES)
async def test_a_stream_that_is_overtaken_is_of_one_revision(opened: Opened, place: int) -> None:
    engine, store = opened
    with interrupted(store, place, lambda: change(engine)):
        pieces = [piece async for piece in engine.stream_range(EVERYTHING)]
    last = pieces[-1]
    whole = await state(engine, last.revision)
    found = Found([stored for piece in pieces for stored in piece.frames], last.more, last.count, last.revision)
    assert (rows(found), found.count) == (whole, len(whole))


@pytest.mark.parametrize("place", PLACES)
async def test_a_stream_whose_snapshot_expires_goes_on_at_its_revision(opened: Opened, place: int) -> None:
    engine, store = opened

    async def expire() -> None:
        await change(engine)
        raise SnapshotExpired

    with interrupted(store, place, expire):
        pieces = [piece async for piece in engine.stream_range(EVERYTHING)]
    last = pieces[-1]
    found = Found([stored for piece in pieces for stored in piece.frames], last.more, last.count, last.revision)
    assert rows(found) == await state(engine, last.revision)

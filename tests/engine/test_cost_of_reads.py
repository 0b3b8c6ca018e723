"""What a read costs: rows of the store, counted, and how long it keeps others from running."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest

from fetch import errors
from fetch.api.rpc_pb2 import DeleteRangeRequest, PutRequest, RangeRequest, RequestOp, TxnRequest
from fetch.engine import engine as engine_module
from fetch.engine import reads, turns
from fetch.engine.answers import Found
from fetch.engine.engine import StoredEngine
from fetch.engine.reads import bounds
from tests.engine.engines import delete, listed, put
from tests.engine.observed import Observed, observed_engine

VERSIONS = 1000
KEYS = 10
MANY = 500
"""Keys that are more than a page."""

Read = Callable[[StoredEngine], Awaitable[object]]


@pytest.fixture(autouse=True)
def _small_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("PAGE", "COUNTED_AT_ONCE", "EVENTS_AT_ONCE"):
        monkeypatch.setattr(bounds, name, 50)
    monkeypatch.setattr(bounds, "BRIEF", 20)
    monkeypatch.setattr(engine_module, "_PIECE", 50)


@pytest.fixture
async def engine_and_store(tmp_path: Path) -> AsyncIterator[tuple[StoredEngine, Observed]]:
    async with observed_engine(tmp_path) as opened:
        yield opened


async def update(engine: StoredEngine, keys: list[bytes], versions: int) -> int:
    """Puts the keys in turn, so often; the last revision."""
    puts = [put(engine, keys[number % len(keys)], b"%d" % number) for number in range(versions)]
    return max(await asyncio.gather(*puts))


async def fill(engine: StoredEngine, count: int, size: int = 10) -> list[bytes]:
    keys = [b"%05d" % number for number in range(count)]
    for first in range(0, count, 100):
        operations = [
            RequestOp(request_put=PutRequest(key=key, value=b"v" * size)) for key in keys[first : first + 100]
        ]
        await engine.txn(TxnRequest(success=operations))
    return keys


def everything(**more: object) -> RangeRequest:
    return RangeRequest(key=b"\x00", range_end=b"\x00", **more)  # type: ignore[arg-type]


@pytest.mark.parametrize("back", [1, VERSIONS // 2, VERSIONS - KEYS])
async def test_a_get_at_an_old_revision_is_a_few_rows(
    engine_and_store: tuple[StoredEngine, Observed], back: int
) -> None:
    engine, store = engine_and_store
    newest = await update(engine, [b"key"], VERSIONS)
    store.forget()
    found = await listed(engine, RangeRequest(key=b"key", revision=newest - back))
    assert found == [(b"key", b"%d" % (VERSIONS - 1 - back))]
    assert store.rows <= 6


@pytest.mark.parametrize("back", [1, VERSIONS // 2, VERSIONS - KEYS])
async def test_a_list_at_an_old_revision_costs_by_its_keys(
    engine_and_store: tuple[StoredEngine, Observed], back: int
) -> None:
    engine, store = engine_and_store
    newest = await update(engine, [b"%d" % number for number in range(KEYS)], VERSIONS)
    store.forget()
    assert len(await listed(engine, everything(revision=newest - back))) == KEYS
    assert store.rows <= 50 * KEYS


@pytest.mark.parametrize("back", [1, VERSIONS // 2, VERSIONS - KEYS])
async def test_a_count_at_an_old_revision_costs_by_its_keys(
    engine_and_store: tuple[StoredEngine, Observed], back: int
) -> None:
    engine, store = engine_and_store
    newest = await update(engine, [b"%d" % number for number in range(KEYS)], VERSIONS)
    store.forget()
    assert (await engine.range_keys(everything(revision=newest - back, count_only=True))).count == KEYS
    assert store.rows + store.counted <= 60 * KEYS


async def test_a_count_at_an_old_revision_takes_the_log_where_that_is_shorter(
    engine_and_store: tuple[StoredEngine, Observed],
) -> None:
    engine, store = engine_and_store
    await fill(engine, MANY)
    before = await engine.revision()
    await delete(engine, b"00000", b"00010")
    engine._counts = reads.Counts()
    store.forget()
    assert (await engine.range_keys(everything(revision=before, count_only=True))).count == MANY
    assert (store.rows <= 150, store.counted <= MANY) == (True, True)


async def test_pages_at_an_old_revision_cost_by_the_page(engine_and_store: tuple[StoredEngine, Observed]) -> None:
    engine, store = engine_and_store
    keys = await fill(engine, MANY)
    first = await engine.range_keys(everything(limit=20))
    for _ in range(20):
        await update(engine, keys[:40], 40)
    await fill(engine, MANY)
    store.forget()
    following = RangeRequest(key=b"00019\x00", range_end=b"\x00", limit=20, revision=first.revision)
    found = await engine.range_keys(following)
    assert (found.count, found.more) == (MANY - 20, True)
    assert store.rows <= 800


async def test_a_list_skips_what_was_deleted_before_its_revision(
    engine_and_store: tuple[StoredEngine, Observed],
) -> None:
    engine, store = engine_and_store
    for _ in range(3):
        await update(engine, [b"%d" % number for number in range(KEYS)], VERSIONS // 3)
        await delete(engine, b"\x00", b"\x00")
    revision = await engine.revision()
    await put(engine, b"a")
    store.forget()
    assert await listed(engine, everything(revision=revision)) == []
    assert store.rows <= 50 * KEYS


async def test_a_list_of_a_range_counts_no_row_twice(engine_and_store: tuple[StoredEngine, Observed]) -> None:
    engine, store = engine_and_store
    await fill(engine, MANY)
    await engine.range_keys(everything())
    store.forget()
    assert (await engine.range_keys(everything())).count == MANY
    assert store.rows <= MANY + 10


def request(**more: object) -> Read:
    return lambda engine: engine.range_keys(everything(**more))


async def past(engine: StoredEngine) -> Found:
    return await engine.range_keys(everything(revision=MANY // 100 + 1))


async def count_in_the_past(engine: StoredEngine) -> Found:
    return await engine.range_keys(everything(revision=MANY // 100 + 1, count_only=True))


async def streamed(engine: StoredEngine) -> None:
    async for _ in engine.stream_range(everything()):
        pass


async def ranges(engine: StoredEngine) -> object:
    return await engine.read_only_txn(TxnRequest(success=[RequestOp(request_range=everything()) for _ in range(3)]))


LONG: dict[str, Read] = {
    "list": request(),
    "keys_only": request(keys_only=True),
    "page": request(limit=MANY - 1),
    "count": request(count_only=True),
    "by_value": request(sort_target="VALUE", sort_order="DESCEND"),
    "by_key_descending": request(sort_order="DESCEND"),
    "first_created": request(sort_target="CREATE", sort_order="ASCEND", limit=1),
    "filtered": request(min_mod_revision=3),
    "past": past,
    "count_in_the_past": count_in_the_past,
    "stream": streamed,
    "hash": lambda engine: engine.hash_keys(0),
    "hash_in_the_past": lambda engine: engine.hash_keys(MANY // 100 + 1),
    "txn": ranges,
}


@pytest.fixture(params=LONG)
async def long_read(
    request: pytest.FixtureRequest,
    engine_and_store: tuple[StoredEngine, Observed],
    monkeypatch: pytest.MonkeyPatch,
) -> tuple[Awaitable[object], Observed]:
    """A read of more than a page, each of whose slices is as short as it can be, and the store."""
    engine, store = engine_and_store
    await fill(engine, MANY)
    operations = [DeleteRangeRequest(key=b"00100", range_end=b"00150"), DeleteRangeRequest(key=b"00400")]
    for operation in operations:
        await engine.delete_range(operation)
    await fill(engine, MANY)
    engine._counts = reads.Counts()
    monkeypatch.setattr(turns, "SLICE_SECONDS", 0.0)
    store.forget()
    return LONG[request.param](engine), store


async def test_a_long_read_lets_others_run_between_its_pages(
    long_read: tuple[Awaitable[object], Observed],
) -> None:
    reading, store = long_read
    running = asyncio.ensure_future(reading)
    most = before = most_counted = counted = 0
    while not running.done():
        await asyncio.sleep(0)
        most, before = max(most, store.rows - before), store.rows
        most_counted, counted = max(most_counted, store.counted - counted), store.counted
    await running
    # a page of keys and one of their history, between which it gives way if they took long
    assert most <= 2 * bounds.PAGE + 20
    assert most_counted <= 2 * bounds.COUNTED_AT_ONCE


async def test_a_long_read_takes_turns_with_other_tenants(
    long_read: tuple[Awaitable[object], Observed], engine_and_store: tuple[StoredEngine, Observed]
) -> None:
    reading, _ = long_read
    others = 0

    async def other() -> None:
        nonlocal others
        async with engine_and_store[0].turns.work("another") as work:
            while True:
                others += 1
                await work.give_way()

    busy = asyncio.create_task(other())
    await asyncio.sleep(0)
    await reading
    busy.cancel()
    await asyncio.wait([busy])
    # a turn for each that the read has had, less one
    assert others >= MANY // bounds.PAGE - 2


async def test_lists_that_wait_hold_no_snapshot(engine_and_store: tuple[StoredEngine, Observed]) -> None:
    engine, store = engine_and_store
    await fill(engine, 100)
    store.forget()
    found = await asyncio.gather(*(engine.range_keys(everything()) for _ in range(500)))
    assert {answer.count for answer in found} == {100}
    # those that have begun, and one that tries whether it is short
    assert store.most_open <= turns._PLACES_OF_A_TENANT + 1


async def test_lists_of_all_tenants_together_hold_few_snapshots(
    engine_and_store: tuple[StoredEngine, Observed],
) -> None:
    engine, store = engine_and_store
    await fill(engine, 100)

    async def interrupt(_: int) -> None:
        for _ in range(20):
            await asyncio.sleep(0)

    store.interrupt = interrupt
    store.forget()
    engine._counts.remember(*engine._layout.key_range(b"\x00", b"\x00"), 1, 100)  # known to be long
    await asyncio.gather(*(engine.range_keys(everything()) for _ in range(100)))
    assert store.most_open <= turns._PLACES_OF_A_TENANT


async def test_a_slow_stream_holds_nothing_between_its_pieces(
    engine_and_store: tuple[StoredEngine, Observed],
) -> None:
    engine, store = engine_and_store
    await fill(engine, MANY)
    streams = [engine.stream_range(everything()) for _ in range(20)]
    first = [await anext(stream) for stream in streams]
    assert len({len(piece.frames) for piece in first}) == 1
    assert store.open == 0
    assert not engine.turns._begun


async def test_a_short_list_waits_for_nobody(engine_and_store: tuple[StoredEngine, Observed]) -> None:
    engine, _ = engine_and_store
    await fill(engine, 20)
    works = [engine.turns.work(engine.tenant) for _ in range(turns._PLACES_OF_A_TENANT)]
    for work in works:
        await work.__aenter__()
    # all places are taken, and given back after it only
    async with asyncio.timeout(5):
        assert (await engine.range_keys(everything())).count == 20
    for work in works:
        await work.__aexit__(None, None, None)


async def test_an_answer_that_is_too_large_is_refused_before_it_is_read(
    engine_and_store: tuple[StoredEngine, Observed],
) -> None:
    engine, store = engine_and_store
    await fill(engine, MANY, size=1000)
    engine.most_response_bytes = 100_000
    store.forget()
    with pytest.raises(errors.ResponseTooLarge):
        await engine.range_keys(everything())
    assert store.rows <= 200


@pytest.mark.parametrize(
    "more",
    [
        {"sort_target": "VALUE", "sort_order": "DESCEND"},
        {"sort_order": "DESCEND", "limit": MANY - 1},
        {"sort_target": "MOD", "sort_order": "ASCEND", "limit": MANY - 1},
    ],
)
async def test_a_sorted_answer_that_is_too_large_is_refused(
    engine_and_store: tuple[StoredEngine, Observed], more: dict[str, object]
) -> None:
    engine, _ = engine_and_store
    await fill(engine, MANY, size=1000)
    engine.most_response_bytes = 100_000
    with pytest.raises(errors.ResponseTooLarge):
        await engine.range_keys(everything(**more))


@pytest.mark.parametrize(
    "more",
    [
        {"limit": 10},
        {"keys_only": True},
        {"count_only": True},
        {"sort_order": "DESCEND", "limit": 10},
        {"sort_target": "MOD", "sort_order": "ASCEND", "limit": 10},
        {"sort_target": "VALUE", "sort_order": "ASCEND", "limit": 10},
        {"min_mod_revision": 5, "limit": 10},
    ],
)
async def test_a_small_answer_of_a_large_range_is_given(
    engine_and_store: tuple[StoredEngine, Observed], more: dict[str, object], monkeypatch: pytest.MonkeyPatch
) -> None:
    engine, _ = engine_and_store
    await fill(engine, MANY, size=1000)
    engine.most_response_bytes = 100_000
    monkeypatch.setattr(bounds, "PAGE_BYTES", 10_000)
    assert (await engine.range_keys(everything(**more))).count == MANY


async def test_the_answers_of_a_transaction_are_bounded_together(
    engine_and_store: tuple[StoredEngine, Observed],
) -> None:
    engine, _ = engine_and_store
    await fill(engine, 40, size=1000)
    engine.most_response_bytes = 100_000
    operations = [RequestOp(request_range=everything()) for _ in range(3)]
    await engine.read_only_txn(TxnRequest(success=operations[:2]))
    with pytest.raises(errors.ResponseTooLarge):
        await engine.read_only_txn(TxnRequest(success=operations))


async def test_a_write_whose_answer_is_too_large_takes_no_place(
    engine_and_store: tuple[StoredEngine, Observed],
) -> None:
    engine, _ = engine_and_store
    await fill(engine, 40, size=1000)
    engine.most_response_bytes = 100_000
    operations = [RequestOp(request_put=PutRequest(key=b"written"))]
    operations += [RequestOp(request_range=everything()) for _ in range(3)]
    with pytest.raises(errors.ResponseTooLarge):
        await engine.txn(TxnRequest(success=operations))
    assert await listed(engine, RangeRequest(key=b"written")) == []

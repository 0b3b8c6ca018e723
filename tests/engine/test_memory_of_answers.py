"""What an answer holds while it is made: itself in pieces, and itself joined."""

import asyncio
import tracemalloc
from collections.abc import Awaitable, Callable, Iterator

import pytest

from fetch.api.rpc_pb2 import PutRequest, RangeRequest, RequestOp, TxnRequest
from fetch.engine.answers import range_message
from fetch.engine.engine import StoredEngine
from fetch.engine.reads import bounds
from fetch.services import wire
from fetch.services.wire import framed_header, joined

KEYS = 50
SIZE = 100_000
EVERYTHING = RangeRequest(key=b"\x00", range_end=b"\x00")


@pytest.fixture
async def filled(engine: StoredEngine) -> StoredEngine:
    """A tenant with 5 MB."""
    for number in range(KEYS):
        await engine.put(PutRequest(key=b"%03d" % number, value=b"v" * SIZE))
    return engine


@pytest.fixture
def peak() -> Iterator[Callable[[], int]]:
    """The most bytes that have been held at once."""
    tracemalloc.start()
    yield lambda: tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()


async def ranged(engine: StoredEngine) -> bytes:
    found = await engine.range_keys(EVERYTHING)
    answer = range_message(framed_header(engine, found.revision), found)
    return await joined(answer.parts, answer.size)


async def by_value(engine: StoredEngine) -> bytes:
    found = await engine.range_keys(RangeRequest(key=b"\x00", range_end=b"\x00", sort_target="VALUE"))
    answer = range_message(framed_header(engine, found.revision), found)
    return await joined(answer.parts, answer.size)


async def transacted(engine: StoredEngine) -> bytes:
    operations = [RequestOp(request_range=EVERYTHING) for _ in range(4)]
    message = (await engine.read_only_txn(TxnRequest(success=operations))).message
    return await joined(message.parts, message.size)


async def written(engine: StoredEngine) -> bytes:
    """One that writes takes the same way through a batch."""
    operations = [RequestOp(request_range=EVERYTHING) for _ in range(4)]
    message = (await engine.txn(TxnRequest(success=[*operations, RequestOp(request_put={"key": b"z"})]))).message
    return await joined(message.parts, message.size)


@pytest.mark.parametrize("answered", [ranged, by_value, transacted, written])
async def test_an_answer_holds_itself_twice_and_little_more(
    filled: StoredEngine, peak: Callable[[], int], answered: Callable[[StoredEngine], Awaitable[bytes]]
) -> None:
    answer = await answered(filled)
    assert len(answer) >= KEYS * SIZE
    assert peak() <= 2 * len(answer) + 3_000_000


@pytest.mark.parametrize("ranges", [1, 30])
async def test_an_answer_is_of_a_bounded_number_of_pieces(
    engine: StoredEngine, ranges: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """To let go of them all takes no longer than others may wait."""
    monkeypatch.setattr(bounds, "MOST_PIECES", 100)
    monkeypatch.setattr(bounds, "PAGE", 20)
    await asyncio.gather(*(engine.put(PutRequest(key=b"%03d" % number)) for number in range(400)))
    operations = [RequestOp(request_range=EVERYTHING) for _ in range(ranges)]
    for writes in ([], [RequestOp(request_put={"key": b"z"})]):
        request = TxnRequest(success=[*operations, *writes])
        answer = await (engine.txn(request) if writes else engine.read_only_txn(request))
        # one for each page, and what is around them
        assert len(answer.message.parts) <= 120 + ranges * (401 // 20 + 4)


@pytest.mark.parametrize(("size", "left"), [(1 << 20, 10), (1 << 21, 0)])
async def test_the_parts_of_a_large_answer_are_let_go_of_where_it_is_joined(
    size: int, left: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wire, "_JOINED_AT_ONCE", 1 << 20)
    parts = [bytes(size // 10) for _ in range(10)]
    assert await joined(parts, size) == bytes(size // 10 * 10)
    assert len(parts) == left


async def test_large_answers_of_a_tenant_are_made_one_after_the_other(
    filled: StoredEngine, peak: Callable[[], int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bounds, "LARGE_BYTES", 1_000_000)
    await filled._large_answers.acquire()  # as if one were being made
    making = [asyncio.create_task(transacted(filled)) for _ in range(8)]
    while len(filled._large_answers._waiters or ()) < len(making):  # noqa: ASYNC110  a lock tells nobody who waits
        await asyncio.sleep(0)
    # what each has until its turn comes: a page beyond the bound, of four times 5 MB
    assert peak() <= len(making) * 3_000_000
    filled._large_answers.release()
    assert min(len(answer) for answer in await asyncio.gather(*making)) >= 4 * KEYS * SIZE


async def test_a_large_answer_that_is_given_up_lets_the_next_be_made(
    filled: StoredEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bounds, "LARGE_BYTES", 1_000_000)
    making = [asyncio.create_task(transacted(filled)) for _ in range(4)]
    await asyncio.sleep(0)
    while not filled._large_answers.locked():  # noqa: ASYNC110  a lock tells nobody that it was taken
        await asyncio.sleep(0)
    for task in making[:3]:
        task.cancel()
    await asyncio.gather(*making[:3], return_exceptions=True)
    assert len(await making[3]) >= 4 * KEYS * SIZE
    assert not filled._large_answers.locked()

"""Reads at older revisions, against a model that keeps every state there was."""

import asyncio
import random
from dataclasses import dataclass, field

import pytest

from fetch import errors
from fetch.api.rpc_pb2 import RangeRequest, RangeResponse
from fetch.engine import reads
from fetch.engine.engine import StoredEngine
from fetch.engine.reads import bounds
from tests.engine.engines import delete, listed, put

KEYS = [b"a", b"a\x00", b"a\x00b", b"a\xff", b"ab", b"b", b"b\x00\x00", b"b\x00\xff", b"c", b"\xff", b"\xff\xff"]
"""Keys that begin with each other, with the bytes that an order could stumble over."""

RANGES = [(b"\x00", b"\x00"), (b"a", b"b"), (b"a", b"a\x00"), (b"a\x00", b"b\x00"), (b"b", b"\x00"), (b"a\x00b", b"")]
WRITES = 150


@dataclass(slots=True)
class History:
    """A tenant, and the keys and values that it had at each revision."""

    engine: StoredEngine
    states: dict[int, dict[bytes, bytes]] = field(default_factory=lambda: {1: {}})

    def at(self, revision: int, key: bytes, range_end: bytes) -> list[tuple[bytes, bytes]]:
        state = sorted(self.states[revision].items())
        if not range_end:
            return [row for row in state if row[0] == key]
        return [row for row in state if row[0] >= key and (range_end == b"\x00" or row[0] < range_end)]


@dataclass(frozen=True, slots=True)
class Write:
    """A put of a value, or without one a delete of a range."""

    key: bytes
    range_end: bytes = b""
    value: bytes | None = None

    async def carry_out(self, engine: StoredEngine) -> int:
        if self.value is None:
            return await delete(engine, self.key, self.range_end)
        return await put(engine, self.key, self.value)


async def written(engine: StoredEngine, seed: int) -> History:
    """Random puts and deletes, some of them of several keys at one revision. All wait at once, so they share commits."""
    choice = random.Random(seed)
    writes = [
        Write(*choice.choice(RANGES)) if choice.random() < 0.2 else Write(choice.choice(KEYS), value=b"%d" % number)
        for number in range(WRITES)
    ]
    revisions = await asyncio.gather(*(write.carry_out(engine) for write in writes))
    history = History(engine)
    for write, revision in zip(writes, revisions, strict=True):
        newest = max(history.states)
        state = dict(history.states[newest])
        if write.value is not None:
            state[write.key] = write.value
        else:
            for key, _ in history.at(newest, write.key, write.range_end):
                del state[key]
        history.states[revision] = state
    return history


@pytest.fixture(params=range(4))
async def history(engine: StoredEngine, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> History:
    """A tenant with a past. Every other one is read in pages that end within a key's versions, and between keys."""
    if request.param % 2:
        for name in ("PAGE", "BRIEF", "FEWEST", "COUNTED_AT_ONCE", "EVENTS_AT_ONCE", "MOST_EVENTS_COUNTED"):
            monkeypatch.setattr(bounds, name, 2)
    return await written(engine, request.param)


@pytest.mark.parametrize(("key", "range_end"), RANGES)
async def test_a_range_is_as_it_was(history: History, key: bytes, range_end: bytes) -> None:
    for revision in history.states:
        request = RangeRequest(key=key, range_end=range_end, revision=revision)
        assert await listed(history.engine, request) == history.at(revision, key, range_end), revision


@pytest.mark.parametrize("limit", [1, 2, 3, 5])
async def test_a_limit_cuts_what_was_there(history: History, limit: int) -> None:
    for revision in history.states:
        request = RangeRequest(key=b"\x00", range_end=b"\x00", revision=revision, limit=limit)
        assert await listed(history.engine, request) == history.at(revision, b"\x00", b"\x00")[:limit], revision


async def test_a_limit_tells_how_many_there_were_and_whether_there_is_more(history: History) -> None:
    for revision in sorted(history.states, key=lambda revision: revision % 7):  # counts are carried both ways
        there = len(history.at(revision, b"\x00", b"\x00"))
        request = RangeRequest(key=b"\x00", range_end=b"\x00", revision=revision, limit=2)
        found = await history.engine.range_keys(request)
        assert (found.count, found.more) == (there, there > 2), revision


@pytest.mark.parametrize(("key", "range_end"), RANGES)
async def test_a_count_is_as_it_was(history: History, key: bytes, range_end: bytes) -> None:
    for revision in sorted(history.states, key=lambda revision: revision % 5):
        request = RangeRequest(key=key, range_end=range_end, revision=revision, count_only=True)
        assert (await history.engine.range_keys(request)).count == len(history.at(revision, key, range_end)), revision


@pytest.mark.parametrize(("key", "range_end"), RANGES[:3])
async def test_a_count_that_is_not_known_from_before_is_as_it_was(
    history: History, key: bytes, range_end: bytes
) -> None:
    for revision in history.states:
        history.engine._counts = reads.Counts()
        request = RangeRequest(key=key, range_end=range_end, revision=revision, count_only=True)
        assert (await history.engine.range_keys(request)).count == len(history.at(revision, key, range_end)), revision


async def test_a_stream_is_as_it_was(history: History) -> None:
    for revision in history.states:
        request = RangeRequest(key=b"\x00", range_end=b"\x00", revision=revision)
        frames = [frame async for piece in history.engine.stream_range(request) for frame in piece.frames]
        found = [(kv.key, kv.value) for kv in RangeResponse.FromString(b"".join(frames)).kvs]
        assert found == history.at(revision, b"\x00", b"\x00"), revision


async def test_what_is_left_after_a_compaction_is_as_it_was(history: History) -> None:
    compacted = max(history.states) // 2
    await history.engine.compact(compacted, physical=True)
    for revision in range(compacted, max(history.states) + 1):
        request = RangeRequest(key=b"\x00", range_end=b"\x00", revision=revision)
        assert await listed(history.engine, request) == history.at(revision, b"\x00", b"\x00"), revision


async def test_what_was_compacted_cannot_be_read(history: History) -> None:
    await history.engine.compact(max(history.states), physical=True)
    with pytest.raises(errors.Compacted):
        await history.engine.range_keys(RangeRequest(key=b"a", revision=max(history.states) - 1))


async def test_the_future_cannot_be_read(history: History) -> None:
    with pytest.raises(errors.FutureRevision):
        await history.engine.range_keys(RangeRequest(key=b"a", revision=max(history.states) + 1))

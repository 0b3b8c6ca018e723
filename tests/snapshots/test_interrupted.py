"""Whatever happens while a snapshot is taken, it is the tenant at one revision."""

import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest

from fetch.api.kv_pb2 import KeyValue
from fetch.api.rpc_pb2 import PutRequest, RangeRequest
from fetch.engine.engine import StoredEngine
from fetch.engine.reads import bounds
from fetch.engine.records import key_values
from fetch.snapshots import schema
from fetch.snapshots.reader import FileReader
from fetch.stores.protocol import SnapshotExpired
from tests.engine.engines import delete, put
from tests.engine.observed import Observed, observed_engine
from tests.snapshots.test_taking import fill, saved

Opened = tuple[StoredEngine, Observed]
PLACES = range(1, 25, 3)
LEASE = 42
KEYS = 2500


@pytest.fixture
async def opened(tmp_path: Path) -> AsyncIterator[Opened]:
    """A tenant of a few pages, compacted at a revision with changes before and behind it; a lease with a key."""
    async with observed_engine(tmp_path / "data") as (engine, store):
        await fill(engine, KEYS, b"1")
        await engine.grant_lease(LEASE, 600)
        await engine.put(PutRequest(key=b"leased", lease=LEASE))
        await put(engine, b"000001", b"2")
        await engine.compact(await engine.revision(), physical=True)
        for _ in range(3):
            await fill(engine, 300, b"3")
        store.forget()
        yield engine, store


async def change(engine: StoredEngine) -> None:
    await put(engine, b"000001", b"4")
    await put(engine, b"new", b"4")
    await delete(engine, b"000002")


async def revoke(engine: StoredEngine) -> None:
    await engine.revoke_lease(LEASE)


async def compact(engine: StoredEngine) -> None:
    await change(engine)
    await engine.compact(await engine.revision(), physical=True)


async def expire(_: StoredEngine) -> None:
    raise SnapshotExpired


async def expire_and_change(engine: StoredEngine) -> None:
    await change(engine)
    raise SnapshotExpired


@pytest.mark.parametrize("happens", [change, revoke, compact, expire, expire_and_change])
@pytest.mark.parametrize("renewing", [False, True])
@pytest.mark.parametrize("place", PLACES)
async def test_a_snapshot_that_is_interrupted_is_of_one_revision(
    opened: Opened,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    place: int,
    renewing: bool,
    happens: Callable[[StoredEngine], Awaitable[None]],
) -> None:
    engine, store = opened
    if renewing:
        monkeypatch.setattr(bounds, "SNAPSHOT_SECONDS", 0.0)
    before = await engine.revision(), await state(engine)
    store.forget()

    async def interrupt(number: int) -> None:
        if number == place:
            await happens(engine)

    store.interrupt = interrupt
    path = await saved(engine, tmp_path)
    place = 0  # nothing happens any more
    after = await engine.revision(), await state(engine)
    assert told(path) in (before, after)


async def state(engine: StoredEngine) -> tuple[dict[bytes, KeyValue], list[int]]:
    """The keys and leases that there are."""
    found = await engine.range_keys(RangeRequest(key=b"\x00", range_end=b"\x00"))
    return {kv.key: kv for kv in key_values(found.frames)}, (await engine.leases())[0]


def told(path: Path) -> tuple[int, tuple[dict[bytes, KeyValue], list[int]]]:
    """The revision, keys and leases that a snapshot has."""
    live: dict[bytes, KeyValue] = {}
    with FileReader(path) as file:
        for row, value in file.rows(schema.KEY):
            kv = KeyValue.FromString(value)
            if len(row) > len(schema.revision_key(0, 0)):
                live.pop(kv.key, None)
            else:
                live[kv.key] = kv
        [revision] = struct.unpack(">Q", dict(file.rows(schema.META))[b"consistent_index"])
        return revision, (live, [struct.unpack(">q", lease)[0] for lease, _ in file.rows(schema.LEASE)])

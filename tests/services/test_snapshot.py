"""How many snapshots a tenant may have taken at once, and what is answered when there is no room for one."""

import asyncio
import dataclasses
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import pytest

from fetch.api.rpc_pb2 import SnapshotResponse
from fetch.engine.engine import StoredEngine
from fetch.errors import Refused, TooManyRequests
from fetch.services.maintenance import Maintenance
from tests.engine.engines import SETTINGS, daemon, put


class Call:
    """A call of a client, which reads while `reads` is set."""

    def __init__(self, tenant: StoredEngine) -> None:
        self.tenant = tenant
        self.pieces: list[SnapshotResponse] = []
        self.waits = asyncio.Event()
        self.reads = asyncio.Event()

    async def write(self, message: bytes) -> None:
        self.pieces.append(SnapshotResponse.FromString(message))
        self.waits.set()
        await self.reads.wait()


@pytest.fixture
async def engine(tmp_path: Path) -> AsyncIterator[StoredEngine]:
    async with daemon(tmp_path / "data") as running:
        opened = await running.open()
        await put(opened, b"a")
        yield opened


@pytest.fixture
def maintenance(tmp_path: Path) -> Maintenance:
    return Maintenance(dataclasses.replace(SETTINGS, data_dir=str(tmp_path)))


async def begin(maintenance: Maintenance, engine: StoredEngine) -> tuple[Call, asyncio.Task[Any]]:
    """A snapshot whose client does not read."""
    call = Call(engine)
    taking = asyncio.create_task(maintenance.snapshot(b"", call))  # type: ignore[arg-type]
    await call.waits.wait()
    return call, taking


async def test_a_third_snapshot_at_once_is_refused(maintenance: Maintenance, engine: StoredEngine) -> None:
    begun = [await begin(maintenance, engine) for _ in range(2)]
    with pytest.raises(TooManyRequests):
        await maintenance.snapshot(b"", Call(engine))  # type: ignore[arg-type]
    for _, taking in begun:
        taking.cancel()


async def test_one_that_has_ended_makes_room_for_another(maintenance: Maintenance, engine: StoredEngine) -> None:
    for _ in range(3):
        call, taking = await begin(maintenance, engine)
        call.reads.set()
        await taking


async def test_one_whose_client_went_away_makes_room_for_another(
    maintenance: Maintenance, engine: StoredEngine
) -> None:
    for _ in range(3):
        _, taking = await begin(maintenance, engine)
        taking.cancel()
        await asyncio.wait([taking])


async def test_writes_go_on_while_a_client_does_not_read(maintenance: Maintenance, engine: StoredEngine) -> None:
    _, taking = await begin(maintenance, engine)
    assert await engine.compact(await put(engine, b"a"), physical=True) == 3
    taking.cancel()


async def test_without_room_for_it_a_snapshot_is_unavailable(tmp_path: Path, engine: StoredEngine) -> None:
    maintenance = Maintenance(dataclasses.replace(SETTINGS, data_dir=str(tmp_path / "gone")))
    with pytest.raises(Refused) as caught:
        await maintenance.snapshot(b"", Call(engine))  # type: ignore[arg-type]
    assert caught.value.code == grpc.StatusCode.UNAVAILABLE

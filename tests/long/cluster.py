"""A simulated cluster whose bounds are small, so that little is much: what takes FoundationDB minutes takes it a moment."""

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any, TypeVar

from fetch.api.rpc_pb2 import PutRequest, RangeRequest, RangeResponse, RequestOp, TxnRequest
from fetch.engine.engine import StoredEngine
from tests.simulation import loop
from tests.simulation.cluster import Cluster, Faults
from tests.simulation.daemon import Daemon, Machine, task_factory

T = TypeVar("T")

REPLY_BYTES = 2_000
LARGEST_TRANSACTION = 200_000
SNAPSHOT_SECONDS = 0.1
_AT_ONCE = 50
EVERYTHING = RangeRequest(key=b"\x00", range_end=b"\x00")
COUNT = RangeRequest(key=b"\x00", range_end=b"\x00", count_only=True)


class SmallCluster(Cluster):
    """Counts the rows that it has sent, and tells `interrupt` of each request for rows before it is carried out."""

    def __init__(self, snapshot_seconds: float = SNAPSHOT_SECONDS) -> None:
        super().__init__(
            random.Random(1),
            Faults(least_delay=0.002, most_delay=0.004),
            snapshot_seconds=snapshot_seconds,
            largest_transaction=LARGEST_TRANSACTION,
            reply_bytes=REPLY_BYTES,
        )
        self.sent = 0
        self.expired = 0
        self.interrupt: Callable[[], object] = lambda: None

    def rows(self, begin: bytes, end: bytes, version: int, limit: int) -> tuple[list[tuple[bytes, bytes]], bool]:
        self.interrupt()
        rows, more = super().rows(begin, end, version, limit)
        self.sent += len(rows)
        return rows, more

    def _check(self, version: int) -> None:
        try:
            super()._check(version)
        except Exception:
            self.expired += 1
            raise


@asynccontextmanager
async def engines(cluster: Cluster, count: int = 1) -> AsyncIterator[list[StoredEngine]]:
    """Daemons on the cluster: the engine that each has of one tenant."""
    daemons = [Daemon(f"daemon-{number}", cluster, Machine(b"machine", 1.0)) for number in range(count)]
    for daemon in daemons:
        await asyncio.create_task(daemon.start())
    try:
        yield [await daemon.tenants.open("alpha") for daemon in daemons]
    finally:
        for daemon in daemons:
            await daemon.stop()


def run(test: Callable[[], Coroutine[Any, Any, T]]) -> T:
    """Runs a test in virtual time."""

    async def main() -> T:
        asyncio.get_running_loop().set_task_factory(task_factory)
        return await test()

    return loop.run(1, main())


def key(number: int) -> bytes:
    return b"/key/%06d" % number


async def fill(engine: StoredEngine, keys: int, *, size: int = 10, lease: int = 0, first: int = 0) -> None:
    """Puts so many keys."""
    for start in range(first, first + keys, _AT_ONCE):
        puts = [
            RequestOp(request_put=PutRequest(key=key(number), value=b"v" * size, lease=lease))
            for number in range(start, min(start + _AT_ONCE, first + keys))
        ]
        await engine.txn(TxnRequest(success=puts))


async def keys_of(engine: StoredEngine, revision: int = 0) -> list[bytes]:
    """The keys that there are."""
    found = await engine.range_keys(RangeRequest(key=b"\x00", range_end=b"\x00", revision=revision, keys_only=True))
    return [kv.key for kv in RangeResponse.FromString(b"".join(found.frames)).kvs]


async def until(condition: Callable[[], Awaitable[bool]]) -> None:
    """Returns once somebody has made the condition true."""
    while not await condition():  # noqa: ASYNC110  what it looks at lies in the store
        await asyncio.sleep(0.01)


async def until_changed(engine: StoredEngine, revision: int) -> None:
    """Returns once the revision is another."""

    async def is_another() -> bool:
        return await engine.revision() != revision

    await until(is_another)


async def until_empty(engine: StoredEngine) -> None:
    """Returns once there are no keys."""

    async def is_empty() -> bool:
        return not await keys_of(engine)

    await until(is_empty)

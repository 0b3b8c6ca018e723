"""Histories of clients of three real daemons on a real FoundationDB, which are killed, held against what etcd guarantees.

`FETCH_TEST_HISTORY_SECONDS` says how long they write; a few seconds unless it does.
"""

import asyncio
import logging
import os
import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from fetch.api.kv_pb2 import Event
from fetch.api.rpc_pb2 import RangeRequest, RangeResponse, WatchCreateRequest, WatchRequest, WatchResponse
from fetch.engine.layout import FIRST_REVISION
from tests.daemons.over_grpc import RealDaemon
from tests.endpoints import fetch
from tests.endpoints.daemons import Daemon, daemons
from tests.endpoints.server import Missing
from tests.simulation import clients
from tests.simulation.daemon import CallError
from tests.simulation.history import Watched, check

logger = logging.getLogger(__name__)

SECONDS = float(os.environ.get("FETCH_TEST_HISTORY_SECONDS", "12"))
DAEMONS, WORKERS, WATCHERS = 3, 6, 3
QUIET_SECONDS = 60.0
LEASE_SECONDS = 20.0


@pytest.fixture
def three(tmp_path: Path) -> Iterator[list[Daemon]]:
    found = next(it for it in fetch.STORES if it.name == "fetch-fdb")
    if isinstance(found, Missing):
        pytest.skip(found.reason)
    with daemons(found, tmp_path, DAEMONS, ["--watch-progress-notify-interval=2s"]) as started:
        yield started


async def kill_and_restart(three: list[Daemon], chance: random.Random, seconds: float) -> int:
    """Kills one daemon after the other, for so long; how many."""
    killed = 0
    ends = clients.now() + seconds
    while clients.now() < ends:
        await asyncio.sleep(chance.uniform(0.5, 3))
        daemon = chance.choice(three)
        await asyncio.to_thread(daemon.kill)
        killed += 1
        await asyncio.sleep(chance.uniform(0, 2))
        await asyncio.to_thread(daemon.restart)
    return killed


async def newest_of(tenant: clients.Tenant) -> int:
    request = RangeRequest(key=b"/none")
    answer = await tenant.daemon().call(tenant.name, clients.KV + "Range", request, RangeResponse)
    return int(answer.header.revision)


async def settled(tenant: clients.Tenant) -> int:
    """The newest revision, once all watches have heard of it and no lease has a key any more."""
    ends = clients.now() + QUIET_SECONDS
    while True:
        assert clients.now() < ends
        await asyncio.sleep(0.5)
        try:
            newest = await newest_of(tenant)
        except CallError:
            continue
        leased = any(lease.until > clients.now() - LEASE_SECONDS for lease in tenant.leased)
        if not leased and all(watched.next > newest for watched in tenant.history.watches):
            return newest


async def log_of(tenant: clients.Tenant, newest: int) -> dict[int, list[Event]]:
    """All events, as a watch from the first revision hears them."""
    log: dict[int, list[Event]] = {}
    async with tenant.daemon().stream(tenant.name, clients.WATCH, WatchResponse) as stream:
        create = WatchCreateRequest(key=b"\0", range_end=b"\0", start_revision=FIRST_REVISION + 1, prev_kv=True)
        stream.send(WatchRequest(create_request=create))
        while not log or max(log) < newest:
            for event in (await stream.receive()).events:
                log.setdefault(event.kv.mod_revision, []).append(event)
    return log


async def test_what_clients_are_told_is_what_etcd_would_tell(
    three: list[Daemon], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def nothing(_: clients.Tenant) -> None:
        """Does not compact: the log is what all is held against."""

    monkeypatch.setattr(clients, "compact", nothing)
    seed = random.SystemRandom().randrange(1 << 32)
    chance = random.Random(seed)
    serving = [RealDaemon(daemon) for daemon in three]
    tenant = clients.Tenant(f"histories-{seed}", chance, lambda: serving)  # type: ignore[arg-type, return-value]
    watches = [Watched(begin, end, 0, 0) for begin, end in (chance.choice(clients.SPANS) for _ in range(WATCHERS))]
    tenant.history.watches += watches
    watching = [asyncio.create_task(clients.watch(tenant, [watch])) for watch in watches]
    async with asyncio.TaskGroup() as group:
        for _ in range(WORKERS):
            group.create_task(clients.work(tenant, SECONDS))
        killing = group.create_task(kill_and_restart(three, chance, SECONDS))
    newest = await settled(tenant)
    for watch in watching:
        watch.cancel()
    await asyncio.gather(*watching, return_exceptions=True)
    log = await log_of(tenant, newest)
    check(tenant.history, sorted(log.items()), FIRST_REVISION)
    assert killing.result() > 1
    acknowledged = sum(bool(write.succeeded) for write in tenant.history.writes)
    logger.info(
        "%d kills, %d of %d writes acknowledged, %d reads, %d revisions",
        killing.result(), acknowledged, len(tenant.history.writes), len(tenant.history.reads), newest,
    )  # fmt: skip
    for daemon in serving:
        await daemon.close()

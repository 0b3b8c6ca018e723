"""Daemons with peers on the simulated cluster, under virtual time: what tests do with them."""

import asyncio
import random
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any, TypeVar

from fetch.api.rpc_pb2 import PutRequest, RequestOp, TxnResponse
from fetch.engine.layout import Layout, unpack_claim
from tests.simulation import clients, loop
from tests.simulation.cluster import Cluster
from tests.simulation.daemon import CallError, Daemon, Machine, task_factory
from tests.simulation.network import Network

T = TypeVar("T")

TENANT = "tenant"
SETTLED_SECONDS = 8.0
"""After so long all daemons know each other."""


@dataclass(slots=True)
class Site:
    """Daemons that run, the network between them, and the revisions of the last events, by when they were written."""

    cluster: Cluster
    network: Network
    daemons: list[Daemon] = field(default_factory=list)

    async def start(self) -> Daemon:
        daemon = Daemon(f"daemon-{len(self.daemons)}", self.cluster, Machine(b"m" * 16, 0.0), network=self.network)
        await asyncio.create_task(daemon.start())
        self.daemons.append(daemon)
        return daemon

    async def writer(self) -> Daemon:
        """The daemon whose claim the tenant has."""
        prefix = await self.daemons[0].binding.open_directory(("fetch", TENANT))
        row = self.cluster.value(Layout(prefix, b"\x02fetch\x00").writer, self.cluster.read_version())
        assert row is not None
        [found] = [
            daemon
            for daemon in self.daemons
            if daemon.writers is not None and daemon.writers.members.own.daemon == unpack_claim(row)[0]
        ]
        return found


def simulate(count: int, test: Callable[[Site], Coroutine[Any, Any, T]]) -> T:
    """Runs a test with so many daemons that know each other."""

    async def main() -> T:
        asyncio.get_running_loop().set_task_factory(task_factory)
        site = Site(Cluster(random.Random(1)), Network(random.Random(2), most_delay=0.0006))
        for _ in range(count):
            await site.start()
        await asyncio.sleep(SETTLED_SECONDS)
        return await test(site)

    return loop.run(1, main())


async def create(daemon: Daemon, key: bytes) -> TxnResponse:
    """A create of kube-apiserver's."""
    request = clients.kube(key, 0, RequestOp(request_put=PutRequest(key=key, value=b"value")))
    return await daemon.call(TENANT, clients.KV + "Txn", request, TxnResponse)


async def load(pick: Callable[[int], Daemon], count: int, seconds: float) -> list[float]:
    """So many clients create keys, one after the other, each through the daemon picked for it; how long each took."""
    took: list[float] = []
    ends = clients.now() + seconds

    async def client(number: int) -> None:
        made = 0
        while clients.now() < ends:
            began = clients.now()
            answer = await create(pick(number), b"/%d/%d/%d" % (id(took), number, made))
            assert answer.succeeded
            made += 1
            took.append(clients.now() - began)

    await asyncio.gather(*(client(number) for number in range(count)))
    return sorted(took)


async def until(holds: Callable[[], bool]) -> None:
    """Returns when it holds, which it has to within a second."""
    ends = clients.now() + 1
    while not holds():
        assert clients.now() < ends
        await asyncio.sleep(0.0001)


__all__ = ["TENANT", "CallError", "Site", "create", "load", "simulate", "until"]

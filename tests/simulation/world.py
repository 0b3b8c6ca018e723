"""One run: daemons on a cluster, clients of several tenants, and whatever may befall them, all decided by a seed."""

import asyncio
import contextlib
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from unittest import mock

from fetch.api.kv_pb2 import Event
from fetch.api.rpc_pb2 import RangeRequest, RangeResponse
from fetch.engine import compaction
from fetch.engine.layout import FIRST_REVISION, NEVER, Layout, unpack_revision
from fetch.engine.reads import bounds as reads
from fetch.engine.retention import Retention
from fetch.stores.foundationdb import counting
from tests.simulation import clients, loop
from tests.simulation.churn import Churn
from tests.simulation.cluster import (
    LARGEST_TRANSACTION,
    REPLY_BYTES,
    SNAPSHOT_SECONDS,
    VERSIONS_PER_SECOND,
    Cluster,
    Faults,
)
from tests.simulation.daemon import CallError, Daemon, Machine, task_factory
from tests.simulation.history import BrokenGuaranteeError, Watched, check
from tests.simulation.network import Network

QUIET_SECONDS = 60.0
LATE_EXPIRY_SECONDS = 20.0
_AT_ONCE = ("PAGE", "BRIEF", "COUNTED_AT_ONCE", "EVENTS_AT_ONCE", "FEWEST")
_HARSH = Faults(
    most_delay=0.02,
    read=0.01,
    conflict=0.02,
    unknown_done=0.02,
    unknown_not_done=0.02,
    unknown_late=0.01,
    spurious_watch=0.1,
)


@dataclass(slots=True)
class World:
    """The daemons that run, and what has been written to the log of events of whom, when. With a retention they
    compact without being asked for."""

    chance: random.Random
    cluster: Cluster
    machines: Sequence[Machine]
    network: Network | None = None
    daemons: list[Daemon] = field(default_factory=list)
    started: int = 0
    retention: Retention | None = None

    async def start_daemon(self) -> None:
        """Starts one more. It runs in a task of its own, so that what it starts is told apart."""
        self.started += 1
        machine = self.chance.choice(self.machines)
        daemon = Daemon(f"daemon-{self.started}", self.cluster, machine, self.retention, self.network)
        await asyncio.create_task(daemon.start())
        self.daemons.append(daemon)

    def serving(self) -> list[Daemon]:
        """Where clients may connect to."""
        return [daemon for daemon in self.daemons if daemon.alive]

    async def befall(self, seconds: float) -> None:
        """Lets one thing after the other happen to daemons and cluster, for so long."""
        chance = self.chance
        ends = clients.now() + seconds
        while clients.now() < ends:
            await asyncio.sleep(chance.uniform(0.5, 4))
            match chance.choice(
                ("kill", "stop", "cut", "away", "harsh", "calm", "more", "hold", "hold", "break", "slow")
            ):
                case "kill":
                    await self._replace(chance.choice(self.serving()), gently=False)
                case "stop":
                    await self._replace(chance.choice(self.serving()), gently=True)
                case "cut":
                    daemon = chance.choice(self.serving())
                    daemon.binding.cut_off = True
                    await asyncio.sleep(chance.uniform(0.1, 8))
                    daemon.binding.cut_off = not daemon.alive
                case "away":
                    self.cluster.away = True
                    await asyncio.sleep(chance.uniform(0.1, 7))
                    self.cluster.away = False
                case "harsh":
                    self.cluster.faults = _HARSH
                case "calm":
                    self.cluster.faults = Faults()
                case "hold" if self.network is not None and len(self.serving()) > 1:
                    await self._hold(self.network)
                case "break" if self.network is not None and len(self.serving()) > 1:
                    one, other = chance.sample(self.serving(), 2)
                    self.network.break_between(one.name, other.name)
                case "slow" if self.network is not None:
                    self.network.most_delay = chance.choice((0.0005, 0.002, 0.02, 0.3))
                    self.network.breaks = chance.choice((0, 0, 0.01))
                case "more" if len(self.serving()) < 4:
                    await self.start_daemon()

    async def _hold(self, network: Network) -> None:
        """Lets nothing through between two daemons for a while, in one direction or both."""
        one, other = self.chance.sample(self.serving(), 2)
        held = {(one.name, other.name)} | ({(other.name, one.name)} if self.chance.random() < 0.5 else set())
        network.held |= held
        await asyncio.sleep(self.chance.uniform(0.1, 6))
        network.held -= held

    async def _replace(self, daemon: Daemon, *, gently: bool) -> None:
        if len(self.serving()) == 1:
            await self.start_daemon()
        if gently:
            await daemon.stop()
        else:
            daemon.kill()
        self.daemons.remove(daemon)
        await asyncio.sleep(self.chance.uniform(0, 2))
        if len(self.serving()) < 2:
            await self.start_daemon()


@dataclass(frozen=True, slots=True)
class Bounds:
    """What the cluster takes at once, and how much of it fetch asks for at once. Where both are small, what clients do
    with a few keys is what else they would do with millions: it goes over many snapshots, transactions and pages."""

    snapshot_seconds: float = SNAPSHOT_SECONDS
    largest_transaction: int = LARGEST_TRANSACTION
    reply_bytes: int = REPLY_BYTES
    at_once: int = 0

    @classmethod
    def of(cls, chance: random.Random) -> "Bounds":
        """The real ones, half of the time."""
        if chance.random() < 0.5:
            return cls()
        largest = chance.choice((1_200, LARGEST_TRANSACTION))
        return cls(chance.uniform(0.2, 1), largest, chance.randint(1, 500), chance.randint(1, 4))

    @contextlib.contextmanager
    def applied(self) -> Iterator[None]:
        """Lets fetch ask for little at once."""
        with contextlib.ExitStack() as stack:
            if self.at_once:
                for name in _AT_ONCE:
                    stack.enter_context(mock.patch.object(reads, name, self.at_once))
                stack.enter_context(mock.patch.object(reads, "SNAPSHOT_SECONDS", 0.01 * self.at_once))
                stack.enter_context(mock.patch.object(counting, "MANY", 1))
                stack.enter_context(mock.patch.object(counting, "RANGE_BYTES", 100 * self.at_once))
                stack.enter_context(mock.patch.object(compaction, "STEP", self.at_once))
            yield


def simulate(seed: int) -> str:
    """Runs one seed; what it was, in a line.

    :raises BrokenGuaranteeError: :raises AssertionError: fetch did what etcd would not
    """
    chance = random.Random(seed)
    retained = Retention(seconds=2.0) if seed % 3 == 2 else None
    # apart, so that what else a seed decides is what it always was
    bounds = Bounds.of(random.Random(f"bounds of {seed}"))

    async def main() -> str:
        asyncio.get_running_loop().set_task_factory(task_factory)
        return await _run(chance, retained, bounds)

    with bounds.applied():
        return loop.run(seed, main())


async def _run(chance: random.Random, retained: Retention | None, bounds: Bounds) -> str:
    written: dict[bytes, tuple[int, bytes]] = {}
    cluster = Cluster(
        random.Random(chance.random()),
        wrote=lambda key, value, at: written.setdefault(key, (at, value)),
        snapshot_seconds=bounds.snapshot_seconds,
        largest_transaction=bounds.largest_transaction,
        reply_bytes=bounds.reply_bytes,
    )
    machines = [Machine(chance.randbytes(16), chance.uniform(0, 1e6)) for _ in range(chance.randint(1, 3))]
    network = Network(random.Random(chance.random())) if chance.random() < 0.8 else None
    world = World(chance, cluster, machines, network, retention=retained)
    for _ in range(chance.randint(1, 3)):
        await world.start_daemon()
    tenants = [
        clients.Tenant(f"tenant-{number}", chance, world.serving) for number in range(1 if chance.random() < 0.6 else 2)
    ]
    for tenant in tenants:
        tenant.loyal = chance.choice((0.0, 0.0, 0.8, 1.0))
    seconds = chance.uniform(3, 20)
    comes_and_goes = chance.random() < 0.5
    churn = Churn("come-and-go", random.Random(chance.random()), world.serving) if comes_and_goes else None
    watching = [asyncio.create_task(_watch(tenant, seconds)) for tenant in tenants for _ in range(chance.randint(1, 4))]
    working = [clients.work(tenant, seconds) for tenant in tenants for _ in range(chance.randint(1, 5))]
    if churn is not None:
        working += churn.work(seconds)
    if chance.random() < 0.8:
        working.append(world.befall(seconds))
    async with asyncio.TaskGroup() as group:
        for task in working:
            group.create_task(task)
    cluster.faults, cluster.away = Faults(), False
    if network is not None:
        network.held, network.breaks, network.most_delay = set(), 0.0, 0.002
    for daemon in world.daemons:
        daemon.binding.cut_off = False
    for tenant in tenants:
        await _check(world, tenant, written, watching)
    if churn is not None:
        await churn.check(world.serving()[0], written)
    for watch in watching:
        watch.cancel()
    await asyncio.gather(*watching, return_exceptions=True)
    await asyncio.gather(*(daemon.stop() for daemon in world.serving()))
    writes = sum(len(tenant.history.writes) for tenant in tenants)
    reads = sum(len(tenant.history.reads) for tenant in tenants)
    watches = sum(len(tenant.history.watches) for tenant in tenants)
    churned = f", {churn}" if churn is not None else ""
    return f"{world.started} daemons, {writes} writes, {reads} reads, {watches} watches{churned}, {clients.now():.0f} s"


async def _watch(tenant: clients.Tenant, seconds: float) -> None:
    """Watches from somewhere on, now or later, over whatever happens."""
    await asyncio.sleep(tenant.chance.uniform(0, seconds / 2))
    watches = []
    for _ in range(tenant.chance.randint(1, 3)):
        start = tenant.chance.choice((0, 1, FIRST_REVISION + 1, tenant.newest))
        begin, end = tenant.chance.choice(clients.SPANS)
        watches.append(Watched(begin, end, start, start))
    tenant.history.watches += watches
    await clients.watch(tenant, watches)


async def _check(
    world: World,
    tenant: clients.Tenant,
    written: dict[bytes, tuple[int, bytes]],
    watching: Sequence["asyncio.Task[None]"],
) -> None:
    """Waits until all is quiet, then holds what the clients were told against the log."""
    ends = clients.now() + QUIET_SECONDS
    newest = 0
    while clients.now() < ends:
        await asyncio.sleep(1)
        for watch in watching:
            if watch.done():
                watch.result()
        try:
            newest = (await tenant.daemon().call(
                tenant.name, clients.KV + "Range", RangeRequest(key=b"/none"), RangeResponse
            )).header.revision  # fmt: skip
        except CallError:
            continue
        leased = any(lease.until > clients.now() - LATE_EXPIRY_SECONDS for lease in tenant.leased)
        if not leased and all(watched.compacted or watched.next > newest for watched in tenant.history.watches):
            break
    prefix = await world.serving()[0].binding.open_directory(("fetch", tenant.name))
    layout = Layout(prefix, b"\x02fetch\x00")
    with world.serving()[0].store.snapshot() as snapshot:
        compacted = unpack_revision(await snapshot.get(layout.compacted), NEVER)
    tenant.history.compacted = max(tenant.history.compacted, compacted)
    log: dict[int, list[Event]] = {}
    times: dict[int, float] = {}
    for row in sorted(row for row in written if layout.events <= row < layout.events_end):
        at, encoded = written[row]
        revision = layout.unpack_event(row)
        log.setdefault(revision, []).append(Event.FromString(encoded))
        times[revision] = at / VERSIONS_PER_SECOND
    check(tenant.history, sorted(log.items()), FIRST_REVISION)
    _check_leases(tenant, log, times)


def _check_leases(tenant: clients.Tenant, log: dict[int, list[Event]], times: dict[int, float]) -> None:
    deleted = {
        event.kv.key: times[revision]
        for revision, events in log.items()
        for event in events
        if event.type == Event.DELETE
    }
    put = {event.kv.key for events in log.values() for event in events if event.type == Event.PUT}
    for leased in tenant.leased:
        gone = deleted.get(leased.key)
        if leased.key in put and gone is None:
            raise BrokenGuaranteeError(f"{leased} has never expired")
        if gone is not None and gone < leased.until:
            raise BrokenGuaranteeError(f"{leased} expired at {gone}")

"""A tenant that administrators make, disable, delete and bring back, through any daemon, while its clients go on.

Its clients know nothing of that. Every value that they write is one that nobody else writes, so the log in which it is
found tells which of the tenants of that name had it. What must hold:

- a value is in the log of one of them, and what was acknowledged is there at the revision that was told;
- what one answer or one stream of a watch tells is of one of them, and as its log has it;
- who asks after a new one was made, or after the old one could not be brought back any more, gets nothing of an older;
- who asks while the tenant is disabled or deleted gets nothing;
- in the end nothing is left of those that were given up, but that they were.
"""

import asyncio
import itertools
import random
from collections.abc import Callable, Coroutine, Iterator
from dataclasses import dataclass, field
from typing import Any

from fetch.api.kv_pb2 import Event, KeyValue
from fetch.api.rpc_pb2 import (
    LeaseGrantRequest,
    LeaseGrantResponse,
    PutRequest,
    PutResponse,
    RangeRequest,
    RangeResponse,
    WatchCreateRequest,
    WatchRequest,
    WatchResponse,
)
from fetch.engine.layout import Closed, Layout
from fetch.stores.protocol import StoreUnavailable
from fetch.tenants.records import Conflict, NoSuchTenant, TenantExists
from fetch.tenants.rows import keyspace_of
from tests.simulation.daemon import CallError, Daemon
from tests.simulation.history import BrokenGuaranteeError

KV, WATCH, LEASE = "/etcdserverpb.KV/", "/etcdserverpb.Watch/Watch", "/etcdserverpb.Lease/"
KEYS = [b"/c/" + letter.encode() for letter in "abcd"]
ALL = RangeRequest(key=b"/c/", range_end=b"/c0")
CLEARED_SECONDS = 120.0

Kv = tuple[bytes, bytes, int]
"""A key, its value, and the revision at which it was put."""


@dataclass(slots=True)
class Told:
    """What a call that began and ended at these times was told. `written` is the value that it wrote."""

    began: float
    ended: float
    kvs: list[Kv]
    written: bytes = b""


@dataclass(slots=True)
class Churn:
    """The tenant, its clients and its administrators."""

    name: str
    chance: random.Random
    daemons: Callable[[], list[Daemon]]
    told: list[Told] = field(default_factory=list)
    # from when on only tenants that are so many-th of the name, or later, may be seen
    oldest: list[tuple[float, int]] = field(default_factory=list)
    # when it was closed, by what its administrators were told
    closed: list[tuple[float, float]] = field(default_factory=list)
    deeds: int = 0
    numbers: Iterator[int] = field(default_factory=itertools.count)

    def __str__(self) -> str:
        return f"{self.deeds} deeds of administrators, {len(self.told)} answers to their tenant"

    def work(self, seconds: float) -> list[Coroutine[Any, Any, None]]:
        """What goes on for so long."""
        ends = _now() + seconds
        return [self._administer(ends), *(self._use(ends) for _ in range(3)), self._watch(ends)]

    async def _administer(self, ends: float) -> None:
        chance = self.chance
        since, until = 0.0, 0.0
        while _now() < ends:
            await asyncio.sleep(chance.uniform(0, 1.5))
            register = chance.choice(self.daemons()).register
            deed = chance.choice(("create", "disable", "enable", "delete", "delete", "drop", "undelete", "quota"))
            began = _now()
            if deed != "quota":
                self.closed.append((since, min(began, until)))
                until = 0.0
            try:
                match deed:
                    case "create":
                        made = await register.create(self.name, gives_up_deleted=True)
                        self._require_at_least(made.keyspace)
                    case "disable":
                        await register.disable(self.name)
                        since, until = _now(), ends
                    case "enable":
                        await register.enable(self.name)
                    case "delete":
                        grace = chance.uniform(5, 40)
                        await register.delete(self.name, grace)
                        # then it may be given up, and come to be anew
                        since, until = _now(), began + grace - 4
                    case "drop":
                        gone = await register.delete(self.name, 0)
                        self._require_at_least(gone.keyspace, 1)
                    case "undelete":
                        await register.undelete(self.name)
                    case "quota":
                        await register.change(self.name, chance.choice((1 << 20, 1 << 30)))
            except (StoreUnavailable, Conflict, NoSuchTenant, TenantExists, asyncio.CancelledError) as error:
                if isinstance(error, asyncio.CancelledError) and _is_cancelled():
                    raise
                continue
            self.deeds += 1

    def _require_at_least(self, keyspace: str, more: int = 0) -> None:
        self.oldest.append((_now(), int(keyspace.partition("#")[2] or 0) + more))

    async def _use(self, ends: float) -> None:
        chance = self.chance
        while _now() < ends:
            began, key = _now(), chance.choice(KEYS)
            daemon = chance.choice(self.daemons())
            try:
                match chance.choice(("put", "put", "get", "list", "lease")):
                    case "put":
                        value = b"%d" % next(self.numbers)
                        put = await daemon.call(self.name, KV + "Put", PutRequest(key=key, value=value), PutResponse)
                        self.told.append(Told(began, _now(), [(key, value, put.header.revision)], value))
                    case "get":
                        self._note(
                            began, await daemon.call(self.name, KV + "Range", RangeRequest(key=key), RangeResponse)
                        )
                    case "list":
                        self._note(began, await daemon.call(self.name, KV + "Range", ALL, RangeResponse))
                    case "lease":
                        grant = LeaseGrantRequest(TTL=chance.randint(2, 10))
                        await daemon.call(self.name, LEASE + "LeaseGrant", grant, LeaseGrantResponse)
                        self.told.append(Told(began, _now(), []))
            except CallError as error:
                if error.code.name == "INTERNAL":
                    raise AssertionError from error
            await asyncio.sleep(chance.uniform(0, 0.05))

    def _note(self, began: float, answer: RangeResponse) -> None:
        self.told.append(Told(began, _now(), [_kv(kv) for kv in answer.kvs]))

    async def _watch(self, ends: float) -> None:
        """Watches from the first revision on, stream after stream; what one stream tells is of one tenant."""
        while _now() < ends:
            began = _now()
            told = Told(began, began, [])
            try:
                daemon = self.chance.choice(self.daemons())
                async with daemon.stream(self.name, WATCH, WatchResponse) as stream, asyncio.timeout(10):
                    create = WatchCreateRequest(key=ALL.key, range_end=ALL.range_end, start_revision=1)
                    stream.send(WatchRequest(create_request=create))
                    while _now() < ends:
                        answer = await stream.receive()
                        told.kvs += [_kv(event.kv) for event in answer.events if event.type == Event.PUT]
            except (CallError, TimeoutError):
                await asyncio.sleep(self.chance.uniform(0, 0.3))
            told.ended = began  # what a stream tells later may be what it held when its tenant ended
            self.told.append(told)

    async def check(self, daemon: Daemon, written: dict[bytes, tuple[int, bytes]]) -> None:
        """Holds what was told against the logs, once what was given up is cleared.

        :raises BrokenGuaranteeError:
        """
        given_up = await self._cleared(daemon)
        number_of: dict[bytes, int] = {}
        logged: dict[bytes, tuple[bytes, int]] = {}
        for number in range(given_up + 1):
            prefix = await daemon.binding.find_directory(("fetch", keyspace_of(self.name, number)))
            if prefix is None:
                continue
            layout = Layout(prefix, daemon.store.shared_prefix)
            for row, (_, encoded) in written.items():
                if layout.events <= row < layout.events_end:
                    kv = Event.FromString(encoded).kv
                    if kv.value:
                        _require(kv.value not in number_of, f"{kv} was written twice")
                        number_of[kv.value], logged[kv.value] = number, (kv.key, kv.mod_revision)
            if number < given_up:
                await self._check_left(daemon, layout)
        for told in self.told:
            self._check(told, number_of, logged)

    def _check(self, told: Told, number_of: dict[bytes, int], logged: dict[bytes, tuple[bytes, int]]) -> None:
        for key, value, revision in told.kvs:
            _require(logged.get(value) == (key, revision), f"{told}: {value!r} is in no log so")
        numbers = {number_of[value] for _, value, _ in told.kvs}
        _require(len(numbers) <= 1, f"{told} is of several tenants: {numbers}")
        least = max((number for at, number in self.oldest if at <= told.began), default=0)
        _require(min(numbers, default=least) >= least, f"{told} is of tenant {numbers}, where {least} had been made")
        if told.ended > told.began:
            for since, until in self.closed:
                _require(not since <= told.began <= told.ended <= until, f"{told}: closed from {since} to {until}")

    async def _cleared(self, daemon: Daemon) -> int:
        """Waits until what has been given up is cleared; how many tenants that was."""
        ends = _now() + CLEARED_SECONDS
        rows = daemon.register.rows
        while True:
            await asyncio.sleep(1)
            with daemon.store.snapshot() as snapshot:
                left, _ = await snapshot.get_range(*rows.all_cleared(), 1)
                count = await snapshot.get(rows.given_up(self.name))
            if not left:
                return int.from_bytes(count or b"")
            _require(_now() < ends, f"{left} is not cleared")

    async def _check_left(self, daemon: Daemon, layout: Layout) -> None:
        with daemon.store.snapshot() as snapshot:
            rows, _ = await snapshot.get_range(layout.prefix, layout.prefix + b"\xff", 10)
            expiries, _ = await snapshot.get_range(layout.shared + b"\x02", layout.shared + b"\x03", 10_000)
        _require([row for row, _ in rows] == [layout.revision], f"{rows} is left of a tenant")
        _require(rows[0][1][-1] == Closed.CLEARED, f"{rows} does not tell")
        _require(not any(row.endswith(layout.prefix) for row, _ in expiries), "a lease is left of a tenant")


def _require(holds: bool, why: str) -> None:
    if not holds:
        raise BrokenGuaranteeError(why)


def _kv(kv: KeyValue) -> Kv:
    return kv.key, kv.value, kv.mod_revision


def _now() -> float:
    return asyncio.get_running_loop().time()


def _is_cancelled() -> bool:
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0

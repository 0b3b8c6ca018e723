"""A batch: the state that its writes are evaluated on, a mutation of a key in it, and what is reported of it."""

import contextvars
import struct
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field

from fetch.engine.alarms import Alarms
from fetch.engine.layout import Closed, Layout
from fetch.engine.records import StoredEvent
from fetch.engine.turns import Work
from fetch.stores.transaction import Transaction

_USAGE = struct.Struct(">qq")

Mutate = Callable[["Mutation"], Awaitable[None]]


@dataclass(slots=True)
class Mutation:
    """One put or delete of one key: what passes through the operation chain, inside the transaction.

    `previous` is the stored frame that the mutation supersedes, `record` the one that it stores (None: a delete),
    `event` the event that it appends to the log; the chain fills them in. `kind` is "put" or "delete".
    """

    batch: "Batch"
    kind: str
    key: bytes
    value: bytes = b""
    lease: int = 0
    previous: bytes | None = None
    record: bytes | None = None
    event: bytes = b""


@dataclass(slots=True)
class Batch:
    """The state of a tenant within one storage transaction, as the writes evaluated so far leave it.

    `revision` is that of the write under evaluation once it has mutated something, else that of the last one.
    `deletes`, `txns` and `revoked` are counted for `Committed`. `caller` is the context that the write under evaluation
    was called in. `work` is what everything long that is done for the batch gives way by. `closed` tells whether the
    tenant is. `firsts` are the first events of each key at the running revision.
    """

    transaction: Transaction
    layout: Layout
    quota: int
    revision: int
    compacted: int
    stored_bytes: int
    keys: int
    alarms: Alarms
    alarms_before: Alarms
    mutate: Mutate
    caller: contextvars.Context
    work: Work
    events: list[StoredEvent] = field(default_factory=list)
    firsts: dict[bytes, StoredEvent] = field(default_factory=dict)
    after_commit: list[Callable[[], None]] = field(default_factory=list)
    mutations: int = 0
    deletes: int = 0
    txns: int = 0
    revoked: int = 0
    closed: Closed = Closed.NOT

    @property
    def sub(self) -> int:
        """The position of the running mutation among those of its revision."""
        return self.mutations - 1

    async def put(self, key: bytes, value: bytes, lease: int) -> Mutation:
        """Puts a key through the operation chain, at this write's revision."""
        return await self._mutate(Mutation(self, "put", key, value, lease))

    async def delete(self, key: bytes, previous: bytes) -> Mutation:
        """Deletes a key that exists through the operation chain, at this write's revision."""
        return await self._mutate(Mutation(self, "delete", key, previous=previous))

    async def _mutate(self, mutation: Mutation) -> Mutation:
        if self.mutations == 0:
            self.revision += 1
            self.firsts.clear()
        self.mutations += 1
        await self.mutate(mutation)
        if not mutation.event:
            # a link that did not proceed: acknowledged, the change would be missing from the log for good
            raise RuntimeError("the operation chain has ended without an event")
        if self.mutations > 1 and self.work.is_spent():  # between writes the batch asks
            await self.work.give_way()
        return mutation


@dataclass(slots=True)
class Committed:
    """What a batch was, for those who observe it: its size, how often it was evaluated, how long it took.

    `callers` are the contexts that its writes were called in, `started` is in nanoseconds since the Unix epoch;
    `stored_bytes` and `keys` are what the tenant has after it. `puts`, `deletes` and `txns` are what etcd counts as
    such (`server/storage/mvcc/metrics_txn.go`): keys put, deletes asked for, writes of more than one operation.
    `revoked` are the leases that ended, `raised` the alarms that were not there before. One that failed has `failed`
    set, and no revision.
    """

    writes: int
    revision: int
    attempts: int
    started: int
    seconds: float
    stored_bytes: int
    keys: int
    callers: Sequence[contextvars.Context]
    puts: int = 0
    deletes: int = 0
    txns: int = 0
    revoked: int = 0
    raised: Alarms = frozenset()
    failed: bool = False


@dataclass(slots=True)
class Delivered:
    """What a watcher was given: how many events, and how long the first of them had waited for it, in seconds.

    `lag` is None for events that were read from the log.
    """

    events: int
    lag: float | None


@dataclass(slots=True)
class Leased:
    """What became of leases: `how` many were "granted", with a time to live of `ttl` seconds, or "renewed"."""

    how: str
    leases: int
    ttl: int = 0


Report = Callable[[str, Committed | Delivered | Leased], None]
"""What observes the engines: it is told of each tenant's batches, deliveries and leases, on the event loop."""


def pack_usage(stored_bytes: int, keys: int) -> bytes:
    """How `unpack_usage` finds it."""
    return _USAGE.pack(stored_bytes, keys)


def unpack_usage(stored: bytes | None) -> tuple[int, int]:
    """(bytes, keys) that a tenant has stored."""
    return (0, 0) if stored is None else _USAGE.unpack(stored)

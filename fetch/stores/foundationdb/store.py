"""The store on a FoundationDB cluster, which any number of daemons share.

A snapshot is one FoundationDB transaction: a read version, and reads at it that add no conflicts. A transaction's
commit goes to the same one, with the keys that it relies on as its only read conflicts. So a batch takes three round
trips: read version, reads, commit.

    directory ("fetch", NAME)    one for each tenant; the directory layer chooses its prefix
    tuple ("fetch",)             what belongs to no tenant: 0x00 parts of large values (`values`), 0x01 daemons
                                 and what became of their transactions (`daemons`), from 0x02 on the engine's

The directory layer's prefixes are packed integers, so none begins as a packed string does.
"""

import asyncio
import contextlib
import random
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any, Generic, Self, TypeVar

from fetch.stores.foundationdb.binding import TIMEOUT_SECONDS, Binding, as_store_error, has_timed_out
from fetch.stores.foundationdb.counting import count
from fetch.stores.foundationdb.daemons import Daemons, Lane
from fetch.stores.foundationdb.reads import FirstReads
from fetch.stores.foundationdb.values import LONGEST_KEY, Parts, parts_of
from fetch.stores.protocol import KeyTooLong, SnapshotExpired, StoreLost, StoreUnavailable
from fetch.stores.snapshot import Row
from fetch.stores.transaction import Transaction

T = TypeVar("T")

_DIRECTORY = "fetch"
_SHARED = b"\x02fetch\x00"
_PROBE = b"\x00ready"
_PAGE_BYTES = 1 << 20
_NOT_COMMITTED = 1020
_BACKOFF_SECONDS = 0.001
_LONGEST_BACKOFF_SECONDS = 0.1
_LEAVE_SECONDS = 1.0
_SILENT_SECONDS = TIMEOUT_SECONDS / 2


class FoundationDBStore:
    """The store protocol on a cluster."""

    shared = True
    shared_prefix = _SHARED

    def __init__(self, binding: Binding) -> None:
        self._binding = binding
        self._error = binding.fdb.FDBError
        self._parts = Parts(_SHARED + b"\x00")
        self._first_reads = FirstReads(binding)
        self._daemons = Daemons(binding, _SHARED + b"\x01")
        self._beating = asyncio.create_task(self._daemons.run())
        self._closed = False

    @classmethod
    def open(cls, cluster_file: Path) -> Self:
        """The store on the cluster that the file names. Does not wait for the cluster to answer.

        :raises StoreUnavailable: FoundationDB's client cannot be used as it is installed, or the file is not right
        """
        return cls(Binding(cluster_file))

    async def open_tenant(self, name: str) -> bytes:
        """See `Store.open_tenant`."""
        try:
            return await self._binding.open_directory((_DIRECTORY, name))
        except self._error as error:
            raise as_store_error(self._binding.fdb, error) from error

    async def find_tenant(self, name: str) -> bytes | None:
        """See `Store.find_tenant`."""
        try:
            return await self._binding.find_directory((_DIRECTORY, name))
        except self._error as error:
            raise as_store_error(self._binding.fdb, error) from error

    def snapshot(self) -> "FoundationDBSnapshot":
        """See `Store.snapshot`. Expires after five seconds. Its version is the newest at the first read."""
        return FoundationDBSnapshot(self._binding, self._parts, self._first_reads)

    async def transact(self, body: Callable[[Transaction], Awaitable[T]]) -> T:
        """See `Store.transact`. Ends within little more than `TIMEOUT_SECONDS`; the first of all within twice that."""
        if self._closed:
            raise StoreUnavailable("the store is closed")
        await self._daemons.register(TIMEOUT_SECONDS)
        deadline = asyncio.get_running_loop().time() + TIMEOUT_SECONDS
        lane = self._daemons.take_lane()
        try:
            return await _Attempts(self._binding, self._parts, body, lane, self._daemons.next_attempt).run(deadline)
        finally:
            self._daemons.give_back(lane)

    async def changed(self, key: bytes, value: bytes | None) -> None:
        """See `Store.changed`. A watch, which takes a transaction of its own and nothing while it waits."""
        binding = self._binding
        transaction = binding.begin(reads_own_writes=True)  # a watch is none of a transaction that does not
        try:
            async with asyncio.timeout(TIMEOUT_SECONDS):
                with FoundationDBSnapshot(binding, self._parts) as snapshot:
                    if await snapshot.get(key) != value:
                        return
                    transaction.options.set_timeout(0)  # it would end the watch as well
                    transaction.set_read_version(snapshot.version())
                watch = transaction.watch(key)
                await binding.commit(transaction)
            await binding.ready(watch)
            watch.wait()
        except TimeoutError as error:
            raise StoreUnavailable(f"FoundationDB did not answer within {TIMEOUT_SECONDS:g} s") from error
        except self._error as error:
            raise as_store_error(binding.fdb, error) from error

    async def size(self) -> int:
        """See `Store.size`. FoundationDB's own estimate of all keys and values of the cluster, before replication."""
        binding = self._binding
        transaction = binding.begin()
        estimate = transaction.get_estimated_range_size_bytes(b"", b"\xff")
        await binding.ready(estimate)
        try:
            return int(estimate.wait())
        except self._error as error:
            raise as_store_error(binding.fdb, error) from error

    async def check(self) -> None:
        """See `Store.check`. A read."""
        with self.snapshot() as snapshot:
            await snapshot.get(_PROBE)

    async def lost(self) -> StoreLost:
        """See `Store.lost`. Never: the client finds its cluster again by itself."""
        never: asyncio.Future[StoreLost] = asyncio.get_running_loop().create_future()
        return await never

    async def close(self) -> None:
        """See `Store.close`. The client's network thread stays, for a process has only one."""
        self._closed = True
        self._beating.cancel()
        with contextlib.suppress(self._error, TimeoutError):
            await asyncio.wait_for(self._daemons.leave(), _LEAVE_SECONDS)


class _Attempts(Generic[T]):
    """One transaction, from its first attempt to the one that succeeds."""

    def __init__(
        self,
        binding: Binding,
        parts: Parts,
        body: Callable[[Transaction], Awaitable[T]],
        lane: Lane,
        number: Callable[[], bytes],
    ) -> None:
        """`number` gives each attempt its own."""
        self._binding = binding
        self._error = binding.fdb.FDBError
        self._parts = parts
        self._body = body
        self._lane = lane
        self._number = number
        self._unknown: dict[bytes, T] = {}

    async def run(self, deadline: float) -> T:
        """The body's result, once it is durable."""
        loop = asyncio.get_running_loop()
        predicates = self._binding.fdb.predicates
        backoff = _BACKOFF_SECONDS
        seconds = TIMEOUT_SECONDS
        while True:
            try:
                return await self._attempt(seconds)
            except SnapshotExpired as error:
                failure: Exception = error
            except self._error as error:
                if not predicates.is_retryable(error):
                    raise as_store_error(self._binding.fdb, error) from error
                failure = error
            if getattr(failure, "code", 0) == _NOT_COMMITTED:
                pause = 0.0  # whoever waited here would lose to those who do not: see the ADR on group commit
            else:
                pause = random.uniform(0, backoff)  # noqa: S311  spreads the retries
                backoff = min(backoff * 2, _LONGEST_BACKOFF_SECONDS)
            if loop.time() + pause >= deadline:
                raise StoreUnavailable(f"no commit within {TIMEOUT_SECONDS:g} s: {failure}") from failure
            await asyncio.sleep(pause)
            seconds = deadline - loop.time()

    async def _attempt(self, seconds: float) -> T:
        """Evaluates and commits once, within so many seconds."""
        lane = self._lane
        with FoundationDBSnapshot(self._binding, self._parts) as snapshot:
            if seconds < TIMEOUT_SECONDS:
                snapshot.bound(seconds)
            if self._unknown:
                last, heartbeat = await snapshot.get_many([lane.row, lane.heartbeat])
                if last in self._unknown:
                    return self._unknown[last]
                if heartbeat is None:
                    raise StoreUnavailable("whether the transaction was committed can no longer be found out")
            transaction = Transaction(snapshot)
            transaction.largest = self._binding.largest_transaction
            result = await self._body(transaction)
            if not transaction.writes and not transaction.cleared and not self._unknown:
                return result
            commit = self._assemble(transaction, snapshot)
            attempt = self._number()
            # an attempt that may still be under way and this one exclude each other: each conflicts with the other's
            # write. That is why an attempt after an unknown one is committed even if it writes nothing else
            commit.add_read_conflict_key(lane.row)
            if self._unknown:
                commit.add_read_conflict_key(lane.heartbeat)
            commit.set(lane.row, attempt)
            try:
                await self._binding.commit(commit)
            except self._error as error:
                if self._binding.fdb.predicates.is_maybe_committed(error):
                    self._unknown[attempt] = result
                raise
        return result

    def _assemble(self, transaction: Transaction, snapshot: "FoundationDBSnapshot") -> Any:
        commit, parts = snapshot.transaction(), self._parts
        for key in transaction.conflicts:
            commit.add_read_conflict_key(key)
        for begin, end in transaction.cleared:
            commit.clear_range(begin, end)
            parts.clear_range(commit, begin, end)
        split = snapshot.split
        for key, value in transaction.writes.items():
            if len(key) > LONGEST_KEY:
                raise KeyTooLong(f"a key of {len(key)} bytes")
            if key in split:
                parts.clear(commit, key)
            if value is None:
                commit.clear(key)
            else:
                parts.set(commit, key, value)
        return commit


class FoundationDBSnapshot:
    """The snapshot protocol on a FoundationDB transaction. `split` are the rows read whose values lie in parts.

    With `first_reads` the transaction is shared with other snapshots, so it is for reading only.
    """

    __slots__ = ("_anchored", "_binding", "_first_reads", "_parts", "_transaction", "split")

    def __init__(self, binding: Binding, parts: Parts, first_reads: FirstReads | None = None) -> None:
        self._binding = binding
        self._parts = parts
        self._first_reads = first_reads
        self._transaction: Any = None
        self._anchored = False
        self.split: set[bytes] = set()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._transaction = None

    def transaction(self) -> Any:
        """The binding's transaction."""
        if self._transaction is None:
            self._transaction = self._binding.begin()
        return self._transaction

    def bound(self, seconds: float) -> None:
        """Lets reads and commit end within so many seconds from now, rather than `TIMEOUT_SECONDS`."""
        self.transaction().options.set_timeout(max(1, int(seconds * 1000)))

    def version(self) -> int:
        """The version that is read at, once something has been read."""
        return int(self._transaction.get_read_version().wait())

    async def get(self, key: bytes) -> bytes | None:
        """See `Snapshot.get`."""
        [value] = await self.get_many([key])
        return value

    async def get_many(self, keys: Sequence[bytes]) -> list[bytes | None]:
        """See `Snapshot.get_many`. One round trip more where values lie in parts."""
        values = await self._read(lambda: self._values(keys))
        for index, value in enumerate(values):
            if value is not None and (count := parts_of(value)):
                values[index] = await self._join(keys[index], count)
        return values

    async def get_range(self, begin: bytes, end: bytes, limit: int) -> tuple[list[Row], bool]:
        """See `Snapshot.get_range`. A page holds at most about 1 MiB."""
        rows, more = await self._read(lambda: self._binding.rows(self.transaction(), begin, end, limit))
        room = _PAGE_BYTES
        for index, (key, value) in enumerate(rows):
            if count := parts_of(value):
                if room <= 0:
                    return rows[:index], True
                whole = await self._join(key, count)
                room -= len(whole)
                rows[index] = key, whole
        return rows, more

    async def count_range(self, begin: bytes, end: bytes, limit: int) -> tuple[int, bytes]:
        """See `Snapshot.count_range`. FoundationDB has no count: this reads the rows, values too."""
        return await self._read(lambda: count(self._binding, self.transaction(), begin, end, limit))

    async def _join(self, key: bytes, count: int) -> bytes:
        self.split.add(key)
        parts = await self._read(lambda: self._values(self._parts.keys(key, count)))
        return b"".join(part for part in parts if part is not None)

    async def _values(self, keys: Sequence[bytes]) -> list[bytes | None]:
        if self._transaction is None and self._first_reads is not None:
            self._transaction, values = await self._first_reads.read(keys)
            return values
        return await self._binding.values(self.transaction(), keys)

    async def _read(self, read: Callable[[], Awaitable[T]]) -> T:
        """Reads; again at a newer version as long as nothing has been read at this one.

        A transaction's time is up as its version grows too old: then this one has expired, unless the cluster has been
        silent for long.

        :raises StoreUnavailable: :raises SnapshotExpired: :raises KeyTooLong:
        """
        loop = asyncio.get_running_loop()
        deadline = 0.0
        while True:
            asked = loop.time()
            try:
                result = await read()
            except self._binding.fdb.FDBError as error:
                failure = as_store_error(self._binding.fdb, error)
                if has_timed_out(error) and loop.time() - asked < _SILENT_SECONDS:
                    failure = SnapshotExpired(str(failure))
                deadline = deadline or loop.time() + TIMEOUT_SECONDS
                if self._anchored or not isinstance(failure, SnapshotExpired) or loop.time() > deadline:
                    raise failure from error
                self._transaction = None
                await asyncio.sleep(random.uniform(0, _LONGEST_BACKOFF_SECONDS))  # noqa: S311  spreads the retries
            else:
                self._anchored = True
                return result

"""The embedded store: an LMDB database in a directory, for one machine.

Reads are calls into LMDB on the event loop's own thread: a key takes about 3 µs, less than a hop to a thread. Writes
go through one writer thread, which takes every transaction that waits, of whatever tenant, into one LMDB transaction:
one fsync acknowledges them all. LMDB's default durability is kept (no MDB_NOSYNC, no MDB_NOMETASYNC): a commit returns
when data and meta page are on disk, and a crash leaves the last commit whole.

The map is 1 TiB of address space; the file underneath grows with what is stored. That is how the map "grows": a later
`set_mapsize` would need every reader to stop. Where so much address space is refused, half of it is tried, and so on.
"""

import asyncio
import contextlib
import fcntl
import logging
import os
import queue
import struct
import threading
from collections.abc import Awaitable, Callable, Collection, Iterator, Sequence
from pathlib import Path
from typing import IO, Self, TypeVar, cast

import lmdb

from fetch.stores import longkeys
from fetch.stores.protocol import Row, StoreFull, StoreUnavailable
from fetch.stores.transaction import Transaction
from fetch.stores.wakes import Wakes

T = TypeVar("T")

_MAP_SIZE = 1 << 40
_SMALLEST_MAP_SIZE = 1 << 30
_LOCK = "fetch.lock"
_FORMAT_KEY = b"\x00format"
_FORMAT = b"fetch 1"
_TENANT = b"\x00tenant/"
_LAST_TENANT = b"\x00tenants"
_PREFIX = struct.Struct(">BI")
_PAGE_BYTES = 1 << 20
# what a commit may take on the disk beyond the bytes it writes: pages copied on the way from the root
_SPARE_BYTES = 1 << 20
_WRITE_AMPLIFICATION = 2

logger = logging.getLogger(__name__)


class LmdbStore:
    """The store protocol on an LMDB environment, which the workers of one daemon share."""

    shared_prefix = b""

    def __init__(self, directory: Path, worker: int = 0, workers: int = 1) -> None:
        """Opens the database in the directory, and creates both where they are missing.

        :raises StoreUnavailable: the directory cannot be used, or holds another format
        """
        self.shared = workers > 1
        self._loop = asyncio.get_running_loop()
        self._lock = _lock(directory, shared=self.shared)
        try:
            self._wakes = Wakes(directory, worker, workers, self._heard) if self.shared else None
        except OSError as error:
            raise StoreUnavailable(f"another process serves {directory}") from error
        self._environment = _open(directory)
        self._waiting: dict[bytes, list[asyncio.Future[None]]] = {}
        self._commits: queue.SimpleQueue[_Commit | None] = queue.SimpleQueue()
        self._writer = threading.Thread(target=self._write, name="lmdb-writer", daemon=True)
        self._writer.start()

    async def open_tenant(self, name: str) -> bytes:
        """See `Store.open_tenant`. A prefix is five bytes: tenants are numbered as they come."""
        key = _TENANT + name.encode()

        async def number(transaction: Transaction) -> bytes:
            prefix = await transaction.get_for_update(key)
            if prefix is None:
                last = await transaction.get_for_update(_LAST_TENANT)
                prefix = _PREFIX.pack(1, 1 if last is None else _PREFIX.unpack(last)[1] + 1)
                transaction.set(_LAST_TENANT, prefix)
                transaction.set(key, prefix)
            return prefix

        return await self.transact(number)

    def snapshot(self) -> "LmdbSnapshot":
        """See `Store.snapshot`. LMDB reuses no page that an open snapshot sees: hold it briefly."""
        return LmdbSnapshot(self._environment.begin())

    async def transact(self, body: Callable[[Transaction], Awaitable[T]]) -> T:
        """See `Store.transact`."""
        while True:
            with self.snapshot() as snapshot:
                transaction = Transaction(snapshot)
                result = await body(transaction)
            if not transaction.writes and not transaction.cleared:
                return result
            if not self._writer.is_alive():
                raise StoreUnavailable("the store is closed")
            commit = _Commit(transaction, self._loop.create_future())
            self._commits.put(commit)
            if await commit.done:
                return result

    async def changed(self, key: bytes, value: bytes | None) -> None:
        """See `Store.changed`. Hears of this process's commits, and of other workers' for keys they conflict on."""
        with self.snapshot() as snapshot:
            if await snapshot.get(key) != value:
                return
        waiter = self._loop.create_future()
        self._waiting.setdefault(key, []).append(waiter)
        try:
            await waiter
        finally:
            if waiter.cancelled() and waiter in self._waiting.get(key, ()):
                self._waiting[key].remove(waiter)

    async def size(self) -> int:
        """The bytes of the file that are in use or free for reuse."""
        information, statistics = self._environment.info(), self._environment.stat()
        return (int(information["last_pgno"]) + 1) * int(statistics["psize"])

    async def close(self) -> None:
        """Waits for the commits under way, then closes the database."""
        self._commits.put(None)
        await self._loop.run_in_executor(None, self._writer.join)
        if self._wakes is not None:
            self._wakes.close()
        self._environment.close()
        self._lock.close()

    def _write(self) -> None:
        """The writer thread: everything that waits goes into one commit."""
        while (commit := self._commits.get()) is not None:
            group = [commit]
            closing = False
            with contextlib.suppress(queue.Empty):
                while (more := self._commits.get_nowait()) is not None:
                    group.append(more)
                closing = True
            outcome = self._commit(group)
            with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
                self._loop.call_soon_threadsafe(self._answer, group, outcome)
            if closing:
                return

    def _commit(self, group: "list[_Commit]") -> list[bool] | BaseException:
        """Commits the group; for each whether it met no conflict, or the error that hit all of them."""
        try:
            with self._environment.begin(write=True) as writer:
                return [_apply(commit.transaction, writer) for commit in group]
        except lmdb.MapFullError as error:
            failure: StoreFull | StoreUnavailable = StoreFull(str(error))
        except Exception as error:  # noqa: BLE001  whatever it is, the callers learn of it, and the thread lives on
            # LMDB reports a write that a full disk has cut short as an input/output error
            failure = StoreFull(str(error)) if self._is_full(group) else StoreUnavailable(repr(error))
        logger.error("a commit of %d transactions failed: %r", len(group), failure)
        return failure

    def _is_full(self, group: "list[_Commit]") -> bool:
        """Whether the disk has no room for what the group writes."""
        disk = os.statvfs(self._environment.path())
        size = sum(len(value or b"") for commit in group for value in commit.transaction.writes.values())
        return disk.f_bavail * disk.f_frsize < _SPARE_BYTES + size * _WRITE_AMPLIFICATION

    def _answer(self, group: "list[_Commit]", outcome: list[bool] | BaseException) -> None:
        for index, commit in enumerate(group):
            # nobody waits where the caller was cancelled meanwhile; those who follow the store hear of it all the same
            waits = not commit.done.done()
            if isinstance(outcome, BaseException):
                if waits:
                    commit.done.set_exception(outcome)
                continue
            if waits:
                commit.done.set_result(outcome[index])
            written = commit.transaction.writes.keys()
            if self._wakes is not None:
                # what others may wait for is what writers conflict on: a tenant's revision
                self._wakes.tell(written & commit.transaction.conflicts.keys())
            if self._waiting:
                self._heard(written & self._waiting.keys())

    def _heard(self, keys: Collection[bytes] | None) -> None:
        """Wakes those who wait for one of the keys; None: all who wait."""
        for key in list(self._waiting) if keys is None else keys:
            for waiter in self._waiting.pop(key, ()):
                if not waiter.done():
                    waiter.set_result(None)


class LmdbSnapshot:
    """The snapshot protocol on an LMDB read transaction. Never suspends the caller."""

    __slots__ = ("_reader",)

    def __init__(self, reader: lmdb.Transaction) -> None:
        self._reader = reader

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._reader.abort()  # lmdb keeps it for the next snapshot (`max_spare_txns`)

    async def get(self, key: bytes) -> bytes | None:
        """See `Snapshot.get`."""
        return _stored(self._reader, key)

    async def get_many(self, keys: Sequence[bytes]) -> list[bytes | None]:
        """See `Snapshot.get_many`."""
        return [_stored(self._reader, key) for key in keys]

    async def get_range(self, begin: bytes, end: bytes, limit: int) -> tuple[list[Row], bool]:
        """See `Snapshot.get_range`. A page holds at most about 1 MiB."""
        rows: list[Row] = []
        room = _PAGE_BYTES
        for row in _forward(self._reader, begin, end):
            if len(rows) == limit or room <= 0:
                return rows, True
            rows.append(row)
            room -= len(row[1])
        return rows, False

    async def count_range(self, begin: bytes, end: bytes) -> int:
        """See `Snapshot.count_range`. Reads keys only; 0.3 µs a row."""
        cursor = self._reader.cursor()
        if not cursor.set_range(longkeys.record_key(begin)):
            return 0
        last = longkeys.record_key(end)
        count = 0
        for record in cursor.iternext(keys=True, values=False):
            if record > last or record == last == end:
                break
            if longkeys.is_bucket(record):
                count += sum(begin <= key < end for key, _ in longkeys.rows_of(record, cursor.value()))
            else:
                count += 1
        return count


class _Commit:
    __slots__ = ("done", "transaction")

    def __init__(self, transaction: Transaction, done: asyncio.Future[bool]) -> None:
        self.transaction = transaction
        self.done = done


def _lock(directory: Path, *, shared: bool) -> IO[bytes]:
    """Holds the directory for this process, or its daemon's workers: no other's writes would wake their watches."""
    try:
        directory.mkdir(parents=True, exist_ok=True)
        held = (directory / _LOCK).open("wb")
        fcntl.flock(held, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
    except BlockingIOError as error:
        held.close()
        raise StoreUnavailable(f"another process serves {directory}") from error
    except OSError as error:
        raise StoreUnavailable(f"cannot use {directory}: {error.strerror}") from error
    return held


def _open(directory: Path) -> lmdb.Environment:
    size = _MAP_SIZE
    while True:
        try:
            environment = lmdb.open(str(directory), map_size=size, max_readers=1024, max_spare_txns=16, subdir=True)
            break
        except (lmdb.MemoryError, MemoryError) as error:
            if size <= _SMALLEST_MAP_SIZE:
                raise StoreUnavailable(f"no address space for a map of {size} bytes: {error}") from error
            size //= 2
        except (lmdb.Error, OSError) as error:
            raise StoreUnavailable(f"cannot open the database in {directory}: {error}") from error
    with environment.begin(write=True) as transaction:
        if transaction.stat()["entries"] == 0:
            transaction.put(_FORMAT_KEY, _FORMAT)
        found = transaction.get(_FORMAT_KEY)
    if found != _FORMAT:
        environment.close()
        raise StoreUnavailable(f"{directory} holds another format than {_FORMAT.decode()}: {found!r}")
    return environment


def _apply(transaction: Transaction, writer: lmdb.Transaction) -> bool:
    """Applies the writes, unless a key that the transaction relies on has changed."""
    for key, value in transaction.conflicts.items():
        if _stored(writer, key) != value:
            return False
    for begin, end in transaction.cleared:
        _clear_range(writer, begin, end)
    for key, value in transaction.writes.items():
        if len(key) > longkeys.INLINE:
            record = longkeys.record_key(key)
            bucket = longkeys.replace(key, value, writer.get(record))
            if bucket:
                writer.put(record, bucket)
            else:
                writer.delete(record)
        elif value is None:
            writer.delete(key)
        else:
            writer.put(key, value)
    return True


def _stored(reader: lmdb.Transaction, key: bytes) -> bytes | None:
    if len(key) <= longkeys.INLINE:
        return cast("bytes | None", reader.get(key))
    return longkeys.find(key, reader.get(longkeys.record_key(key)))


def _clear_range(writer: lmdb.Transaction, begin: bytes, end: bytes) -> None:
    long_keys = [key for key, _ in _forward(writer, begin, end) if len(key) > longkeys.INLINE]
    for key in long_keys:
        record = longkeys.record_key(key)
        bucket = longkeys.replace(key, None, writer.get(record))
        if bucket:
            writer.put(record, bucket)
        else:
            writer.delete(record)
    cursor = writer.cursor()
    found = cursor.set_range(longkeys.record_key(begin))
    while found and cursor.key() < end:
        found = cursor.next() if longkeys.is_bucket(cursor.key()) else cursor.delete() and bool(cursor.key())


def _forward(reader: lmdb.Transaction, begin: bytes, end: bytes) -> Iterator[Row]:
    cursor = reader.cursor()
    if not cursor.set_range(longkeys.record_key(begin)):
        return
    if len(end) <= longkeys.INLINE:
        for row in cursor.iternext():
            if row[0] >= end:
                return
            if len(row[0]) > longkeys.INLINE:
                yield from (long for long in longkeys.rows_of(*row) if begin <= long[0] < end)
            else:
                yield row
    else:
        last = longkeys.record_key(end)
        for row in cursor.iternext():
            if row[0] > last:
                return
            if len(row[0]) > longkeys.INLINE:
                yield from (long for long in longkeys.rows_of(*row) if begin <= long[0] < end)
            else:
                yield row

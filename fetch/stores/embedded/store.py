"""The embedded store: an LMDB database in a directory, for one machine.

Reads are calls into LMDB on the event loop's own thread: a key takes about 3 µs, less than a hop to a thread. Writes
go through one writer thread, which takes every transaction that waits, of whatever tenant, into one LMDB transaction:
one fsync acknowledges them all. LMDB's default durability is kept (no MDB_NOSYNC, no MDB_NOMETASYNC): a commit returns
when data and meta page are on disk, and a crash leaves the last commit whole. It is acknowledged if the file still has
its name then.

No error of LMDB's leaves the store: see `errors` for what becomes of each. One that this process cannot recover
from makes the store *lost*: it answers nothing any more, and the daemon ends.
"""

import asyncio
import contextlib
import logging
import os
import struct
import threading
import time
from collections.abc import Awaitable, Callable, Collection, Sequence
from pathlib import Path
from typing import TypeVar

import lmdb

from fetch.stores.embedded.commits import Commit, Queue, apply, groups
from fetch.stores.embedded.directory import DataDirectory
from fetch.stores.embedded.environment import open_environment
from fetch.stores.embedded.errors import as_store_error
from fetch.stores.embedded.snapshot import LmdbSnapshot
from fetch.stores.embedded.wakes import Wakes
from fetch.stores.protocol import StoreCorrupt, StoreFull, StoreLost, StoreUnavailable
from fetch.stores.transaction import Transaction

T = TypeVar("T")

_MOST_SNAPSHOTS = 4096
"""Of one process at a time; each takes a slot of 64 bytes in LMDB's table of readers."""
_MOST_TRANSACTIONS = 1024
"""How many are evaluated at a time. The rest of the snapshots is for who only reads."""
_TENANT = b"\x00tenant/"
_LAST_TENANT = b"\x00tenants"
_PROBE = b"\x00probe"
_PREFIX = struct.Struct(">BI")
_LONGEST_COMMIT_SECONDS = 10.0
_COMPLAINTS_APART_SECONDS = 1.0
# what a commit may take on the disk beyond the bytes it writes: pages copied on the way from the root
_SPARE_BYTES = 1 << 20
_WRITE_AMPLIFICATION = 2

logger = logging.getLogger(__name__)


class LmdbStore:
    """The store protocol on an LMDB environment, which the workers of one daemon share."""

    shared_prefix = b""

    def __init__(self, directory: Path, worker: int = 0, workers: int = 1) -> None:
        """Opens the database in the directory, and creates both where they are missing.

        :raises StoreUnavailable: the directory cannot be used, is another daemon's, or holds another format
        """
        self.shared = workers > 1
        self._loop = asyncio.get_running_loop()
        self._directory = DataDirectory(directory, worker, workers)
        with contextlib.ExitStack() as undo:
            undo.callback(self._directory.close)
            self._environment = open_environment(self._directory.path, _MOST_SNAPSHOTS * workers)
            undo.callback(self._environment.close)
            try:
                self._directory.settle()
                self._wakes = Wakes(self._directory, worker, workers, self._heard) if self.shared else None
            except OSError as error:
                raise StoreUnavailable(f"cannot use {directory}: {error.strerror}") from error
            undo.pop_all()
        self._waiting: dict[bytes, list[asyncio.Future[None]]] = {}
        self._evaluating = asyncio.Semaphore(_MOST_TRANSACTIONS)
        self._lost: StoreLost | None = None
        self._losing: asyncio.Future[StoreLost] = self._loop.create_future()
        self._damage: StoreCorrupt | None = None
        self._commit_failed = False
        self._complained = -_COMPLAINTS_APART_SECONDS
        self._committing_since: float | None = None
        self._commits: Queue = Queue()
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

    async def find_tenant(self, name: str) -> bytes | None:
        """See `Store.find_tenant`."""
        with self.snapshot() as snapshot:
            return await snapshot.get(_TENANT + name.encode())

    def snapshot(self) -> LmdbSnapshot:
        """See `Store.snapshot`. LMDB reuses no page that an open snapshot sees: hold it briefly."""
        if self._lost is not None:
            raise self._lost
        try:
            return LmdbSnapshot(self._environment.begin(), self._failed)
        except lmdb.ReadersFullError:
            return self._last_snapshot()
        except lmdb.Error as error:
            raise self._failed(error) from error

    async def transact(self, body: Callable[[Transaction], Awaitable[T]]) -> T:
        """See `Store.transact`."""
        while True:
            async with self._evaluating:
                with self.snapshot() as snapshot:
                    transaction = Transaction(snapshot)
                    result = await body(transaction)
            if not transaction.writes and not transaction.cleared:
                return result
            if not self._writer.is_alive():
                raise StoreUnavailable("the store is closed")
            commit = Commit(transaction, self._loop.create_future())
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
        try:
            information, statistics = self._environment.info(), self._environment.stat()
        except lmdb.Error as error:
            raise self._failed(error) from error
        return (int(information["last_pgno"]) + 1) * int(statistics["psize"])

    async def check(self) -> None:
        """See `Store.check`. Writes only where the last commit has failed. Frees the slots of readers that have died.

        :raises StoreLost: also if a file of the database has been removed or replaced
        """
        if self._lost is not None:
            raise self._lost
        try:
            self._directory.require_all()
            self._environment.reader_check()
        except (lmdb.Error, StoreLost) as error:
            raise self._failed(error) from error
        if self._damage is not None:
            raise self._damage
        since = self._committing_since
        if since is not None and time.monotonic() - since > _LONGEST_COMMIT_SECONDS:
            raise StoreUnavailable(f"a commit has taken more than {_LONGEST_COMMIT_SECONDS:g} s")
        with self.snapshot() as snapshot:
            await snapshot.get(_PROBE)
        if self._commit_failed:
            with contextlib.suppress(StoreFull):  # whoever writes is told; who deletes can still be served
                await self.transact(_touch)

    async def lost(self) -> StoreLost:
        """See `Store.lost`."""
        return await asyncio.shield(self._losing)

    async def close(self) -> None:
        """Waits for the commits under way, then closes the database."""
        self._commits.put(None)
        await self._loop.run_in_executor(None, self._writer.join)
        if self._wakes is not None:
            self._wakes.close()
        self._environment.close()
        self._directory.close()

    def _last_snapshot(self) -> LmdbSnapshot:
        """A snapshot in the slot of a reader that has died, where there is one.

        :raises StoreBusy: all that hold a slot are alive
        """
        try:
            self._environment.reader_check()
            return LmdbSnapshot(self._environment.begin(), self._failed)
        except lmdb.Error as error:
            raise self._failed(error) from error

    def _failed(self, error: Exception) -> Exception:
        """What to raise for an error, which tells of the store's state. On the event loop and in the writer thread."""
        failure = as_store_error(error)
        if isinstance(failure, StoreCorrupt) and self._damage is None:
            self._damage = failure
        if isinstance(failure, StoreLost) and self._lost is None:
            self._lost = failure
            with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
                self._loop.call_soon_threadsafe(self._lose, failure)
        return failure

    def _lose(self, failure: StoreLost) -> None:
        if not self._losing.done():
            self._losing.set_result(failure)

    def _write(self) -> None:
        """The writer thread: commits one group after the other."""
        for group in groups(self._commits):
            self._committing_since = time.monotonic()
            outcomes = self._commit(group)
            self._committing_since = None
            with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
                self._loop.call_soon_threadsafe(self._answer, group, outcomes)
            del group, outcomes  # it may be long until the next one, and they may be large

    def _commit(self, group: Sequence[Commit]) -> "list[_Outcome]":
        """Commits the group; for each whether it met no conflict, or the error that it met."""
        if self._lost is not None:
            return [self._lost] * len(group)
        try:
            with self._environment.begin(write=True) as writer:
                outcomes: list[_Outcome] = [apply(commit.transaction, writer) for commit in group]
        except Exception as error:  # noqa: BLE001  whatever it is, the callers learn of it, and the thread lives on
            failure = self._failed(error)
            # LMDB reports a write that a full disk has cut short as an input/output error
            if type(failure) is StoreUnavailable and self._is_full(group):
                failure = StoreFull(str(failure))
        else:
            return self._acknowledged(outcomes)
        if len(group) > 1 and isinstance(failure, StoreFull | StoreCorrupt):
            # one may be too much, or meet what is damaged, and the others not: which it is is found by halving
            half = len(group) // 2
            return self._commit(group[:half]) + self._commit(group[half:])
        self._commit_failed = not isinstance(failure, StoreFull)
        self._complain(len(group), failure)
        return [failure] * len(group)

    def _acknowledged(self, outcomes: "list[_Outcome]") -> "list[_Outcome]":
        """The outcomes of a group that is durable; the error if that is in a file that nobody will find any more."""
        try:
            self._directory.require_database()
        except StoreUnavailable as error:
            failure = self._failed(error)
            self._complain(len(outcomes), failure)
            return [failure] * len(outcomes)
        self._commit_failed = False
        return outcomes

    def _complain(self, transactions: int, failure: Exception) -> None:
        now = time.monotonic()
        if now - self._complained >= _COMPLAINTS_APART_SECONDS:
            self._complained = now
            logger.error("a commit of %d transactions failed: %s: %s", transactions, type(failure).__name__, failure)

    def _is_full(self, group: Sequence[Commit]) -> bool:
        """Whether the disk has no room for what the group writes."""
        try:
            disk = os.statvfs(self._directory.path)
        except OSError:
            return False
        size = sum(len(value or b"") for commit in group for value in commit.transaction.writes.values())
        return disk.f_bavail * disk.f_frsize < _SPARE_BYTES + size * _WRITE_AMPLIFICATION

    def _answer(self, group: list[Commit], outcomes: "list[_Outcome]") -> None:
        for commit, outcome in zip(group, outcomes, strict=True):
            # nobody waits where the caller was cancelled meanwhile; those who follow the store hear of it all the same
            waits = not commit.done.done()
            if isinstance(outcome, Exception):
                if waits:
                    commit.done.set_exception(outcome)
                continue
            if waits:
                commit.done.set_result(outcome)
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


_Outcome = bool | Exception


async def _touch(transaction: Transaction) -> None:
    """The smallest write."""
    transaction.set(_PROBE, b"")

"""The official FoundationDB binding: opened once a process, its futures awaited on the event loop.

The binding's own asyncio mode is from before Python 3.11, so its futures are bridged here. The client's network thread
calls back when a future is ready, and needs the interpreter lock for that. Therefore one callback stands for a whole
group of reads, all groups share one C callback, and whatever becomes ready together wakes the loop once.
"""

import asyncio
import ctypes
import functools
import re
import struct
from collections import deque
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

from fetch.stores.protocol import KeyTooLong, SnapshotExpired, StoreUnavailable, TransactionTooLarge
from fetch.stores.snapshot import Row

API_VERSION = 730
TIMEOUT_SECONDS = 5.0
_MOST_WATCHES = 100_000
_CLUSTER_FILE = re.compile(r"\w+:\w+@[^\s,]+(,[^\s,]+)*")
_WANT_ALL = -2  # the streaming mode with the largest replies
_MOST_REPLIES = 13
_ALL = (1 << 31) - 1
_ROW = struct.Struct("<QiQi")  # FDBKeyValue: packed to 4 bytes
_COUNT_SECONDS = 1.0
_TRANSACTION_TOO_LARGE = 2101
_KEY_TOO_LARGE = 2102
_TIMED_OUT = 1031

_Callback = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_void_p)
# kept for as long as the process lives: the network thread may still call one when its store is long forgotten
_CALLBACKS: list[Any] = []


class Binding:
    """A FoundationDB cluster as the C library sees it. Belongs to the event loop it is made on."""

    largest_transaction = 10_000_000
    """Bytes that the cluster commits at once."""

    def __init__(self, cluster_file: Path) -> None:
        """Starts the client. Does not wait for the cluster to answer.

        :raises StoreUnavailable: package, library or cluster file are missing, or do not fit
        """
        self.fdb = _load()
        _check_cluster_file(cluster_file)
        try:
            self.database = self.fdb.open(str(cluster_file))
            self.database.options.set_transaction_timeout(int(TIMEOUT_SECONDS * 1000))
            self.database.options.set_max_watches(_MOST_WATCHES)
        except self.fdb.FDBError as error:
            raise StoreUnavailable(f"cannot use FoundationDB's cluster file {cluster_file}: {error}") from error
        self._loop = asyncio.get_running_loop()
        self._awaited: dict[int, tuple[Any, asyncio.Future[None]]] = {}
        self._arrived: deque[int] = deque()
        self._waking = False
        self._callback = _Callback(self._arrive)
        _CALLBACKS.append(self._callback)
        self._capi = self.database.capi
        self._present = ctypes.c_int()
        self._bytes = ctypes.POINTER(ctypes.c_byte)()
        self._length = ctypes.c_int()
        self._rows = ctypes.POINTER(self.fdb.impl.KeyValueStruct)()

    def begin(self, *, reads_own_writes: bool = False) -> Any:
        """A transaction. Usually its reads do not see its own writes: what needs that keeps them itself."""
        transaction = self.database.create_transaction()
        if not reads_own_writes:
            transaction.options.set_read_your_writes_disable()
        return transaction

    async def open_directory(self, path: Sequence[str]) -> bytes:
        """The prefix of a directory, which is made if there is none. The directory layer blocks, so it has a thread.

        :raises FDBError:
        """
        create = functools.partial(self.fdb.directory.create_or_open, self.database, tuple(path))
        directory = await self._loop.run_in_executor(None, create)
        return bytes(directory.key())

    async def find_directory(self, path: Sequence[str]) -> bytes | None:
        """The prefix of a directory; None if there is none.

        :raises FDBError:
        """

        def find() -> bytes | None:
            # the layer tells of a directory that there is not by a bare ValueError, as of much else
            if not self.fdb.directory.exists(self.database, tuple(path)):
                return None
            return bytes(self.fdb.directory.open(self.database, tuple(path)).key())

        return await self._loop.run_in_executor(None, find)

    async def ready(self, future: Any) -> None:
        """Returns when the future is ready; whether with a value or an error is for whoever takes it to find out."""
        if future.is_ready():
            return
        waiter = self._loop.create_future()
        pointer = future.fpointer
        self._awaited[pointer] = future, waiter
        self._capi.fdb_future_set_callback(pointer, self._callback, None)
        try:
            await waiter
        except asyncio.CancelledError:
            future.cancel()
            raise

    async def commit(self, transaction: Any) -> None:
        """Commits.

        :raises FDBError: as the client reports it, unknown results too
        """
        future = transaction.commit()
        await self.ready(future)
        future.wait()

    async def values(self, transaction: Any, keys: Sequence[bytes]) -> list[bytes | None]:
        """The values of the keys, all asked for at once. Adds no read conflicts.

        :raises FDBError:
        """
        read = transaction.snapshot.get
        futures = [read(key) for key in keys]
        for future in futures:
            await self.ready(future)
        return [self._value(future) for future in futures]

    async def rows(self, transaction: Any, begin: bytes, end: bytes, limit: int) -> tuple[list[Row], bool]:
        """At most `limit` rows of [begin, end) and about 1 MiB, and whether there are more. Adds no read conflicts.

        :raises FDBError:
        """
        rows: list[Row] = []
        string_at = ctypes.string_at
        goes_on = False
        # one row more tells whether there are more: at a limit, the client cannot
        async for table, goes_on in self._tables(transaction, begin, end, limit + 1, _MOST_REPLIES):  # noqa: B007  the last one counts
            rows.extend(
                (string_at(key, key_length), string_at(value, value_length))
                for key, key_length, value, value_length in _ROW.iter_unpack(table)
            )
        return rows[:limit], goes_on or len(rows) > limit

    async def count(self, transaction: Any, begin: bytes, end: bytes, limit: int) -> tuple[int, bytes]:
        """The number of rows of [begin, end), and `end`; or of its first `limit`, or of those that come within a
        second, and where the others begin.

        FoundationDB cannot count: the rows are sent, but not looked at.

        :raises FDBError:
        """
        count, ends = 0, self._loop.time() + _COUNT_SECONDS
        async for table, goes_on in self._tables(transaction, begin, end, min(limit, _ALL), _ALL):
            count += len(table) // _ROW.size
            if goes_on and table and (count >= limit or self._loop.time() >= ends):
                return count, _last_key(table) + b"\x00"
        return count, end

    async def splits(self, transaction: Any, begin: bytes, end: bytes, size: int) -> list[bytes]:
        """Keys that part [begin, end) into pieces of about `size` bytes, as the cluster estimates it, in order; `begin`
        and `end` may be among them.

        :raises FDBError:
        """
        future = transaction.get_range_split_points(begin, end, size)
        await self.ready(future)
        return list(future.wait())

    async def _tables(
        self, transaction: Any, begin: bytes, end: bytes, limit: int, replies: int
    ) -> AsyncIterator[tuple[bytes, bool]]:
        """The replies to a range read, each a table of pointers and lengths (`_ROW`), and whether there is more behind.

        A reply holds 80 kB, whatever one asks for, so the next one is asked for before this one is looked at. The
        pointers are valid until the next is taken.
        """
        future = self._range(transaction, begin, end, limit)
        while future is not None:
            await self.ready(future)
            current, future = future, None
            # the binding's own way makes an object for each row and field: 4 µs a row, against 0.6 for this
            count, more = self._length, self._present
            self._capi.fdb_future_get_keyvalue_array(
                current.fpointer, ctypes.byref(self._rows), ctypes.byref(count), ctypes.byref(more)
            )
            table = ctypes.string_at(self._rows, count.value * _ROW.size)
            limit -= count.value
            replies -= 1
            has_more = bool(more.value)
            if has_more and table and limit > 0 and replies > 0:
                future = self._range(transaction, _last_key(table) + b"\x00", end, limit)
            yield table, has_more

    def _range(self, transaction: Any, begin: bytes, end: bytes, limit: int) -> Any:
        return self.fdb.impl.FutureKeyValueArray(
            self._capi.fdb_transaction_get_range(
                transaction.tpointer, begin, len(begin), False, 1, end, len(end), False, 1,  # first key at or behind
                limit, 0, _WANT_ALL, 0, True, False,
            )
        )  # fmt: skip

    def _value(self, future: Any) -> bytes | None:
        self._capi.fdb_future_get_value(
            future.fpointer, ctypes.byref(self._present), ctypes.byref(self._bytes), ctypes.byref(self._length)
        )
        return ctypes.string_at(self._bytes, self._length.value) if self._present.value else None

    def _arrive(self, pointer: int, _: int | None) -> None:
        """Called by the network thread."""
        self._arrived.append(pointer)
        if not self._waking:
            self._waking = True
            try:
                self._loop.call_soon_threadsafe(self._wake)
            except RuntimeError:
                return  # the loop is closed: nobody waits any more

    def _wake(self) -> None:
        self._waking = False  # before the queue is emptied: what arrives from here on wakes the loop anew
        while self._arrived:
            _, waiter = self._awaited.pop(self._arrived.popleft())
            if not waiter.done():
                waiter.set_result(None)


def _last_key(table: bytes) -> bytes:
    """The key of a table's last row."""
    key, length, _, _ = _ROW.unpack_from(table, len(table) - _ROW.size)
    return ctypes.string_at(key, length)


def has_timed_out(error: Any) -> bool:
    """Whether an error of the client says that the transaction's time is up."""
    return bool(error.code == _TIMED_OUT)


def as_store_error(fdb: Any, error: Any) -> Exception:
    """What the store raises for an error of the client."""
    if error.code == _TRANSACTION_TOO_LARGE:
        return TransactionTooLarge(str(error))
    if error.code == _KEY_TOO_LARGE:
        return KeyTooLong(str(error))
    if has_timed_out(error):
        return StoreUnavailable(f"FoundationDB did not answer within {TIMEOUT_SECONDS:g} s")
    if fdb.predicates.is_retryable(error):
        return SnapshotExpired(str(error))
    return StoreUnavailable(str(error))


def _load() -> Any:
    try:
        import fdb  # noqa: PLC0415  an optional dependency, which the embedded store does without
    except ImportError as error:
        raise StoreUnavailable(
            f"FoundationDB needs the package foundationdb (pip install 'fetch-etcd[fdb]'): {error}"
        ) from error
    try:
        fdb.api_version(API_VERSION)
    except Exception as error:
        # the binding raises bare exceptions: for a missing library, one too old for it, another version chosen before
        raise StoreUnavailable(f"FoundationDB's client library cannot be used: {error}") from error
    return fdb


def _check_cluster_file(path: Path) -> None:
    """The client would wait for ever for the cluster of a file that it cannot read."""
    try:
        text = path.read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise StoreUnavailable(f"cannot read FoundationDB's cluster file {path}: {error}") from error
    lines = [line.strip() for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")]
    if len(lines) != 1 or not _CLUSTER_FILE.fullmatch(lines[0]):
        raise StoreUnavailable(f"{path} is not a FoundationDB cluster file: it has no line description:id@host:port,…")

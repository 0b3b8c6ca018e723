"""The client's side of the simulated cluster, with the interface of `fetch.stores.foundationdb.binding.Binding`."""

import asyncio
from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import Any, TypeVar

from fetch.stores.foundationdb.binding import TIMEOUT_SECONDS
from tests.simulation.cluster import (
    COMMIT_UNKNOWN_RESULT,
    FUTURE_VERSION,
    KEY_TOO_LARGE,
    LARGEST_KEY,
    LARGEST_VALUE,
    MAYBE_COMMITTED,
    NOT_COMMITTED,
    PROCESS_BEHIND,
    RETRYABLE,
    TRANSACTION_TIMED_OUT,
    TRANSACTION_TOO_LARGE,
    TRANSACTION_TOO_OLD,
    UNANSWERED_SECONDS,
    USED_DURING_COMMIT,
    VALUE_TOO_LARGE,
    Cluster,
    Commit,
    FDBError,
)

T = TypeVar("T")
Row = tuple[bytes, bytes]

PAGE_BYTES = 1 << 20
COUNT_SECONDS = 1.0
DIRECTORIES = b"\xfe"
PREDICATES = SimpleNamespace(
    is_retryable=lambda error: error.code in RETRYABLE, is_maybe_committed=lambda error: error.code in MAYBE_COMMITTED
)


class SimulatedBinding:
    """One process that is connected to a cluster. `cut_off`: it is not, and what it asks is not answered."""

    fdb = SimpleNamespace(FDBError=FDBError, predicates=PREDICATES)

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster
        self.largest_transaction = cluster.largest_transaction
        self.cut_off = False
        self._late: set[asyncio.Task[None]] = set()

    def begin(self, *, reads_own_writes: bool = False) -> "SimulatedTransaction":
        """See `Binding.begin`."""
        return SimulatedTransaction(self)

    async def open_directory(self, path: Sequence[str]) -> bytes:
        """See `Binding.open_directory`. Prefixes are numbers, given as directories are made."""
        row = DIRECTORIES + "/".join(path).encode()
        while True:
            transaction = self.begin()
            try:
                found, last = await self.values(transaction, [row, DIRECTORIES])
                if found is not None:
                    return found
                prefix = b"\x18" + (int.from_bytes(last or b"") + 1).to_bytes(4)
                transaction.add_read_conflict_key(row)
                transaction.add_read_conflict_key(DIRECTORIES)
                transaction.set(row, prefix)
                transaction.set(DIRECTORIES, prefix[1:])
                await self.commit(transaction)
            except FDBError as error:
                if error.code not in RETRYABLE:
                    raise
            else:
                return prefix

    async def find_directory(self, path: Sequence[str]) -> bytes | None:
        """See `Binding.find_directory`."""
        [found] = await self.values(self.begin(), [DIRECTORIES + "/".join(path).encode()])
        return found

    async def ready(self, future: "SimulatedFuture") -> None:
        """See `Binding.ready`."""
        await future.wait_until_ready()

    async def commit(self, transaction: "SimulatedTransaction") -> None:
        """See `Binding.commit`."""
        await transaction.in_time(transaction.run_commit())

    async def values(self, transaction: "SimulatedTransaction", keys: Sequence[bytes]) -> list[bytes | None]:
        """See `Binding.values`."""

        async def read() -> list[bytes | None]:
            version = await transaction.version()
            self._meet_read_faults()
            return await self.ask(lambda: [self.cluster.value(key, version) for key in keys])

        return await transaction.in_time(read()) if keys else []

    async def rows(
        self, transaction: "SimulatedTransaction", begin: bytes, end: bytes, limit: int
    ) -> tuple[list[Row], bool]:
        """See `Binding.rows`."""
        rows: list[Row] = []
        size, more = 0, True
        while more and size < PAGE_BYTES and len(rows) <= limit:
            page, more = await self._page(transaction, begin, end, limit + 1 - len(rows))
            rows += page
            size += sum(len(key) + len(value) for key, value in page)
            if page:
                begin = page[-1][0] + b"\x00"
        return rows[:limit], more or len(rows) > limit

    async def count(
        self, transaction: "SimulatedTransaction", begin: bytes, end: bytes, limit: int
    ) -> tuple[int, bytes]:
        """See `Binding.count`."""
        loop = asyncio.get_running_loop()
        count, more, ends = 0, True, loop.time() + COUNT_SECONDS
        while more:
            page, more = await self._page(transaction, begin, end, max(limit - count, 1))
            count += len(page)
            if page:
                begin = page[-1][0] + b"\x00"
            if more and (count >= limit or loop.time() >= ends):
                return count, begin
        return count, end

    async def splits(self, transaction: "SimulatedTransaction", begin: bytes, end: bytes, size: int) -> list[bytes]:
        """See `Binding.splits`."""

        async def ask() -> list[bytes]:
            self._meet_read_faults()
            return await self.ask(lambda: self.cluster.splits(begin, end, size))

        return await transaction.in_time(ask())

    async def ask(self, request: Callable[[], T]) -> T:
        """What the cluster answers; nothing while this process is cut off."""
        await self._connected()
        answer = await self.cluster.carry_out(request)
        await self._connected()
        return answer

    async def _connected(self) -> None:
        while self.cut_off:
            await asyncio.sleep(UNANSWERED_SECONDS)

    def carry_out_later(self, commit: Commit) -> None:
        """Lets a commit happen, or fail, a while after its client has given up."""

        async def later() -> None:
            await asyncio.sleep(self.cluster.random.uniform(0, self.cluster.faults.late_seconds))
            try:
                self.cluster.commit(commit)
            except FDBError:
                return

        task = asyncio.get_running_loop().create_task(later())
        self._late.add(task)
        task.add_done_callback(self._late.discard)

    async def _page(
        self, transaction: "SimulatedTransaction", begin: bytes, end: bytes, limit: int
    ) -> tuple[list[Row], bool]:
        async def read() -> tuple[list[Row], bool]:
            version = await transaction.version()
            self._meet_read_faults()
            return await self.ask(lambda: self.cluster.rows(begin, end, version, limit))

        return await transaction.in_time(read())

    def _meet_read_faults(self) -> None:
        if self.cluster.meets(self.cluster.faults.read):
            raise FDBError(self.cluster.random.choice((TRANSACTION_TOO_OLD, FUTURE_VERSION, PROCESS_BEHIND)))


class SimulatedTransaction:
    """A transaction of the binding: what fetch uses of it."""

    def __init__(self, binding: SimulatedBinding) -> None:
        self._binding = binding
        self._version: asyncio.Task[int] | None = None
        self._deadline: float | None = asyncio.get_running_loop().time() + TIMEOUT_SECONDS
        self._conflicts: list[Row] = []
        self._cleared: list[Row] = []
        self._writes: dict[bytes, bytes | None] = {}
        self._watches: list[SimulatedFuture] = []
        self._used = False
        self.options = SimpleNamespace(set_timeout=self._set_timeout)

    def set(self, key: bytes, value: bytes) -> None:
        self._writes[key] = value

    def clear(self, key: bytes) -> None:
        self._writes[key] = None

    def clear_range(self, begin: bytes, end: bytes) -> None:
        for key in [key for key in self._writes if begin <= key < end]:
            del self._writes[key]
        if begin < end:
            self._cleared.append((begin, end))

    def add_read_conflict_key(self, key: bytes) -> None:
        self._conflicts.append((key, key + b"\x00"))

    def set_read_version(self, version: int) -> None:
        self._version = asyncio.get_running_loop().create_task(_constant(version))

    def get_read_version(self) -> "SimulatedFuture":
        return SimulatedFuture(self._version or asyncio.ensure_future(self.version()))

    def watch(self, key: bytes) -> "SimulatedFuture":
        watch = SimulatedFuture(asyncio.get_running_loop().create_future(), key)
        self._watches.append(watch)
        return watch

    def get_estimated_range_size_bytes(self, begin: bytes, end: bytes) -> "SimulatedFuture":
        asked = self._binding.ask(self._binding.cluster.size)
        return SimulatedFuture(asyncio.get_running_loop().create_task(self.in_time(asked)))

    async def version(self) -> int:
        """The version that is read at, asked for once."""
        if self._version is None:
            asked = self._binding.ask(self._binding.cluster.read_version)
            self._version = asyncio.get_running_loop().create_task(asked)
        return await asyncio.shield(self._version)

    async def in_time(self, answer: Any) -> Any:
        """The answer, if it comes before the transaction's time is up.

        :raises FDBError: TRANSACTION_TIMED_OUT
        """
        try:
            async with asyncio.timeout_at(self._deadline):
                return await answer
        except TimeoutError:
            raise FDBError(TRANSACTION_TIMED_OUT) from None

    async def run_commit(self) -> None:
        """Commits, or meets what may happen to a commit."""
        cluster, faults = self._binding.cluster, self._binding.cluster.faults
        if self._used:
            raise FDBError(USED_DURING_COMMIT)
        self._used = True
        version = await self.version()
        if self._writes or self._cleared:
            commit = Commit(version, self._conflicts, self._cleared, self._writes)
            self._check(commit)
            if cluster.meets(faults.conflict):
                raise FDBError(NOT_COMMITTED)
            if cluster.meets(faults.unknown_not_done):
                await self._binding.ask(lambda: None)
                raise FDBError(COMMIT_UNKNOWN_RESULT)
            if cluster.meets(faults.unknown_late):
                await self._binding.ask(lambda: self._binding.carry_out_later(commit))
                raise FDBError(COMMIT_UNKNOWN_RESULT)
            version = await self._binding.ask(lambda: cluster.commit(commit))
            if cluster.meets(faults.unknown_done):
                raise FDBError(COMMIT_UNKNOWN_RESULT)
        for watch in self._watches:
            watch.begin(cluster, version)

    def _check(self, commit: Commit) -> None:
        keys = [*commit.writes, *(key for span in commit.cleared + commit.conflicts for key in span)]
        if any(len(key) > LARGEST_KEY + 1 for key in keys) or any(len(key) > LARGEST_KEY for key in commit.writes):
            raise FDBError(KEY_TOO_LARGE)
        if any(len(value or b"") > LARGEST_VALUE for value in commit.writes.values()):
            raise FDBError(VALUE_TOO_LARGE)
        if commit.size() > self._binding.cluster.largest_transaction:
            raise FDBError(TRANSACTION_TOO_LARGE)

    def _set_timeout(self, milliseconds: int) -> None:
        self._deadline = asyncio.get_running_loop().time() + milliseconds / 1000 if milliseconds else None


class SimulatedFuture:
    """A future of the binding."""

    def __init__(self, future: "asyncio.Future[Any]", key: bytes = b"") -> None:
        self._future = future
        self._key = key

    def begin(self, cluster: Cluster, version: int) -> None:
        """Begins to watch, once the transaction is committed."""
        watch = cluster.watch(self._key, version)
        watch.changed.add_done_callback(self._pass_on)

    def _pass_on(self, changed: "asyncio.Future[None]") -> None:
        if not self._future.done() and not changed.cancelled():
            self._future.set_result(None)

    async def wait_until_ready(self) -> None:
        """Returns when it is ready, whether with a value or an error."""
        await asyncio.wait([self._future])

    def is_ready(self) -> bool:
        return self._future.done()

    def wait(self) -> Any:
        """The value, which is there.

        :raises FDBError:
        """
        return self._future.result()

    def cancel(self) -> None:
        self._future.cancel()


async def _constant(version: int) -> int:
    return version

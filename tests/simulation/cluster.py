"""A FoundationDB cluster in memory: what its clients see of it, and what it does to them.

Keys have versions; a transaction reads at one, and commits if nothing that it relies on was written since. Everything
takes time and may go wrong, as `Faults` say, in the ways that FoundationDB's documentation warns of: reads at versions
too old or not there yet, conflicts, commits whose outcome the client does not learn and that happen or not, now or a
while later. What is modelled is held against a real cluster by `tests/stores/test_binding.py`.

Follows FoundationDB's developer guide (transaction basics, known limitations) and `fdbclient/NativeAPI.actor.cpp`.
"""

import asyncio
import random
from bisect import bisect_left, insort
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import TypeVar

T = TypeVar("T")

VERSIONS_PER_SECOND = 1_000_000
SNAPSHOT_SECONDS = 5.0
LARGEST_TRANSACTION = 10_000_000
LARGEST_VALUE = 100_000
LARGEST_KEY = 10_000
REPLY_BYTES = 80_000
UNANSWERED_SECONDS = 0.05
"""How often who is not answered asks again."""
_OVERHEAD_BYTES = 28

TRANSACTION_TOO_OLD = 1007
FUTURE_VERSION = 1009
NOT_COMMITTED = 1020
COMMIT_UNKNOWN_RESULT = 1021
TRANSACTION_TIMED_OUT = 1031
PROCESS_BEHIND = 1037
USED_DURING_COMMIT = 2017
TRANSACTION_TOO_LARGE = 2101
KEY_TOO_LARGE = 2102
VALUE_TOO_LARGE = 2103

RETRYABLE = frozenset((TRANSACTION_TOO_OLD, FUTURE_VERSION, NOT_COMMITTED, COMMIT_UNKNOWN_RESULT, PROCESS_BEHIND))
MAYBE_COMMITTED = frozenset((COMMIT_UNKNOWN_RESULT,))


class FDBError(Exception):
    """An error of the client, by its code."""

    def __init__(self, code: int) -> None:
        super().__init__(f"simulated error {code}")
        self.code = code


@dataclass(slots=True)
class Faults:
    """What goes wrong, as probabilities of each request, and how long things take, in seconds.

    A commit that is `late` is carried out up to `late_seconds` after its client was told that nobody knows.
    """

    least_delay: float = 0.0002
    most_delay: float = 0.002
    read: float = 0.0
    conflict: float = 0.0
    unknown_done: float = 0.0
    unknown_not_done: float = 0.0
    unknown_late: float = 0.0
    late_seconds: float = 8.0
    spurious_watch: float = 0.0


@dataclass(slots=True, eq=False)
class Watch:
    """Somebody who waits until a key's value is another."""

    key: bytes
    value: bytes | None
    changed: "asyncio.Future[None]"


@dataclass(slots=True, eq=False)
class Commit:
    """What a transaction asks for: read at `version`, relying on `conflicts`, to clear `cleared` and set `writes`."""

    version: int
    conflicts: list[tuple[bytes, bytes]]
    cleared: list[tuple[bytes, bytes]]
    writes: dict[bytes, bytes | None]

    def spans(self) -> Iterator[tuple[bytes, bytes]]:
        """What it writes, as ranges."""
        yield from self.cleared
        yield from ((key, key + b"\x00") for key in self.writes)

    def size(self) -> int:
        """Bytes, as FoundationDB counts them towards its limit."""
        sizes = [len(key) + len(value or b"") + _OVERHEAD_BYTES for key, value in self.writes.items()]
        return sum(sizes) + sum(len(begin) + len(end) + _OVERHEAD_BYTES for begin, end in self.cleared + self.conflicts)


@dataclass(slots=True)
class Cluster:
    """The one state that all clients share. `away`: nothing is answered until it is back.

    `wrote(key, value, version)` is told of each key that is set. How long snapshots last, how large transactions and
    replies may be: FoundationDB's own unless a test wants to meet these bounds with little.
    """

    random: random.Random
    faults: Faults = field(default_factory=Faults)
    away: bool = False
    wrote: Callable[[bytes, bytes, int], object] = lambda *_: None
    snapshot_seconds: float = SNAPSHOT_SECONDS
    largest_transaction: int = LARGEST_TRANSACTION
    reply_bytes: int = REPLY_BYTES
    version: int = 1
    _keys: list[bytes] = field(default_factory=list)
    _values: dict[bytes, list[tuple[int, bytes | None]]] = field(default_factory=dict)
    _committed: deque[tuple[int, list[tuple[bytes, bytes]]]] = field(default_factory=deque)
    _watches: dict[bytes, list[Watch]] = field(default_factory=dict)

    # what clients ask, each at the moment at which the cluster carries it out

    def read_version(self) -> int:
        """A version that has everything that was acknowledged before it was asked for."""
        self._advance()
        return self.version

    def value(self, key: bytes, version: int) -> bytes | None:
        """The value that a key has at a version.

        :raises FDBError: the version is too old
        """
        self._check(version)
        return self._value(key, version)

    def rows(self, begin: bytes, end: bytes, version: int, limit: int) -> tuple[list[tuple[bytes, bytes]], bool]:
        """At most `limit` rows of [begin, end), and about as many bytes as a reply holds; whether there are more.

        :raises FDBError: the version is too old
        """
        self._check(version)
        rows: list[tuple[bytes, bytes]] = []
        size = 0
        for index in range(bisect_left(self._keys, begin), len(self._keys)):
            key = self._keys[index]
            if key >= end:
                break
            value = self._value(key, version)
            if value is None:
                continue
            rows.append((key, value))
            size += len(key) + len(value)
            if len(rows) == limit or size >= self.reply_bytes:
                return rows, True
        return rows, False

    def splits(self, begin: bytes, end: bytes, size: int) -> list[bytes]:
        """The edges of pieces of [begin, end) of about so many bytes each, as they are now."""
        edges, piece = [begin], 0
        for key in self._keys[bisect_left(self._keys, begin) : bisect_left(self._keys, end)]:
            if piece >= size:
                edges.append(key)
                piece = 0
            piece += len(key) + len(self._value(key, self.version) or b"")
        return [*edges, end]

    def commit(self, commit: Commit) -> int:
        """Carries a commit out, and returns its version.

        :raises FDBError: NOT_COMMITTED, TRANSACTION_TOO_OLD: it has not happened and will not
        """
        self._advance()
        if commit.version < self.version - int(self.snapshot_seconds * VERSIONS_PER_SECOND):
            raise FDBError(TRANSACTION_TOO_OLD)
        for version, spans in reversed(self._committed):
            if version <= commit.version:
                break
            if any(_overlap(mine, theirs) for mine in commit.conflicts for theirs in spans):
                raise FDBError(NOT_COMMITTED)
        self.version += 1
        for begin, end in commit.cleared:
            for key in self._keys[bisect_left(self._keys, begin) : bisect_left(self._keys, end)]:
                self._set(key, None)
        for key, value in commit.writes.items():
            self._set(key, value)
        self._committed.append((self.version, list(commit.spans())))
        return self.version

    def watch(self, key: bytes, version: int) -> Watch:
        """Waits until the key's value is not the one of the version any more."""
        watch = Watch(key, self._value(key, version), asyncio.get_running_loop().create_future())
        self._watches.setdefault(key, []).append(watch)
        self._tell(key)
        return watch

    def size(self) -> int:
        """All keys and values."""
        return sum(len(key) + len(self._value(key, self.version) or b"") for key in self._keys)

    # how it does so

    async def carry_out(self, request: Callable[[], T]) -> T:
        """What a client goes through: its request travels, is carried out at one moment, and the answer travels."""
        await self._travel()
        answer = request()
        await self._travel()
        return answer

    async def _travel(self) -> None:
        await asyncio.sleep(self.random.uniform(self.faults.least_delay, self.faults.most_delay))
        while self.away:
            await asyncio.sleep(UNANSWERED_SECONDS)

    def meets(self, probability: float) -> bool:
        """Whether a fault of this probability happens now."""
        return probability > 0 and self.random.random() < probability

    def _advance(self) -> None:
        """Versions go with the time, and never back."""
        self.version = max(self.version + 1, int(asyncio.get_running_loop().time() * VERSIONS_PER_SECOND))
        oldest = self.version - int(2 * self.snapshot_seconds * VERSIONS_PER_SECOND)
        while self._committed and self._committed[0][0] < oldest:
            self._committed.popleft()

    def _check(self, version: int) -> None:
        self._advance()
        if version < self.version - int(self.snapshot_seconds * VERSIONS_PER_SECOND):
            raise FDBError(TRANSACTION_TOO_OLD)

    def _value(self, key: bytes, version: int) -> bytes | None:
        for written, value in reversed(self._values.get(key, ())):
            if written <= version:
                return value
        return None

    def _set(self, key: bytes, value: bytes | None) -> None:
        versions = self._values.get(key)
        if versions is None:
            if value is None:
                return
            versions = self._values[key] = []
            insort(self._keys, key)
        versions.append((self.version, value))
        if value is not None:
            self.wrote(key, value, self.version)
        oldest = self.version - int(2 * self.snapshot_seconds * VERSIONS_PER_SECOND)
        while len(versions) > 1 and versions[1][0] < oldest:
            del versions[0]
        self._tell(key)

    def _tell(self, key: bytes) -> None:
        waiting = self._watches.get(key)
        if not waiting:
            return
        now = self._value(key, self.version)
        for watch in list(waiting):
            if watch.changed.done() or watch.value != now or self.meets(self.faults.spurious_watch):
                waiting.remove(watch)
                if not watch.changed.done():
                    asyncio.get_running_loop().call_later(
                        self.random.uniform(self.faults.least_delay, self.faults.most_delay), _fire, watch.changed
                    )
        if not waiting:
            del self._watches[key]


def _fire(changed: "asyncio.Future[None]") -> None:
    if not changed.done():
        changed.set_result(None)


def _overlap(a: tuple[bytes, bytes], b: tuple[bytes, bytes]) -> bool:
    return a[0] < b[1] and b[0] < a[1]

"""Keys with their history: each change has a revision, and all that one operation changes has the same."""

import contextlib
import struct
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import google_crc32c
from sortedcontainers import SortedDict

from fetch import errors
from fetch.api.kv_pb2 import KeyValue
from fetch.api.rpc_pb2 import RangeRequest, RangeResponse
from fetch.engine.answers import Found
from fetch.engine.requests import is_filtered

_FIRST_REVISION = 1
_NEVER = -1
_RECORD = struct.Struct(">Q1sQ")


@dataclass(frozen=True, slots=True)
class Change:
    """A key that was put or deleted. A deletion's KeyValue has the key and the revision, as the event of it has.

    `previous` is the key at the revision before, until that is compacted. What the same operation has made of it is not
    told. `sub` is its place among those of its revision.
    """

    kv: KeyValue
    sub: int
    previous: KeyValue | None
    deleted: bool

    @property
    def revision(self) -> int:
        """When it was changed."""
        return self.kv.mod_revision


class Keyspace:
    """What there is at which revision.

    `history` has the changes of each key, the oldest first, and `log` those of all keys. `compacted` is the oldest
    revision that can be read; `revision` the newest, during an operation that has changed something its own.
    """

    def __init__(self, published: Callable[[Sequence[Change]], None]) -> None:
        """`published` is told of what each operation has changed."""
        self.revision = _FIRST_REVISION
        self.compacted = _NEVER
        self.history: SortedDict[bytes, list[Change]] = SortedDict()
        self.log: list[Change] = []
        self._changed: list[Change] = []
        self._published = published

    # reads

    def at(self, key: bytes, revision: int) -> KeyValue | None:
        """A key as it was at a revision; None if it did not exist."""
        for change in reversed(self.history.get(key, [])):
            if change.revision <= revision:
                return None if change.deleted else change.kv
        return None

    def newest(self, key: bytes) -> KeyValue | None:
        """A key as it is."""
        return self.at(key, self.revision)

    def in_range(self, key: bytes, range_end: bytes, revision: int) -> list[KeyValue]:
        """The keys of a range as they were at a revision, in order."""
        if not range_end:
            keys = [key]
        elif range_end == b"\x00":
            keys = list(self.history.irange(key))
        else:
            keys = list(self.history.irange(key, range_end, (True, False)))
        return [kv for kv in (self.at(key, revision) for key in keys) if kv is not None]

    def check(self, revision: int) -> None:
        """Refuses a revision that cannot be read. One that is not positive stands for the newest.

        :raises FutureRevision: :raises Compacted:
        """
        if revision > self.revision:
            raise errors.FutureRevision
        if 0 < revision < self.compacted:
            raise errors.Compacted

    def range(self, request: RangeRequest) -> Found:
        """The answer to a range: read, filtered, sorted, cut, and stripped of values, in this order.

        :raises FutureRevision: :raises Compacted:
        """
        self.check(request.revision)
        revision = request.revision if request.revision > 0 else self.revision
        found = self.in_range(request.key, request.range_end, revision)
        count = len(found)
        if request.count_only:
            return Found([], False, count, self.revision)
        by_key = request.sort_target == RangeRequest.KEY
        limit = request.limit if request.limit > 0 else count
        if not is_filtered(request) and (request.sort_order == RangeRequest.NONE):
            found = found[: limit + 1]  # only with an order is the limit that of what is sorted
        found = [kv for kv in found if _passes(request, kv)]
        if not by_key or request.sort_order == RangeRequest.DESCEND:
            found.sort(key=_SORT_KEYS[request.sort_target], reverse=request.sort_order == RangeRequest.DESCEND)
        more, found = len(found) > limit, found[:limit]
        if request.keys_only:
            keep_lease = request.sort_target == RangeRequest.VALUE  # etcd's index has no leases, and knows no values
            found = [_without_value(kv, keep_lease=keep_lease) for kv in found]
        frames = [framed(kv) for kv in found]
        return Found(frames, more, count, self.revision, sum(map(len, frames)))

    def checksum(self, revision: int) -> tuple[int, int]:
        """(etcd's hash at a revision, that revision): CRC-32C over the records of its key bucket, in their order.

        These are all changes above the compacted revision, and before them what compaction has left of the keys that
        there are at the revision; where there are none, of all keys.

        :raises FutureRevision: :raises Compacted:
        """
        self.check(revision)
        hashed = revision or self.revision
        records: list[Change] = []
        if hashed > 0:
            left = self._standing(hashed) or self._standing(self.compacted)
            records += [change for change in left if change.revision <= self.compacted]
            records += [change for change in self.log if self.compacted < change.revision <= hashed]
        ordered = sorted(records, key=lambda change: (change.revision, change.sub))
        return google_crc32c.value(b"key" + b"".join(map(_record, ordered))), hashed

    def _standing(self, revision: int) -> list[Change]:
        """What made the keys that there are at a revision what they are."""
        changes = [[it for it in changes if it.revision <= revision][-1:] for changes in self.history.values()]
        return [last for found in changes for last in found if not last.deleted]

    def size(self) -> int:
        """The bytes of all that is kept."""
        return sum(change.kv.ByteSize() for changes in self.history.values() for change in changes)

    def attached(self, lease: int) -> list[bytes]:
        """The keys that are attached to a lease."""
        return [kv.key for kv in self.in_range(b"\x00", b"\x00", self.revision) if kv.lease == lease]

    # writes

    @contextlib.contextmanager
    def operation(self) -> Iterator[None]:
        """What is changed in it has one revision. Where it raises, nothing has been changed."""
        before = self.revision
        try:
            yield
        except BaseException:
            for change in reversed(self._changed):
                self._undo(change)
            self.revision = before
            raise
        else:
            self._published(self._changed)
        finally:
            self._changed = []

    def put(self, key: bytes, value: bytes, lease: int) -> KeyValue | None:
        """Puts a key; what it was before."""
        previous = self.newest(key)
        self._begin()
        kv = KeyValue(key=key, value=value, lease=lease, mod_revision=self.revision, create_revision=self.revision)
        kv.version = 1
        if previous is not None:
            kv.create_revision, kv.version = previous.create_revision, previous.version + 1
        self._change(kv, deleted=False)
        return previous

    def delete(self, key: bytes) -> None:
        """Deletes a key, which there is."""
        self._begin()
        self._change(KeyValue(key=key, mod_revision=self.revision), deleted=True)

    def compact(self, revision: int) -> None:
        """Forgets what was superseded up to a revision: what was deleted by then, too. Its own events stay, since a
        watch may start there.

        :raises Compacted: :raises FutureRevision:
        """
        if revision <= self.compacted:
            raise errors.Compacted
        if revision > self.revision:
            raise errors.FutureRevision
        self.compacted = revision
        self.log = [
            replace(change, previous=None) if change.revision == revision else change
            for change in self.log
            if change.revision >= revision
        ]
        for key, changes in list(self.history.items()):
            past = [change for change in changes if change.revision <= revision]
            kept = [change for change in past[-1:] if not change.deleted]
            kept += changes[len(past) :]
            if kept:
                self.history[key] = kept
            else:
                del self.history[key]

    def _begin(self) -> None:
        """The first change of an operation takes the next revision."""
        if not self._changed:
            self.revision += 1

    def _change(self, kv: KeyValue, *, deleted: bool) -> None:
        change = Change(kv, len(self._changed), self.at(kv.key, self.revision - 1), deleted)
        self.history.setdefault(kv.key, []).append(change)
        self.log.append(change)
        self._changed.append(change)

    def _undo(self, change: Change) -> None:
        self.history[change.kv.key].pop()
        if not self.history[change.kv.key]:
            del self.history[change.kv.key]
        self.log.pop()


def framed(kv: KeyValue) -> bytes:
    """The frame of a KeyValue."""
    return RangeResponse(kvs=[kv]).SerializeToString()


def _record(change: Change) -> bytes:
    """What etcd's key bucket has of a change, key and value."""
    key = _RECORD.pack(change.revision, b"_", change.sub)
    if change.deleted:
        return key + b"t" + KeyValue(key=change.kv.key).SerializeToString()
    return key + change.kv.SerializeToString()


_SORT_KEYS: dict[int, Callable[[KeyValue], int | bytes]] = {
    RangeRequest.KEY: lambda kv: kv.key,
    RangeRequest.VERSION: lambda kv: kv.version,
    RangeRequest.CREATE: lambda kv: kv.create_revision,
    RangeRequest.MOD: lambda kv: kv.mod_revision,
    RangeRequest.VALUE: lambda kv: kv.value,
}


def _passes(request: RangeRequest, kv: KeyValue) -> bool:
    """Whether the request's filters let a key through."""
    return (
        _is_between(kv.mod_revision, request.min_mod_revision, request.max_mod_revision)
        and _is_between(kv.create_revision, request.min_create_revision, request.max_create_revision)
    )  # fmt: skip


def _is_between(revision: int, least: int, most: int) -> bool:
    return (not least or revision >= least) and (not most or revision <= most)


def _without_value(kv: KeyValue, *, keep_lease: bool) -> KeyValue:
    stripped = KeyValue()
    stripped.CopyFrom(kv)
    stripped.ClearField("value")
    if not keep_lease:
        stripped.ClearField("lease")
    return stripped

"""Reading keys at a revision.

The newest revision is one range read of `keys`. An older revision R is the same range read, corrected by the range's
history: of each key that something superseded after R, the first such event holds the value that the key had at R. A
long read is a series of short ones at one revision, so no store has to keep a snapshot for long.
"""

import asyncio
from collections import OrderedDict
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass

from fetch import errors
from fetch.api.kv_pb2 import KeyValue
from fetch.api.rpc_pb2 import RangeRequest
from fetch.engine.layout import FIRST_REVISION, NEVER, Layout, unpack_revision, unpack_sub
from fetch.engine.records import StoredEvent, frame, key_value, key_values
from fetch.stores.protocol import Row
from fetch.stores.transaction import Source, all_rows

_CHUNK = 1000
_MOST_EVENTS_COUNTED = 2000
_MOST_COUNTS = 1024
EVERYTHING = 1 << 62


@dataclass(slots=True)
class View:
    """A tenant at one moment: `revision` is the newest, and reads go back as far as `compacted`."""

    source: Source
    layout: Layout
    revision: int
    compacted: int

    @classmethod
    async def open(cls, source: Source, layout: Layout) -> "View":
        """The view of a tenant in a snapshot."""
        revision, compacted = await source.get_many([layout.revision, layout.compacted])
        return cls(source, layout, unpack_revision(revision, FIRST_REVISION), unpack_revision(compacted, NEVER))

    def check(self, revision: int) -> None:
        """Raises what etcd answers for a revision that cannot be read.

        :raises FutureRevision: :raises Compacted: OUT_OF_RANGE
        """
        if revision > self.revision:
            raise errors.FutureRevision
        if 0 < revision < self.compacted:
            raise errors.Compacted


@dataclass(slots=True)
class Found:
    """The answer to a range: stored frames in the order of the answer, how many keys the range has, at what revision
    it was served."""

    frames: list[bytes]
    more: bool
    count: int
    revision: int


class Counts:
    """How many keys ranges have, as found at some revision and brought forward by the events since.

    kube-apiserver lists in pages, and every page answers with the count of what is left of the range.
    """

    def __init__(self) -> None:
        self._known: OrderedDict[tuple[bytes, bytes], tuple[int, int]] = OrderedDict()

    def remember(self, begin: bytes, end: bytes, revision: int, count: int) -> None:
        """Keeps the count of rows [begin, end) at a revision."""
        self._known[begin, end] = revision, count
        self._known.move_to_end((begin, end))
        if len(self._known) > _MOST_COUNTS:
            self._known.popitem(last=False)

    async def count(self, view: View, begin: bytes, end: bytes, revision: int) -> int:
        """The number of keys of rows [begin, end) at a revision that the view can read."""
        known = self._known.get((begin, end))
        if known is None or abs(revision - known[0]) > _MOST_EVENTS_COUNTED or known[0] < view.compacted:
            newest = await view.source.count_range(begin, end)
            known = view.revision, newest
        found = known[1] + await _balance(view, begin, end, known[0], revision)
        self.remember(begin, end, revision, found)
        return found


async def collect(view: View, begin: bytes, end: bytes, limit: int, revision: int) -> tuple[list[bytes], bytes, bool]:
    """At most `limit` frames of the rows [begin, end) at a revision, where to go on, and whether there is more.

    Reads one chunk; `more` without a full `limit` asks the caller to go on from the returned row.
    """
    rows, more = await view.source.get_range(begin, end, min(limit, _CHUNK))
    upper = rows[-1][0] + b"\x00" if more else end
    if revision == view.revision:
        return [value for _, value in rows], upper, more
    frames = await _as_of(view, begin, upper, rows, revision)
    if len(frames) > limit:
        return frames[:limit], view.layout.key(key_value(frames[limit - 1]).key) + b"\x00", True
    return frames, upper, more


async def chunks(view: View, begin: bytes, end: bytes, limit: int, revision: int) -> AsyncIterator[list[bytes]]:
    """All frames of the rows [begin, end) at a revision up to `limit`, in chunks, within one view."""
    more = True
    while more and limit > 0:
        frames, begin, more = await collect(view, begin, end, limit, revision)
        limit -= len(frames)
        yield frames
        if more:
            await asyncio.sleep(0)  # a long list takes turns with other tenants' requests


async def find(view: View, request: RangeRequest, counts: Counts) -> Found:
    """Answers a range request as etcd does (`server/etcdserver/txn/range.go`), the request having been validated.

    :raises FutureRevision: :raises Compacted: OUT_OF_RANGE
    """
    view.check(request.revision)
    revision = request.revision if request.revision > 0 else view.revision
    begin, end = view.layout.key_range(request.key, request.range_end)
    if begin >= end:
        return Found([], False, 0, view.revision)
    if request.count_only:
        return Found([], False, await counts.count(view, begin, end, revision), view.revision)
    wanted = needed(request)
    frames: list[bytes] = []
    async for chunk in chunks(view, begin, end, wanted, revision):
        frames.extend(chunk)
    if len(frames) < wanted:
        count = len(frames)
        counts.remember(begin, end, revision, count)
    else:
        count = await counts.count(view, begin, end, revision)
    found = arranged(request, frames, count, view.revision)
    if found.more and _is_by_key(request) and not is_filtered(request):
        after = view.layout.key(key_value(found.frames[-1]).key) + b"\x00"
        counts.remember(after, end, revision, count - len(found.frames))
    return found


def needed(request: RangeRequest) -> int:
    """How many keys of the range have to be read for its answer: one more than the limit, unless sorting or filtering
    comes first. A sort target without an order sorts what the limit has left, as in etcd."""
    default_order = request.sort_order == RangeRequest.NONE or _is_by_key(request)
    return request.limit + 1 if request.limit > 0 and default_order and not is_filtered(request) else EVERYTHING


def arranged(request: RangeRequest, frames: list[bytes], count: int, revision: int) -> Found:
    """The answer, of the frames that it needs, in order of their keys, and the count of the range."""
    if not _is_by_key(request) or is_filtered(request):
        frames = _arrange(frames, request)
    more = 0 < request.limit < len(frames)
    if more:
        frames = frames[: request.limit]
    if request.keys_only:
        frames = without_values(frames, keep_lease=request.sort_target == RangeRequest.VALUE)
    return Found(frames, more, count, revision)


def is_filtered(request: RangeRequest) -> bool:
    """Whether the request leaves keys out by their revisions."""
    return bool(
        request.min_mod_revision
        or request.max_mod_revision
        or request.min_create_revision
        or request.max_create_revision
    )


def _is_by_key(request: RangeRequest) -> bool:
    return request.sort_target == RangeRequest.KEY and request.sort_order != RangeRequest.DESCEND


def without_values(frames: Sequence[bytes], *, keep_lease: bool = False) -> list[bytes]:
    """The frames as `keys_only` has them. etcd 3.7 answers it from its index, which knows no leases."""
    return [
        frame(kv.key, b"", kv.create_revision, kv.mod_revision, kv.version, kv.lease if keep_lease else 0)
        for kv in key_values(frames)
    ]


_SORT_FIELDS = {
    RangeRequest.KEY: "key",
    RangeRequest.VERSION: "version",
    RangeRequest.CREATE: "create_revision",
    RangeRequest.MOD: "mod_revision",
    RangeRequest.VALUE: "value",
}


def _arrange(frames: list[bytes], request: RangeRequest) -> list[bytes]:
    """Filters, then sorts. Without an order, another target than the key means ascending."""

    def passes(kv: KeyValue) -> bool:
        return not (
            (request.max_mod_revision and kv.mod_revision > request.max_mod_revision)
            or (request.min_mod_revision and kv.mod_revision < request.min_mod_revision)
            or (request.max_create_revision and kv.create_revision > request.max_create_revision)
            or (request.min_create_revision and kv.create_revision < request.min_create_revision)
        )

    pairs = [(kv, stored) for kv, stored in zip(key_values(frames), frames, strict=True) if passes(kv)]
    target = _SORT_FIELDS[request.sort_target]
    pairs.sort(key=lambda pair: getattr(pair[0], target), reverse=request.sort_order == RangeRequest.DESCEND)
    return [stored for _, stored in pairs]


async def _as_of(view: View, begin: bytes, end: bytes, rows: list[Row], revision: int) -> list[bytes]:
    """The frames of the rows [begin, end) as they were at an older revision; `rows` are the newest ones."""
    layout = view.layout
    current = {kv.key: stored for kv, (_, stored) in zip(key_values([row[1] for row in rows]), rows, strict=True)
               if kv.mod_revision <= revision}  # fmt: skip
    superseding: dict[bytes, bytes] = {}
    async for row, stored in all_rows(view.source, *layout.history_range(begin, end)):
        key, superseded_at = layout.unpack_history(row)
        if superseded_at > revision and key not in superseding:
            superseding[key] = layout.event(superseded_at, unpack_sub(stored))
    events = await view.source.get_many(list(superseding.values()))
    for key, encoded in zip(superseding, events, strict=True):
        if encoded is None:
            raise errors.Corrupt
        previous = StoredEvent.parse(0, encoded).previous()
        if previous is not None and key_value(previous).mod_revision <= revision:
            current[key] = previous
    return [current[key] for key in sorted(current)]


async def _balance(view: View, begin: bytes, end: bytes, known: int, wanted: int) -> int:
    """How many keys the rows [begin, end) have more at revision `wanted` than at revision `known`."""
    if known == wanted:
        return 0
    layout = view.layout
    first, last = min(known, wanted), max(known, wanted)
    balance = 0
    async for row, encoded in all_rows(view.source, layout.event(first + 1), layout.event(last + 1)):
        event = StoredEvent.parse(layout.unpack_event(row), encoded)
        if begin <= layout.key(event.key) < end:
            balance += event.created - event.deleted
    return balance if wanted > known else -balance

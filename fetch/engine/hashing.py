"""etcd's hash of a tenant's keys: CRC-32C over what etcd's key bucket has, so that the two can be compared.

The bucket (`server/storage/mvcc`) holds a record for each change, in order: its key is the change's revision and sub in
17 bytes, with a mark behind them for a deletion, and its value is the KeyValue. Hashed at revision R are

- the records above the compacted revision C, up to R, which are the events of the log;
- before these, of the records up to C, those of the keys that there are at R. Where there are none, etcd looks no
  further, and hashes all of them that compaction has left: those of the keys that there were at C.

The latter lie here in order of their keys. Each is hashed by itself when it is read, and is 24 bytes from then on; in
order of their revisions the hashes are put together, since a CRC is linear: what stands behind n bytes is hashed as if
they were zeros. That is 3 µs a key, and all the memory that this takes.
"""

import heapq
import struct
from collections.abc import Iterator, Sequence
from functools import lru_cache

from fetch.engine.layout import Layout
from fetch.engine.reads import EVERYTHING, View, pages
from fetch.engine.records import StoredEvent, deleted_key, key_of, message_of, mod_revision_of
from fetch.stores.protocol import SnapshotExpired
from fetch.stores.snapshot import Row

_BUCKET = b"key"
_RECORD = struct.Struct(">Q1sQ")
_SEPARATOR = b"_"
_TOMBSTONE = b"t"
_HASHED = struct.Struct(">QQII")
"""Revision, sub, length and hash of a record: sorts as the records do."""

_EVENTS = 50
"""Events read at once, each of which may have two values of any size."""

_SUBS = 250
_LOOK = 64
_POLYNOMIAL = 0x82F63B78
_ONE = 0x80000000


class Overtaken(Exception):
    """Compaction has changed what is to be hashed."""


async def hash_at(view: View, revision: int) -> tuple[int, int, int]:
    """(hash, compacted revision, the revision that was hashed). The view's log begins at its compacted revision.

    :raises FutureRevision: :raises Compacted: :raises Overtaken: to be done anew
    """
    view.check(revision)
    hashed, compacted = revision or view.revision, view.compacted
    crc32c = Crc32c(_BUCKET)
    if hashed < 0:  # etcd takes it for a revision before all others
        return crc32c.value, compacted, hashed
    if compacted > 0:
        runs, is_empty = await _hash_keys(view, hashed, compacted)
        if is_empty:
            runs, _ = await _hash_keys(view, compacted, compacted)
        await _append(crc32c, view, runs)
    await _extend(crc32c, view, hashed, compacted)
    return crc32c.value, compacted, hashed


async def hash_contents(view: View) -> int:
    """The hash of all that a bucket has which was compacted and nothing else: of the records up to the compacted
    revision, those of the keys that there were then, whether they have changed since or not; and all above.

    :raises Overtaken: to be done anew
    """
    crc32c = Crc32c(_BUCKET)
    if view.compacted > 0:
        runs, _ = await _hash_keys(view, view.compacted, view.compacted)
        await _append(crc32c, view, runs)
    await _extend(crc32c, view, view.revision, view.compacted)
    return crc32c.value


def begin_contents() -> "Crc32c":
    """The same hash, of what is not stored yet: to be added to with `record_of_put`, `record_of_deletion`."""
    return Crc32c(_BUCKET)


def record_of_put(revision: int, sub: int, message: bytes) -> bytes:
    """What etcd's bucket has for a put, key and value. `message` is the encoded KeyValue."""
    return _RECORD.pack(revision, _SEPARATOR, sub) + message


def record_of_deletion(revision: int, sub: int, key: bytes) -> bytes:
    """What etcd's bucket has for a deletion."""
    return _RECORD.pack(revision, _SEPARATOR, sub) + _TOMBSTONE + deleted_key(key)


async def _append(crc32c: "Crc32c", view: View, runs: Sequence[bytes]) -> None:
    """Adds the records of sorted runs, in order."""
    for count, record in enumerate(heapq.merge(*map(_records, runs))):
        _, _, length, crc = _HASHED.unpack(record)
        crc32c.append(crc, length)
        if not count % _LOOK:
            await view.pause()


async def _extend(crc32c: "Crc32c", view: View, hashed: int, compacted: int) -> None:
    """Adds the records above the compacted revision."""
    position, end, more = view.layout.event(max(compacted, 0) + 1), view.layout.event(hashed + 1), True
    while more:
        rows, more = await _rows(view, position, end, hashed, _EVENTS)
        for row, encoded in rows:
            crc32c.extend(_record_of(view.layout, row, encoded))
            await view.pause()
        if rows:
            position = rows[-1][0] + b"\x00"
        await _go_on(view, hashed, compacted)


async def _hash_keys(view: View, revision: int, compacted: int) -> tuple[list[bytes], bool]:
    """The hashed records up to the compacted revision of the keys that there are at a revision, as sorted runs, and
    whether there are no keys at all."""
    layout = view.layout
    of_compacted = await _subs_at(view, compacted)
    runs: list[bytes] = []
    is_empty = True
    async for frames in pages(view, layout.keys, layout.keys_end, EVERYTHING, revision):
        if not frames:
            continue
        is_empty = False
        subs = await subs_between(view, key_of(frames[0]), key_of(frames[-1]), revision)
        hashed: list[bytes] = []
        for frame in frames:
            mod_revision = mod_revision_of(frame)
            if mod_revision <= compacted:
                key = key_of(frame)
                sub = of_compacted.get(key, 0) if mod_revision == compacted else subs.get((key, mod_revision), 0)
                record = record_of_put(mod_revision, sub, message_of(frame))
                hashed.append(_HASHED.pack(mod_revision, sub, len(record), _crc32c(record)))
            if not len(hashed) % _LOOK:
                await view.pause()
        hashed.sort()
        runs.append(b"".join(hashed))
        await _go_on(view, revision, compacted)
    return runs, is_empty


async def _subs_at(view: View, compacted: int) -> dict[bytes, int]:
    """The subs of what the compacted revision has put: its events are still in the log."""
    subs: dict[bytes, int] = {}
    position, end, more = view.layout.event(compacted, 1), view.layout.event(compacted + 1), True
    while more:
        rows, more = await _rows(view, position, end, compacted, _EVENTS)
        for row, encoded in rows:
            event = StoredEvent.parse(compacted, encoded)
            if not event.deleted:
                subs[event.key] = view.layout.unpack_event_sub(row)
        if rows:
            position = rows[-1][0] + b"\x00"
        await view.pause()
    return subs


async def subs_between(view: View, first: bytes, last: bytes, revision: int) -> dict[tuple[bytes, int], int]:
    """The subs that compaction has kept, of the keys from `first` to `last`, by key and revision.

    :raises Overtaken: compaction has come in between
    """
    subs: dict[tuple[bytes, int], int] = {}
    position, end, more = view.layout.sub(first), view.layout.sub(last) + b"\x00", True
    while more:
        rows, more = await _rows(view, position, end, revision, _SUBS)
        for row, stored in rows:
            mod_revision, sub = view.layout.unpack_kept_sub(stored)
            subs[row[len(view.layout.subs) :], mod_revision] = sub
        if rows:
            position = rows[-1][0] + b"\x00"
        await view.pause()
    return subs


async def _rows(view: View, begin: bytes, end: bytes, revision: int, limit: int) -> tuple[list[Row], bool]:
    """A page of rows, from a new snapshot if the view's has expired."""
    compacted = view.compacted
    try:
        return await view.source.get_range(begin, end, limit)
    except SnapshotExpired:
        await view.renew(revision)
        if view.compacted != compacted:
            raise Overtaken from None
        return await view.source.get_range(begin, end, limit)


async def _go_on(view: View, revision: int, compacted: int) -> None:
    """Between two pages: others have their turns, and the snapshot is renewed when it has grown old."""
    await view.go_on(revision)
    if view.compacted != compacted:
        raise Overtaken


def _record_of(layout: Layout, row: bytes, encoded: bytes) -> bytes:
    """What etcd's bucket has for an event of the log, key and value."""
    revision, sub = layout.unpack_event(row), layout.unpack_event_sub(row)
    event = StoredEvent.parse(revision, encoded)
    if event.deleted:
        return record_of_deletion(revision, sub, event.key)
    return record_of_put(revision, sub, message_of(encoded[: event.bare]))


def _records(run: bytes) -> Iterator[bytes]:
    return (run[at : at + _HASHED.size] for at in range(0, len(run), _HASHED.size))


class Crc32c:
    """A hash to which bytes are added, or the hash of bytes."""

    def __init__(self, begin: bytes) -> None:
        self.value = _crc32c(begin)

    def extend(self, more: bytes) -> None:
        """Adds bytes."""
        self.value = _crc32c(more, self.value)

    def append(self, crc: int, length: int) -> None:
        """Adds `length` bytes that have this hash."""
        self.value = _times(self.value, _power(length)) ^ crc


def _crc32c(more: bytes, value: int = 0) -> int:
    import google_crc32c  # noqa: PLC0415  for who compares hashes, which is seldom

    extended: int = google_crc32c.extend(value, more)
    return extended


def _times(a: int, b: int) -> int:
    """The product of two polynomials over GF(2), modulo CRC-32C's; the highest bit is that of x⁰."""
    product = 0
    while a:
        if a & _ONE:
            product ^= b
        a = a << 1 & 0xFFFFFFFF
        b = b >> 1 ^ _POLYNOMIAL if b & 1 else b >> 1
    return product


@lru_cache(maxsize=1 << 16)
def _power(length: int) -> int:
    """The power of x by so many bytes' bits."""
    power, square = _ONE, _ONE >> 8
    while length:
        if length & 1:
            power = _times(power, square)
        square = _times(square, square)
        length >>= 1
    return power

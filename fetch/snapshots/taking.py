"""Takes a snapshot of a tenant: a file such as an etcd sends that has the tenant's keys.

It is written whole, to a file without a name, before the first byte of it is sent: its beginning says where its root
is, and no client that is slow keeps compaction from going on. The tenant's work takes turns meanwhile; no more than a
few mebibytes are held.
"""

import hashlib
import struct
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import grpc

from fetch.engine.alarms import MEMBER_ID
from fetch.engine.contents import Readable, changes_since, granted_leases, keys_compacted, raised_alarms
from fetch.engine.protocol import StorageEngine
from fetch.engine.reads import View
from fetch.engine.records import message_of, mod_revision_of
from fetch.engine.turns import Work
from fetch.errors import Refused
from fetch.snapshots import schema
from fetch.snapshots.sorting import Sorter
from fetch.snapshots.spool import Spool, in_thread
from fetch.snapshots.writer import FileWriter, Tree
from fetch.stores.protocol import SnapshotExpired

_WRITTEN_BYTES = 1 << 20
_PIECE_BYTES = 64 << 10
_READ_BYTES = 16 * _PIECE_BYTES
_TERM = 2
_SUB = struct.Struct(">I")


@dataclass(frozen=True, slots=True)
class Piece:
    """A part of a snapshot, and how many bytes come behind it, the hash not counted."""

    data: bytes
    remaining: int


async def take(engine: StorageEngine, directory: Path | None) -> Spool:
    """A file with the tenant at one revision; what it takes besides is in `directory` too.

    :raises Refused: UNIMPLEMENTED, the engine has its contents in another form than a store's
    :raises OSError: there is no room for it, for instance
    :raises SnapshotExpired: so does the store's snapshot, twice, before all leases are read, or while it is held on to
    """
    if not isinstance(engine, Readable):
        raise Refused(grpc.StatusCode.UNIMPLEMENTED, "etcdserver: snapshots are taken of what is in a store")
    try:
        return await engine.read_contents(lambda view, work: _write(view, work, directory))
    except SnapshotExpired:
        return await engine.read_contents(lambda view, work: _write(view, work, directory))


async def pieces(spool: Spool) -> AsyncIterator[Piece]:
    """What is sent of the file: all of it, then its SHA-256.

    :raises OSError:
    """
    digest = hashlib.sha256()
    for begin in range(0, spool.size, _READ_BYTES):
        read = await spool.read(begin, _READ_BYTES)
        await in_thread(lambda read=read: digest.update(read))  # type: ignore[misc]
        for at in range(0, len(read), _PIECE_BYTES):
            data = read[at : at + _PIECE_BYTES]
            yield Piece(data, spool.size - begin - at - len(data))
    yield Piece(digest.digest(), 0)


async def _write(view: View, work: Work, directory: Path | None) -> Spool:
    spool = Spool(directory)
    try:
        await _Copy(view, work, spool, directory).write()
    except BaseException:
        spool.close()
        raise
    return spool


class _Copy:
    """The writing of one file."""

    def __init__(self, view: View, work: Work, spool: Spool, directory: Path | None) -> None:
        self._view = view
        self._work = work
        self._spool = spool
        self._directory = directory
        self._file = FileWriter()
        # of the snapshot that the view begins with: it goes on in others
        self._revision, self._compacted = view.revision, view.compacted

    async def write(self) -> None:
        """Writes everything. What belongs to the first snapshot alone comes first."""
        await self._spool.append([bytes(self._file.beginning)])
        meta = schema.meta_rows(self._compacted, index=self._revision, term=_TERM, member=MEMBER_ID)
        self._bucket(schema.META, meta)
        self._bucket(schema.ALARM, schema.alarm_rows(await raised_alarms(self._view)))
        for name in schema.EMPTY:
            self._bucket(name, [])
        await self._leases()
        await self._keys()
        beginning = self._file.finish()
        await self._spool.append(self._file.take())
        await self._spool.put(0, beginning)

    def _bucket(self, name: bytes, rows: list[tuple[bytes, bytes]]) -> None:
        tree = self._file.bucket()
        for row in rows:
            tree.add(*row)
        self._file.close(name, tree)

    async def _leases(self) -> None:
        tree = self._file.bucket()
        async for grants in granted_leases(self._view):
            for granted in grants:
                tree.add(*schema.lease_row(granted.lease, granted.ttl))
            await self._settle()
        self._file.close(schema.LEASE, tree)

    async def _keys(self) -> None:
        tree = self._file.bucket()
        with Sorter(self._directory, self._work) as sorter:
            async for keys in keys_compacted(self._view, self._compacted):
                await sorter.add([(mod_revision_of(stored), _SUB.pack(sub) + stored) for sub, stored in keys])
            await self._add_sorted(tree, sorter)
        async for changes in changes_since(self._view, self._compacted, self._revision):
            for revision, sub, event in changes:
                value = schema.tombstone(event.key) if event.deleted else message_of(event.encoded[: event.bare])
                tree.add(schema.revision_key(revision, sub, deleted=event.deleted), value)
                await self._settle()
        self._file.close(schema.KEY, tree)

    async def _add_sorted(self, tree: Tree, sorter: Sorter) -> None:
        """Adds the keys as they were when the tenant was compacted, each at its place within its revision. What is
        held of a revision are the puts of one transaction."""
        last, held = 0, list[bytes]()
        async for items in sorter.sorted():
            for revision, item in items:
                if revision != last:
                    await self._add_revision(tree, last, held)
                    last, held = revision, []
                held.append(item)
        await self._add_revision(tree, last, held)

    async def _add_revision(self, tree: Tree, revision: int, items: list[bytes]) -> None:
        items.sort()
        for item in items:
            [sub] = _SUB.unpack_from(item)
            tree.add(schema.revision_key(revision, sub), message_of(item[_SUB.size :]))
            await self._settle()

    async def _settle(self) -> None:
        """Writes what is finished if it is much, and gives way if the slice is over."""
        if self._file.ready_bytes >= _WRITTEN_BYTES:
            await self._spool.append(self._file.take())
            await self._work.give_way()
        elif self._work.is_spent():
            await self._work.give_way()

"""Restores a tenant from a snapshot file, of an etcd or of fetch.

The file is read twice. The first time everything in it is looked at, and what will have been stored is hashed; nothing
is written before all of it has been found whole. The second time it is stored (`fetch/engine/loading.py`), and what is
stored is read again and hashed: only if that is the same does the tenant come into being.

Work is done in slices, between which others are served. The file is read on the event loop, a page at a time: its hash
has been read, or it has been written, just before, so it lies in memory as long as there is some.
"""

import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Literal

import grpc

from fetch.engine.alarms import MOST, Alarms
from fetch.engine.hashing import begin_contents, record_of_deletion, record_of_put
from fetch.engine.layout import FIRST_REVISION, NEVER
from fetch.engine.loading import Change, Loadable, Loader
from fetch.engine.protocol import StorageEngine
from fetch.engine.records import message_of
from fetch.engine.turns import Work
from fetch.errors import Refused
from fetch.snapshots import schema
from fetch.snapshots.decoding import MOST_REVISION, Decoded, alarm_of, change_of, lease_of, revision_of
from fetch.snapshots.reader import BrokenFileError, FileReader
from fetch.stores.protocol import KeyTooLong, TransactionTooLarge

_PAGE = 250
_PAGE_BYTES = 1 << 20
_LEASES = 1000
_LOOK = 8

logger = logging.getLogger(__name__)

Stage = Literal["checking", "storing", "verifying"]

Progress = Callable[[Stage, int, int], None]
"""Is told how many of all changes have been dealt with in a stage. While checking nobody knows of how many: 0."""


class NotAsStoredError(Exception):
    """What was stored is not what the file has."""


@dataclass(frozen=True, slots=True)
class Contents:
    """What a file has: its newest change, the revision that it was compacted at and the one that it was to be, -1 for
    never, how many changes and leases, its alarms, and the hash of it all."""

    newest: int
    compacted: int
    scheduled: int
    changes: int
    leases: int
    alarms: Alarms
    hash: int


@dataclass(frozen=True, slots=True)
class Restored:
    """What a tenant has that was restored."""

    revision: int
    compacted: int
    keys: int
    leases: int
    stored_bytes: int


async def look_through(file: FileReader, work: Work, progress: Progress) -> Contents:
    """Looks at everything that the file has.

    :raises BrokenFileError: :raises OSError:
    """
    if not {schema.KEY, schema.META} <= set(file.buckets()):
        raise BrokenFileError("it is a file of bbolt's, but no etcd's: it has not the buckets of one")
    finished, scheduled = _compactions(file)
    alarms: set[tuple[int, int]] = set()
    for row in file.rows(schema.ALARM):
        alarms.add(alarm_of(row))
        if len(alarms) > MOST:
            raise BrokenFileError(f"it has more than {MOST} alarms")
    leases = 0
    for row in file.rows(schema.LEASE):
        lease_of(row)
        leases += 1
        if not leases % _LOOK:
            await work.pause()
    hashed = _Hash(finished)
    newest = changes = 0
    for row in file.rows(schema.KEY):
        decoded = change_of(row)
        newest = decoded.revision
        changes += 1
        hashed.add(decoded)
        if not changes % _LOOK and work.is_spent():
            progress("checking", changes, 0)
            await work.give_way()
    return Contents(newest, finished, scheduled, changes, leases, frozenset(alarms), hashed.value)


async def restore(engine: StorageEngine, file: FileReader, progress: Progress, bump: int = 0) -> Restored:
    """Restores the engine's tenant, which has to be empty, from a file.

    `bump` is added to the revision of the newest change, which becomes the compacted revision too, unless it is 0. If
    it fails, the tenant is empty again; if that fails too, or the process ends, it is not served until it is restored
    again or cleared.

    :raises BrokenFileError: nothing was written :raises NotEmpty: :raises LoadingElsewhere: :raises OSError:
    :raises NotAsStoredError: and whatever the store raises :raises Refused: there is no store, or it takes less at once
    """
    loading = _loadable(engine).loading
    async with engine.turns.work(engine.tenant) as work:
        contents = await look_through(file, work, progress)
    revision, compacted = _revisions(contents, bump)
    async with loading(contents.compacted) as loader:
        await loader.begin()
        try:
            await _load(loader, file, contents, progress)
            await loader.finish(revision, compacted, contents.alarms)
        except (KeyTooLong, TransactionTooLarge) as error:
            await _clear(loader)
            why = f"etcdserver: the snapshot has more in one change than the store takes: {error}"
            raise Refused(grpc.StatusCode.INVALID_ARGUMENT, why) from error
        except BaseException:
            await _clear(loader)
            raise
    return Restored(revision, compacted, loader.keys, contents.leases, loader.stored_bytes)


async def clear(engine: StorageEngine) -> None:
    """Clears what an interrupted restoring has left behind. A tenant that is empty stays so.

    :raises NotEmpty: the tenant is whole :raises LoadingElsewhere: it is being restored here
    """
    async with _loadable(engine).loading(NEVER) as loader:
        await loader.begin()
        await loader.clear()


def _loadable(engine: StorageEngine) -> Loadable:
    if not isinstance(engine, Loadable):
        why = "etcdserver: snapshots are restored into what is in a store"
        raise Refused(grpc.StatusCode.UNIMPLEMENTED, why)
    return engine


async def _clear(loader: Loader) -> None:
    """Makes the tenant empty again, where that can be done."""
    try:
        await loader.clear()
    except Exception as error:  # noqa: BLE001  what has failed before is told; the mark stays, which keeps it from being served
        logger.warning("what was restored of a tenant cannot be cleared now: %s", error or type(error).__name__)


def _revisions(contents: Contents, bump: int) -> tuple[int, int]:
    """The revision and the compacted revision that a tenant begins with, as an etcd does that is started on the file
    (etcd: `server/storage/mvcc/kvstore.go`, `restore`; `etcdutl/snapshot/v3_snapshot.go`, `modifyLatestRevision`)."""
    newest, scheduled = contents.newest, contents.scheduled
    if bump:
        newest = scheduled = contents.newest + bump
        if newest > MOST_REVISION:
            raise BrokenFileError(f"revision {newest} is more than there can be")
    return max(newest, contents.compacted, scheduled, FIRST_REVISION), max(contents.compacted, scheduled)


async def _load(loader: Loader, file: FileReader, contents: Contents, progress: Progress) -> None:
    leases = (lease_of(row) for row in file.rows(schema.LEASE))
    while page := list(islice(leases, _LEASES)):
        await loader.grant(page)
    done = 0
    for changes, rows in _pages(file):
        await loader.add(changes)
        done += rows
        progress("storing", done, contents.changes)
    if done != contents.changes:
        raise BrokenFileError("it has changed while it was restored")
    progress("verifying", 0, contents.changes)
    hashed = await loader.hashed(max(contents.newest, contents.compacted, FIRST_REVISION))
    if hashed != contents.hash:
        raise NotAsStoredError(
            f"what was stored has hash {hashed}, the file's is {contents.hash}: nothing is kept of it"
        )
    progress("verifying", contents.changes, contents.changes)


def _pages(file: FileReader) -> Iterator[tuple[list[Change], int]]:
    """The changes in pages, and how many rows each is of."""
    page: list[Change] = []
    rows = size = 0
    for row in file.rows(schema.KEY):
        rows += 1
        size += len(row[1])
        if (change := change_of(row).change) is not None:
            page.append(change)
        if rows >= _PAGE or size >= _PAGE_BYTES:
            yield page, rows
            page, rows, size = [], 0, 0
    yield page, rows


def _compactions(file: FileReader) -> tuple[int, int]:
    """The revisions of the last compaction that has ended, and of the last that has begun; -1 for none."""
    found = {name: value for name, value in file.rows(schema.META) if name in _COMPACTIONS}
    finished, scheduled = (revision_of(found[name])[0] if name in found else NEVER for name in _COMPACTIONS)
    return finished, scheduled


_COMPACTIONS = (schema.FINISHED_COMPACTION, schema.SCHEDULED_COMPACTION)


class _Hash:
    """The hash of what will have been stored, see `hashing.hash_contents`. Of the compacted revision's own changes
    those count that it has left: they are kept until the next revision."""

    def __init__(self, compacted: int) -> None:
        self._compacted = max(compacted, 0)
        self._hash = begin_contents()
        self._last: dict[bytes, bytes] = {}

    def add(self, decoded: Decoded) -> None:
        """Adds the next change."""
        change = decoded.change
        if decoded.revision > self._compacted:
            self._settle()
        if change is None:
            return
        if change.stored is None:
            if decoded.revision > self._compacted:
                self._hash.extend(record_of_deletion(change.revision, change.sub, change.key))
            else:
                self._last.pop(change.key, None)
            return
        record = record_of_put(change.revision, change.sub, message_of(change.stored))
        if decoded.revision == self._compacted:
            self._last.pop(change.key, None)
            self._last[change.key] = record
        else:
            self._hash.extend(record)

    @property
    def value(self) -> int:
        """The hash of all changes."""
        self._settle()
        return self._hash.value

    def _settle(self) -> None:
        if self._last:
            for record in self._last.values():
                self._hash.extend(record)
            self._last.clear()

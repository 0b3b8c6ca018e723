"""The storage engine of one tenant: the operations that etcd's services need, by name.

It stands on a store (`fetch/stores/protocol.py`) and knows no wire format but the messages of requests that it
evaluates. Writes go through the tenant's `Writer` and the operation chain, reads through a snapshot, watches through
the `Hub`. One engine serves a tenant in a daemon; several daemons have one each on the same store.
"""

import asyncio
import functools
import zlib
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass

from fetch import errors
from fetch.api.rpc_pb2 import (
    DeleteRangeRequest,
    DeleteRangeResponse,
    PutRequest,
    PutResponse,
    RangeRequest,
    TxnRequest,
    TxnResponse,
)
from fetch.engine import alarms, compaction, lease, operations
from fetch.engine.alarms import Alarms
from fetch.engine.batch import Batch, Mutate, Report, Writer, unpack_usage
from fetch.engine.layout import FIRST_REVISION, NEVER, Layout, served_row, unpack_revision
from fetch.engine.operations import Outcome
from fetch.engine.reads import EVERYTHING, Counts, Found, View, arranged, chunks, collect, find, needed
from fetch.engine.renewals import Renewals
from fetch.engine.served import ServedTime, served_since
from fetch.engine.turns import Turns
from fetch.engine.watch import Hub
from fetch.stores.protocol import SnapshotExpired, Store

_PIECE = 1000
_MOST_KEYS_EXPIRED = 256


@dataclass(frozen=True, slots=True)
class Status:
    """A tenant's state: its newest revision, the bytes and keys it has stored, its alarms, its compacted revision."""

    revision: int
    stored_bytes: int
    keys: int
    alarms: Alarms
    compacted: int


@dataclass(frozen=True, slots=True)
class Piece:
    """A part of a streamed range: stored frames. `more`, `count` and `revision` are those of the whole answer."""

    frames: list[bytes]
    last: bool
    more: bool
    count: int
    revision: int


class StorageEngine:
    """The operations of one tenant. Everything raises `EtcdError` with etcd's code and text."""

    def __init__(
        self,
        tenant: str,
        store: Store,
        prefix: bytes,
        quota: int,
        mutate: Mutate,
        report: Report,
        granted: Callable[[lease.Grant], None],
        turns: Turns,
        served: ServedTime,
    ) -> None:
        """`quota` in bytes, 0 for none; `report` is told of batches and deliveries, `granted` of each lease.

        `turns` are those that all tenants' long work takes, `served` is the time that leases run out by.
        """
        self.tenant = tenant
        self.quota = quota
        self.turns = turns
        self._store = store
        self._layout = Layout(prefix, store.shared_prefix)
        self.watches = Hub(store, self._layout, functools.partial(report, tenant))
        self._counts = Counts()
        self._writer = Writer(
            store,
            self._layout,
            quota,
            mutate,
            self.watches.publish,
            functools.partial(report, tenant),
            functools.partial(turns.short, tenant),
        )
        self._granted = granted
        self._served = served
        self._renewals = Renewals(self._store_renewals)
        self._compaction: asyncio.Task[None] | None = None

    # keys

    async def create_if_absent(self, key: bytes, value: bytes, lease: int) -> Outcome:
        """See `operations.create_if_absent`."""
        return await self.update_at_revision(key, 0, value, lease)

    async def update_at_revision(self, key: bytes, revision: int, value: bytes, lease: int) -> Outcome:
        """See `operations.update_at_revision`."""
        rows = [self._layout.key(key), self._layout.lease(lease)] if lease else [self._layout.key(key)]
        return await self._writer.submit(
            lambda batch: operations.update_at_revision(batch, key, revision, value, lease), rows, len(value)
        )

    async def delete_key(self, key: bytes, revision: int) -> Outcome:
        """See `operations.delete_key`."""
        return await self._writer.submit(
            lambda batch: operations.delete_key(batch, key, revision), [self._layout.key(key)]
        )

    async def get_latest(self, key: bytes) -> Outcome:
        """The key's newest frame, in `current`."""
        layout = self._layout
        with self._store.snapshot() as snapshot:
            revision, stored = await snapshot.get_many([layout.revision, layout.keys + key])
        return Outcome(unpack_revision(revision, FIRST_REVISION), stored is not None, stored)

    async def range_keys(self, request: RangeRequest) -> Found:
        """See `reads.find`. What takes longer than the store keeps a snapshot is read in pieces at one revision."""
        try:
            with self._store.snapshot() as snapshot:
                view = await View.open(snapshot, self._layout)
                return await find(view, request, self._counts)
        except SnapshotExpired:
            wanted = needed(request)
            plain = RangeRequest(
                key=request.key,
                range_end=request.range_end,
                revision=request.revision,
                limit=0 if wanted == EVERYTHING else wanted,
                count_only=request.count_only,
            )
            frames: list[bytes] = []
            async for piece in self.stream_range(plain):
                frames.extend(piece.frames)
            return arranged(request, frames, piece.count, piece.revision)

    async def stream_range(self, request: RangeRequest) -> AsyncIterator[Piece]:
        """The range in pieces of bounded size, all at one revision, each read when it is asked for.

        :raises FutureRevision: :raises Compacted: also midway, when compaction overtakes the stream's revision
        """
        begin, end = self._layout.key_range(request.key, request.range_end)
        limit = request.limit if request.limit > 0 else EVERYTHING
        revision = newest = sent = 0
        while True:
            with self._store.snapshot() as snapshot:
                view = await View.open(snapshot, self._layout)
                if not newest:
                    newest = view.revision
                    revision = request.revision if request.revision > 0 else newest
                view.check(revision)
                if request.count_only:
                    count = await self._counts.count(view, begin, end, revision) if begin < end else 0
                    piece = Piece([], last=True, more=False, count=count, revision=newest)
                else:
                    frames, begin, more = await collect(view, begin, end, min(limit - sent, _PIECE), revision)
                    sent += len(frames)
                    last = not more or sent >= limit
                    rest = await self._counts.count(view, begin, end, revision) if more and last else 0
                    piece = Piece(frames, last=last, more=rest > 0, count=sent + rest, revision=newest)
            if piece.frames or piece.last:
                yield piece
            if piece.last:
                return

    async def put(self, request: PutRequest) -> PutResponse:
        """See `operations.put`."""
        return await self._writer.submit(
            lambda batch: operations.put(batch, request), [self._layout.key(request.key)], len(request.value)
        )

    async def delete_range(self, request: DeleteRangeRequest) -> DeleteRangeResponse:
        """See `operations.delete_range`."""
        rows = [] if request.range_end else [self._layout.key(request.key)]
        return await self._writer.submit(lambda batch: operations.delete_range(batch, request), rows)

    async def txn(self, request: TxnRequest, size: int = 0) -> TxnResponse:
        """See `operations.txn`. One that only reads takes no part in a batch. `size` in bytes bounds the batch."""
        if operations.is_read_only(request):
            async with self.turns.work(self.tenant) as work:
                with self._store.snapshot() as snapshot:
                    view = await View.open(snapshot, self._layout)
                    return await operations.read_only_txn(view, request, work)
        rows = [self._layout.key(key) for key in operations.keys_read(request)]
        return await self._writer.submit(lambda batch: operations.txn(batch, request), rows, size)

    async def revision(self) -> int:
        """The newest revision."""
        with self._store.snapshot() as snapshot:
            return unpack_revision(await snapshot.get(self._layout.revision), FIRST_REVISION)

    # compaction

    async def compact(self, revision: int, *, physical: bool) -> int:
        """See `compaction.compact`; `physical` waits until everything is cleared."""
        newest = await self._writer.submit(lambda batch: compaction.compact(batch, revision))
        self._compact_in_background()
        if physical and self._compaction is not None:
            await asyncio.shield(self._compaction)
        return newest

    async def resume(self) -> None:
        """Goes on with a compaction that a restart has interrupted."""
        with self._store.snapshot() as snapshot:
            view = await View.open(snapshot, self._layout)
            behind = await compaction.is_behind(snapshot, self._layout, view.compacted)
        if behind:
            self._compact_in_background()

    def _compact_in_background(self) -> None:
        if self._compaction is None or self._compaction.done():
            self._compaction = asyncio.create_task(self._clear())

    async def _clear(self) -> None:
        more = True
        while more:
            more = await self._writer.submit(compaction.clear_step)

    # leases

    async def grant_lease(self, lease_id: int, ttl: int) -> tuple[lease.Grant, int]:
        """See `lease.grant`; with the revision at which it was served."""

        async def grant(batch: Batch) -> tuple[lease.Grant, int]:
            return await lease.grant(batch, self.tenant, lease_id, ttl, self._served.latest()), batch.revision

        granted, revision = await self._writer.submit(grant)
        self._granted(granted)
        return granted, revision

    async def renew_leases(self, leases: Sequence[int]) -> tuple[list[lease.Grant | None], int]:
        """Starts times to live anew, see `lease.renew`; with the revision from before that."""
        with self._store.snapshot() as snapshot:
            revision = unpack_revision(await snapshot.get(self._layout.revision), FIRST_REVISION)
            found = await lease.read_grants(snapshot, self._layout, leases)
        now = self._served.latest()
        # the others need no writing: they would not run out earlier if they were revoked, or the daemon ended, now
        missing = [grant.lease for grant in found if grant is not None and not grant.is_renewed(now)]
        if missing:
            renewed = dict(zip(missing, await self._renewals.renew(missing), strict=True))
            found = [grant and renewed.get(grant.lease, grant) for grant in found]
        return found, revision

    async def _store_renewals(self, leases: Sequence[int]) -> list[lease.Grant | None]:
        rows = [self._layout.lease(lease_id) for lease_id in leases]
        return await self._writer.submit(
            lambda batch: lease.renew(batch, self.tenant, leases, self._served.latest()), rows
        )

    async def revoke_lease(self, lease_id: int) -> int:
        """See `lease.revoke`; the revision at which it was served."""

        async def revoke(batch: Batch) -> int:
            await lease.revoke(batch, lease_id)
            return batch.revision

        return await self._writer.submit(revoke)

    async def expire_leases(self, due: Sequence[lease.Due]) -> int:
        """See `lease.expire`. What the store cannot commit at once is expired in steps."""
        due = due[:_MOST_KEYS_EXPIRED]
        rows = [served_row(self._layout.shared), *(self._layout.lease(lease_id) for lease_id, _ in due)]

        async def expire(batch: Batch, most_keys: int, *, whole: bool) -> int:
            return await lease.expire(batch, self.tenant, due, self._served, most_keys, whole=whole)

        most_keys = _MOST_KEYS_EXPIRED
        try:
            return await self._writer.submit(functools.partial(expire, most_keys=most_keys, whole=True), rows)
        except errors.RequestTooLarge:
            while True:
                most_keys //= 2
                try:
                    return await self._writer.submit(functools.partial(expire, most_keys=most_keys, whole=False), rows)
                except errors.RequestTooLarge:
                    if most_keys == 1:
                        raise

    async def find_lease(self, lease_id: int, *, keys: bool) -> tuple[lease.Grant | None, int, list[bytes], int]:
        """A lease's grant (None: no such lease), the seconds it has left, its keys if they are asked for, and the
        newest revision."""
        attached: list[bytes] = []
        with self._store.snapshot() as snapshot:
            view = await View.open(snapshot, self._layout)
            granted = await lease.read_grant(snapshot, self._layout, lease_id)
            since = await served_since(snapshot, self._layout.shared)
            if keys and granted is not None:
                async with self.turns.work(self.tenant) as work:
                    attached = await lease.attached_keys(snapshot, self._layout, lease_id, work)
        remaining = -1 if granted is None else granted.remaining(self._served.now(), since)
        return granted, remaining, attached, view.revision

    async def leases(self) -> tuple[list[int], int]:
        """All leases, and the newest revision."""
        async with self.turns.work(self.tenant) as work:
            with self._store.snapshot() as snapshot:
                view = await View.open(snapshot, self._layout)
                return await lease.leases(snapshot, self._layout, work), view.revision

    # maintenance

    async def status(self) -> Status:
        """The tenant's state."""
        layout = self._layout
        with self._store.snapshot() as snapshot:
            revision, compacted, usage, raised = await snapshot.get_many(
                [layout.revision, layout.compacted, layout.usage, layout.alarms]
            )
        stored_bytes, keys = unpack_usage(usage)
        return Status(
            unpack_revision(revision, FIRST_REVISION),
            stored_bytes,
            keys,
            alarms.unpack(raised),
            unpack_revision(compacted, NEVER),
        )

    async def change_alarms(self, *, activate: Alarms = frozenset(), deactivate: Alarms = frozenset()) -> Alarms:
        """Raises and lowers alarms; returns those that were raised before.

        :raises TooManyAlarms:
        """

        async def change(batch: Batch) -> Alarms:
            before = batch.alarms
            after = (before | activate) - deactivate
            if len(after) > max(len(before), alarms.MOST):
                raise errors.TooManyAlarms
            batch.alarms = after
            return before

        return await self._writer.submit(change)

    async def hash_keys(self, revision: int) -> tuple[int, int, int]:
        """(CRC-32 of all keys and values at a revision, compacted revision, the revision that was hashed).

        :raises FutureRevision: :raises Compacted:
        """
        checksum = 0
        with self._store.snapshot() as snapshot:
            view = await View.open(snapshot, self._layout)
            view.check(revision)
            revision = revision or view.revision
            async for frames in chunks(view, self._layout.keys, self._layout.keys_end, EVERYTHING, revision):
                for stored in frames:
                    checksum = zlib.crc32(stored, checksum)
        return checksum, view.compacted, revision

    @property
    def waiting_writes(self) -> int:
        """The writes that wait to be taken into a batch."""
        return self._writer.waiting

    async def close(self) -> None:
        """Waits for the writes under way."""
        if self._compaction is not None:
            self._compaction.cancel()
        await self._writer.drain()

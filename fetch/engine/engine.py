"""The storage engine that stands on a store (`fetch/stores/protocol.py`), of one tenant.

What its operations promise stands in `fetch/engine/protocol.py`, how they are carried out here. It knows no wire format
but the messages of requests that it evaluates. Writes go through the tenant's `Writer` and the operation chain, reads
through a snapshot, watches through the `Hub`. One engine serves a tenant in a daemon; several daemons have one each on
the same store.

One file, since it is one interface: what an operation does is elsewhere, here is what it is done with.
"""

import asyncio
import contextlib
import functools
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Any, TypeVar

from fetch import errors
from fetch.api.rpc_pb2 import (
    DeleteRangeRequest,
    DeleteRangeResponse,
    PutRequest,
    PutResponse,
    RangeRequest,
    TxnRequest,
)
from fetch.engine import alarms, background, compaction, hashing, lease, operations
from fetch.engine.alarms import Alarms
from fetch.engine.answers import Answer, Found
from fetch.engine.background import Failed
from fetch.engine.batch import Batch, Leased, Mutate, Report, unpack_usage
from fetch.engine.claim import Claim
from fetch.engine.layout import FIRST_REVISION, NEVER, Layout, served_row, unpack_claim, unpack_revision
from fetch.engine.loading import Loader
from fetch.engine.protocol import Outcome, Piece, Status, WatchInstance
from fetch.engine.reads import (
    EVERYTHING,
    Counts,
    View,
    find,
    find_briefly,
    lasting_view,
    page,
    without_values,
)
from fetch.engine.reaper import LeftToWriter
from fetch.engine.renewals import Renewals
from fetch.engine.retention import Retention, claim
from fetch.engine.served import ServedTime, served_since
from fetch.engine.turns import Turns, Work
from fetch.engine.watches.feed import Watcher
from fetch.engine.watches.hub import Hub
from fetch.engine.watches.instance import Instance
from fetch.engine.writer import Writer
from fetch.stores.protocol import SnapshotExpired, Store

T = TypeVar("T")

_PIECE = 1000
_MOST_KEYS_EXPIRED = 256
_TRIES = 5
_TRIES_TO_READ = 2
_LEFT_TO_WRITER_MS = 10_000
MOST_RESPONSE_BYTES = 512 << 20
"""The largest answer to a range or to a transaction that only reads, unless it is set otherwise."""


class StoredEngine:
    """The operations of one tenant, on a store."""

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
        failed: Failed,
        claim: Claim | None = None,
        keyspace: str = "",
    ) -> None:
        """`quota` in bytes, 0 for none; `report` is told of batches, deliveries and leases, `granted` of each lease.

        `turns` are those that all tenants' long work takes, `served` is the time that leases run out by. `failed` is
        told of each failure of what runs in the background; `claim` is for the writer. `keyspace` is what the store
        calls the tenant, unless it is its name.
        """
        self.tenant = tenant
        self.member_id = alarms.MEMBER_ID
        self.keyspace = keyspace or tenant
        self.turns = turns
        self.most_response_bytes = MOST_RESPONSE_BYTES
        self._store = store
        self._layout = Layout(prefix, store.shared_prefix)
        self._failed = failed
        self._report = functools.partial(report, tenant)
        self.watches = Hub(tenant, store, self._layout, turns, self._report, failed)
        self._instances: dict[WatchInstance[Any], Instance] = {}
        self._counts = Counts()
        self._large_answers = asyncio.Lock()
        self._writer = Writer(
            store,
            self._layout,
            quota,
            mutate,
            self.watches.publish,
            self._report,
            functools.partial(turns.short, tenant),
            claim,
        )
        self._claim = claim
        self._granted = granted
        self._served = served
        self._renewals = Renewals(self._store_renewals)
        self._compaction: asyncio.Task[None] | None = None
        self._step = compaction.STEP
        self._is_loading = False

    @property
    def quota(self) -> int:
        """The bytes that may be stored; 0: no bound."""
        return self._writer.quota

    @quota.setter
    def quota(self, quota: int) -> None:
        """Holds from the next batch on."""
        self._writer.quota = quota

    # keys

    async def create_if_absent(self, key: bytes, value: bytes, lease: int) -> Outcome:
        """See `operations.update_at_revision`: a key that does not exist is as one at revision 0."""
        rows = [self._layout.key(key), self._layout.lease(lease)] if lease else [self._layout.key(key)]
        return await self._writer.submit(
            lambda batch: operations.update_at_revision(batch, key, 0, value, lease), rows, len(value)
        )

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

    async def get_at_revision(self, key: bytes, revision: int) -> Outcome:
        """The key's frame at a revision, in `current`."""
        found = await self.range_keys(RangeRequest(key=key, revision=revision))
        current = found.frames[0] if found.frames else None
        return Outcome(found.revision, current is not None, current)

    async def count_keys(self, key: bytes, range_end: bytes, revision: int) -> tuple[int, int]:
        """How many keys a range has at a revision, and the newest revision."""
        request = RangeRequest(key=key, range_end=range_end, revision=revision, count_only=True)
        found = await self.range_keys(request)
        return found.count, found.revision

    async def range_keys(self, request: RangeRequest) -> Found:
        """See `reads.find`. What takes more than a page takes turns, and holds no snapshot before it has begun."""
        if request.count_only or not self._counts.is_large(*self._layout.key_range(request.key, request.range_end)):
            try:
                with self._store.snapshot() as snapshot:
                    view = await View.open(snapshot, self._layout)
                    view.room = self.most_response_bytes
                    found = await find_briefly(view, request, self._counts)
            except SnapshotExpired:
                found = None
            if found is not None:
                return found
        return await self._read_long(lambda view, _: find(view, request, self._counts))

    async def stream_range(self, request: RangeRequest) -> AsyncIterator[Piece]:
        """The range in pieces of bounded size, all at one revision, each read when it is asked for.

        With a sort target other than the key the pieces are those of the whole answer in its order, which is read
        first. (etcd sorts each of its chunks alone, and goes on behind the key that came last: it repeats some keys
        and leaves out others.)

        :raises FutureRevision: :raises Compacted: also midway, when compaction overtakes the stream's revision
        :raises ResponseTooLarge: a whole answer, where it has to be read first
        """
        if request.count_only or request.sort_target != RangeRequest.KEY:
            found = await self.range_keys(request)
            frames = found.frames or [b""]
            for index, joined in enumerate(frames, 1):
                yield Piece([joined], index == len(frames), found.more, found.count, found.revision)
            return
        begin, end = self._layout.key_range(request.key, request.range_end)
        limit = request.limit if request.limit > 0 else EVERYTHING
        revision = newest = sent = 0
        while True:
            # a place and a snapshot for each piece: whoever waits for a slow client has neither
            async with self.turns.work(self.tenant) as work, lasting_view(self._store, self._layout, work) as view:
                if not newest:
                    newest = view.revision
                    revision = request.revision if request.revision > 0 else newest
                view.check(revision)
                frames, begin, more = await page(view, begin, end, min(limit - sent, _PIECE), revision)
                sent += len(frames)
                last = not more or sent >= limit
                rest = await self._counts.count(view, begin, end, revision) if more and last else 0
                if request.keys_only:
                    frames = without_values(frames)
                piece = Piece(frames, last=last, more=rest > 0, count=sent + rest, revision=newest)
            if piece.frames or piece.last:
                yield piece
            if piece.last:
                return

    async def _read_long(self, read: Callable[[View, Work], Awaitable[T]]) -> T:
        """Reads something that takes long, in turns with others.

        What compaction overtakes between two snapshots is read again, at last in one that is held on to, where the
        store lets one last so long: who asked for the newest revision is not told that it has been compacted.
        """
        async with self.turns.work(self.tenant) as work:
            for _ in range(_TRIES_TO_READ):
                with contextlib.suppress(errors.Compacted):
                    async with lasting_view(self._store, self._layout, work) as view:
                        view.room, view.large = self.most_response_bytes, self._large_answers
                        with contextlib.closing(view):
                            return await read(view, work)
            with self._store.snapshot() as snapshot:
                view = await View.open(snapshot, self._layout)
                view.work, view.room, view.large = work, self.most_response_bytes, self._large_answers
                with contextlib.closing(view):
                    return await read(view, work)

    async def put(self, request: PutRequest) -> PutResponse:
        """See `operations.put`."""
        return await self._writer.submit(
            lambda batch: operations.put(batch, request), [self._layout.key(request.key)], len(request.value)
        )

    async def delete_range(self, request: DeleteRangeRequest) -> DeleteRangeResponse:
        """See `operations.delete_range`. What the store does not commit at once is deleted in order of its keys, in
        steps, each at a revision of its own: the answer is of all, at the last one's."""
        rows = [] if request.range_end else [self._layout.key(request.key)]
        delete = functools.partial(operations.delete_range, request=request)
        response, position = await self._writer.submit(delete, rows)
        while position:
            step, position = await self._writer.submit(functools.partial(delete, begin=position))
            response.deleted += step.deleted
            response.prev_kvs.extend(step.prev_kvs)
            response.header.revision = step.header.revision
        return response

    async def txn(self, request: TxnRequest, size: int = 0) -> Answer:
        """See `operations.txn`. `size` in bytes bounds the batch."""
        rows = [self._layout.key(key) for key in operations.keys_read(request)]
        return await self._writer.submit(
            lambda batch: operations.txn(batch, request, self.most_response_bytes), rows, size
        )

    async def read_only_txn(self, request: TxnRequest) -> Answer:
        """See `operations.read_only_txn`. It takes no part in a batch."""
        return await self._read_long(lambda view, work: operations.read_only_txn(view, request, work, self._counts))

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

    async def compact_by(self, retention: Retention) -> int:
        """See `retention`. The revision that it was compacted at, 0 for none.

        :raises Compacted: somebody else has come first
        """
        revision = await claim(self._store, self._layout, self._served.now(), retention)
        if revision:
            await self.compact(revision, physical=False)
        return revision

    async def resume(self) -> None:
        """Goes on with a compaction that a restart has interrupted."""
        with self._store.snapshot() as snapshot:
            try:
                view = await View.open(snapshot, self._layout)
            except errors.Loading:
                return  # there is nothing to be compacted yet
            behind = await compaction.is_behind(snapshot, self._layout, view.compacted)
        if behind:
            self._compact_in_background()

    def _compact_in_background(self) -> None:
        if self._compaction is None or self._compaction.done():
            self._compaction = background.start("compaction", self._clear, self._failed, self.tenant)

    async def _clear(self) -> None:
        """Clears in steps; in smaller ones where the store does not commit one in time."""
        more = True
        with contextlib.suppress(errors.TenantClosed):  # it goes on when the tenant is served again
            while more:
                try:
                    more = await self._writer.submit(functools.partial(compaction.clear_step, most=self._step))
                except errors.EtcdError:
                    self._step = max(1, self._step // 2)
                    raise
                self._step = min(self._step + 1 + self._step // 16, compaction.STEP)

    # watches

    def create_watch_instance(self) -> WatchInstance[Watcher]:
        """A watch instance, for one stream of a client."""
        instance = Instance(self.watches)
        self._instances[instance] = instance
        return instance

    def delete_watch_instance(self, instance: WatchInstance[Any]) -> None:
        """Ends a watch instance with all its watches, a lot of them in the background."""
        own = self._instances.pop(instance, None)
        if own is not None:
            own.cancel_all()

    # leases

    async def grant_lease(self, lease_id: int, ttl: int) -> tuple[lease.Grant, int]:
        """See `lease.grant`; with the revision at which it was served."""

        async def grant(batch: Batch) -> tuple[lease.Grant, int]:
            return await lease.grant(batch, self.keyspace, lease_id, ttl, self._served.latest()), batch.revision

        granted, revision = await self._writer.submit(grant)
        self._granted(granted)
        self._report(Leased("granted", 1, granted.ttl))
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
        self._report(Leased("renewed", sum(grant is not None for grant in found)))
        return found, revision

    async def _store_renewals(self, leases: Sequence[int]) -> list[lease.Grant | None]:
        rows = [self._layout.lease(lease_id) for lease_id in leases]
        return await self._writer.submit(
            lambda batch: lease.renew(batch, self.keyspace, leases, self._served.latest()), rows
        )

    async def revoke_lease(self, lease_id: int) -> int:
        """See `lease.revoke`; the revision at which it was served. What the store does not commit at once is deleted in
        steps, which go on if this daemon ends: the lease is gone, and due, from the first one on."""

        async def revoke(batch: Batch, *, is_first: bool) -> tuple[bool, int]:
            now = self._served.latest()
            return await lease.revoke(batch, self.keyspace, lease_id, now, is_first=is_first), batch.revision

        is_done, revision = await self._writer.submit(functools.partial(revoke, is_first=True))
        while not is_done:
            is_done, revision = await self._writer.submit(functools.partial(revoke, is_first=False))
        return revision

    async def expire_leases(self, due: Sequence[lease.Due]) -> int:
        """See `lease.expire`. What the store cannot commit at once is expired in steps."""
        due = due[:_MOST_KEYS_EXPIRED]
        rows = [served_row(self._layout.shared), *(self._layout.lease(lease_id) for lease_id, _ in due)]

        async def expire(batch: Batch, most_keys: int, *, whole: bool) -> int:
            await self._leave_to_writer(batch, due)
            return await lease.expire(batch, self.keyspace, due, self._served, most_keys, whole=whole)

        most_keys = _MOST_KEYS_EXPIRED
        try:
            return await self._writer.submit(
                functools.partial(expire, most_keys=most_keys, whole=True), rows, unasked=True
            )
        except errors.RequestTooLarge:
            while True:
                most_keys //= 2
                try:
                    return await self._writer.submit(
                        functools.partial(expire, most_keys=most_keys, whole=False), rows, unasked=True
                    )
                except errors.RequestTooLarge:
                    if most_keys == 1:
                        raise

    async def _leave_to_writer(self, batch: Batch, due: Sequence[lease.Due]) -> None:
        """Leaves leases to the daemon that writes for the tenant, which finds them too. Long batches of others would
        only be evaluated again and again beside its own. What it has not expired for a while is expired here.

        :raises LeftToWriter:
        """
        if self._claim is not None and self._served.now() - due[0][1] < _LEFT_TO_WRITER_MS:
            if self._claim.is_anothers(await batch.transaction.get(self._layout.writer)):
                raise LeftToWriter

    async def find_lease(self, lease_id: int, *, keys: bool) -> tuple[lease.Grant | None, int, list[bytes], int]:
        """A lease's grant (None: no such lease), the seconds it has left, its keys if they are asked for, and the
        newest revision."""
        attached: list[bytes] = []
        async with contextlib.AsyncExitStack() as held:
            # its turn comes before the snapshot, which is not to be held while it waits
            work = await held.enter_async_context(self.turns.work(self.tenant)) if keys else None
            snapshot = held.enter_context(self._store.snapshot())
            view = await View.open(snapshot, self._layout)
            granted = await lease.read_grant(snapshot, self._layout, lease_id)
            since = await served_since(snapshot, self._layout.shared)
            if work is not None and granted is not None:
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
            revision, compacted, usage, raised, claim = await snapshot.get_many(
                [layout.revision, layout.compacted, layout.usage, layout.alarms, layout.writer]
            )
        stored_bytes, keys = unpack_usage(usage)
        return Status(
            unpack_revision(revision, FIRST_REVISION),
            stored_bytes,
            keys,
            alarms.unpack(raised),
            unpack_revision(compacted, NEVER),
            0 if claim is None else unpack_claim(claim)[0],
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
        """See `hashing.hash_at`; revision 0 is the newest. Waits for compaction, of which etcd's hash sees nothing.

        :raises FutureRevision: :raises Compacted: :raises TimedOut: it was compacted again and again
        """
        for _ in range(_TRIES):
            await self._cleared()
            try:
                async with (
                    self.turns.work(self.tenant) as work,
                    lasting_view(self._store, self._layout, work) as view,
                ):
                    if not await compaction.is_behind(view.source, self._layout, view.compacted):
                        return await hashing.hash_at(view, revision)
            except hashing.Overtaken:
                continue
            except errors.Compacted:
                if revision:
                    raise
        raise errors.TimedOut

    async def _cleared(self) -> None:
        """Returns once there was nothing left to be cleared."""
        with self._store.snapshot() as snapshot:
            view = await View.open(snapshot, self._layout)
            behind = await compaction.is_behind(snapshot, self._layout, view.compacted)
        if behind:
            self._compact_in_background()
        if self._compaction is not None:
            await asyncio.shield(self._compaction)

    async def read_contents(self, read: Callable[[View, Work], Awaitable[T]]) -> T:
        """Has all that the tenant has at one revision read (see `contents`), with little else waiting for it.

        `read` may be called again, with a view of another revision: it then has to begin anew. What compaction has
        overtaken twice is read in one snapshot that is held on to, where the store lets one last so long. In the view
        the log begins at the compacted revision: compaction is waited for, since it keeps what is read.

        :raises SnapshotExpired: it does not
        :raises TimedOut: it was compacted again and again
        """

        async def read_cleared(view: View, work: Work) -> T:
            if await compaction.is_behind(view.source, self._layout, view.compacted):
                raise hashing.Overtaken
            return await read(view, work)

        for _ in range(_TRIES):
            await self._cleared()
            with contextlib.suppress(hashing.Overtaken):
                return await self._read_long(read_cleared)
        raise errors.TimedOut

    @contextlib.asynccontextmanager
    async def loading(self, compacted: int) -> AsyncIterator[Loader]:
        """Lets the tenant, if it is empty, be filled with what was compacted at a revision, see `loading`.

        :raises LoadingElsewhere: ABORTED, that is under way already
        """
        if self._is_loading:
            raise errors.LoadingElsewhere
        self._is_loading = True
        try:
            async with self.turns.work(self.tenant) as work:
                yield Loader(self._store, self._layout, self.keyspace, self._served, work, compacted)
        finally:
            self._is_loading = False
        revision = await self.revision()
        self.watches.publish(revision, revision, [])  # who has watched the empty tenant
        await self.resume()

    @property
    def waiting_writes(self) -> int:
        """The writes that wait to be taken into a batch."""
        return self._writer.waiting

    async def close(self) -> None:
        """Waits for the writes under way."""
        if self._compaction is not None:
            self._compaction.cancel()
        await self._writer.drain()
        await self.watches.close()

    async def retire(self, error: type[errors.TenantClosed]) -> None:
        """The same, once it serves no longer. Whoever still has it is refused: another may take its place."""
        self._writer.refusal = error
        await self.close()

"""Loading: a tenant that is empty is filled with what another etcd has, every change at its own revision.

That takes many transactions. While it lasts, or once it was interrupted, the row of the tenant's revision holds a mark
in place of a revision (`layout.LoadingMark`), so nothing serves the tenant, on whatever daemon, and nothing that was
evaluated before can be committed. The last transaction puts the revision there: before it there is no tenant, behind it
there is all of it. What was interrupted is cleared when it is begun again, or for good by `clear`.

    begin     a mark, which keeps everybody else out; then a look whether there is something; a mark that says that
              what is stored is no tenant's. Each is a transaction: what an empty tenant has (a lease) can come up to
              the first, and is not lost
    grant     leases, which do not run out yet
    add       changes in the order of their revisions, each on what those before it have left; as many as a step takes
    hashed    what is stored, as etcd's hash, to be compared with that of what was to be loaded
    finish    leases begin to run, and the revision is set

A step is a transaction of at most some hundred rows and about a mebibyte, unless a single change is larger. Between
steps the work gives way, and no more than a step is held.
"""

import functools
import secrets
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Protocol, TypeVar, runtime_checkable

from fetch import errors
from fetch.engine import alarms, hashing
from fetch.engine.alarms import Alarms
from fetch.engine.batch import pack_usage
from fetch.engine.layout import FIRST_REVISION, NEVER, Layout, LoadingMark, pack_revision, pack_sub, unpack_revision
from fetch.engine.lease import Grant, slack
from fetch.engine.reads import lasting_view
from fetch.engine.records import StoredEvent, delete_event, key_value, mod_revision_of, put_event
from fetch.engine.served import ServedTime
from fetch.engine.turns import Work
from fetch.stores.protocol import Store
from fetch.stores.transaction import Transaction

T = TypeVar("T")

_PREFETCHED = 32
_MOST_BYTES = 1 << 20
_MOST_CHANGES = 256
"""Changes in a step. Each is four rows at most; the store's one writer is held for them."""

_LEASES = 200
_CLEARED = 500
_SECOND = 1000
# what leases are given besides, so that none runs out between its being queued and the end of loading
_LEEWAY = 5 * _SECOND
_LEEWAY_PER_LEASE = 2


@dataclass(frozen=True, slots=True)
class Change:
    """A change of a key: what it was put to, as a frame, or None if it was deleted. `lease` is the put's."""

    revision: int
    sub: int
    key: bytes
    stored: bytes | None
    lease: int = 0


@dataclass(frozen=True, slots=True)
class Granted:
    """A lease: its time to live, and how much of it is left, in seconds."""

    lease: int
    ttl: int
    remaining: int


@runtime_checkable
class Loadable(Protocol):
    """An engine that can be filled."""

    def loading(self, compacted: int) -> AbstractAsyncContextManager["Loader"]:
        """See `StoredEngine`."""


class Loader:
    """Fills one tenant, once. `keys` and `stored_bytes` are what it has so far."""

    def __init__(
        self, store: Store, layout: Layout, keyspace: str, served: ServedTime, work: Work, compacted: int
    ) -> None:
        """`compacted` is the revision that what is to be loaded was compacted at, -1: never. There is no log below it.

        `work` is what all of it is part of.
        """
        self.keys = self.stored_bytes = 0
        self._store = store
        self._layout = layout
        self._keyspace = keyspace
        self._served = served
        self._work = work
        self._compacted = compacted
        self._leases = 0
        self._mark = LoadingMark(has_begun=False, loader=secrets.token_bytes(16)).pack()

    async def begin(self) -> None:
        """Makes the tenant this loader's, and clears what an earlier one has left behind.

        :raises NotEmpty: FAILED_PRECONDITION, nothing has changed then
        """
        layout = self._layout

        async def take(transaction: Transaction) -> bool:
            stored = await transaction.get_for_update(layout.revision)
            mark = LoadingMark.unpack(stored)
            if mark is None and unpack_revision(stored, FIRST_REVISION) != FIRST_REVISION:
                raise errors.NotEmpty
            transaction.set(layout.revision, self._mark)
            return mark is not None and mark.has_begun

        mine = LoadingMark.unpack(self._mark)
        assert mine is not None  # noqa: S101  it was made as one
        has_remains = await self._store.transact(take)
        if not has_remains and await self._has_something():
            await self._step(self._leave_at_first)
            raise errors.NotEmpty
        begun = LoadingMark(has_begun=True, loader=mine.loader).pack()
        await self._step(functools.partial(self._set_mark, mark=begun))
        self._mark = begun
        await self._clear_rows()

    async def grant(self, leases: Sequence[Granted]) -> None:
        """Stores leases. What is left of their time is kept where its end will be, which `finish` finds out."""
        for first in range(0, len(leases), _LEASES):

            async def store(
                transaction: Transaction, page: Sequence[Granted] = leases[first : first + _LEASES]
            ) -> None:
                for it in page:
                    left = Grant(it.lease, it.ttl, it.remaining * _SECOND)
                    transaction.set(self._layout.lease(it.lease), left.pack())

            await self._step(store)
        self._leases += len(leases)

    async def add(self, changes: Sequence[Change]) -> None:
        """Stores changes, which come behind all those before them."""
        at = 0
        while at < len(changes):
            page = changes[at : at + _MOST_CHANGES]
            taken, keys, size = await self._step(functools.partial(self._store_changes, changes=page))
            at += taken
            self.keys += keys
            self.stored_bytes += size

    async def hashed(self, revision: int) -> int:
        """The hash of what has been loaded, see `hashing.hash_contents`. `revision` is the last one."""
        fixed = revision, self._compacted
        async with lasting_view(self._store, self._layout, self._work, fixed) as view:
            return await hashing.hash_contents(view)

    async def finish(self, revision: int, compacted: int, raised: Alarms) -> None:
        """Makes a tenant of what has been loaded, at a revision.

        `compacted` may be above that of what was loaded: its log is cleared as after any compaction.
        """
        layout = self._layout
        await self._queue_leases()

        async def finish(transaction: Transaction) -> None:
            if raised:
                transaction.set(layout.alarms, alarms.pack(raised))
            if compacted != NEVER:
                transaction.set(layout.compacted, pack_revision(compacted))
            transaction.set(layout.usage, pack_usage(self.stored_bytes, self.keys))
            transaction.set(layout.revision, pack_revision(revision))

        await self._step(finish)

    async def clear(self) -> None:
        """Clears all that has been stored: the tenant is as if nobody had ever used its name."""
        # a step whose caller was cancelled may still be on its way: behind another mark it cannot be committed any more
        mark = LoadingMark(has_begun=True, loader=secrets.token_bytes(16)).pack()
        await self._step(functools.partial(self._set_mark, mark=mark))
        self._mark = mark
        await self._clear_rows()
        await self._step(self._leave_at_first)

    # steps: transactions that are committed only as long as the tenant is this loader's

    async def _step(self, body: Callable[[Transaction], Awaitable[T]]) -> T:
        """:raises LoadingElsewhere: the tenant is another loader's by now"""

        async def guarded(transaction: Transaction) -> T:
            if await transaction.get_for_update(self._layout.revision) != self._mark:
                raise errors.LoadingElsewhere
            transaction.pause = self._work.pause
            return await body(transaction)

        result = await self._store.transact(guarded)
        await self._work.give_way()
        return result

    async def _set_mark(self, transaction: Transaction, mark: bytes) -> None:
        transaction.set(self._layout.revision, mark)

    async def _leave_at_first(self, transaction: Transaction) -> None:
        """The tenant is at its first revision again."""
        transaction.set(self._layout.revision, pack_revision(FIRST_REVISION))

    async def _has_something(self) -> bool:
        """Whether the tenant has a key, a lease or an alarm. Nothing of it can change any more: the mark is there."""
        layout = self._layout
        with self._store.snapshot() as snapshot:
            raised = await snapshot.get(layout.alarms)
            for begin, end in layout.contents:
                rows, _ = await snapshot.get_range(begin, end, 1)
                if rows:
                    return True
        return bool(raised)

    async def _clear_rows(self) -> None:
        """Clears everything but the mark and what extensions keep, in steps."""
        layout = self._layout
        while await self._step(self._clear_leases):
            pass
        for begin, end in ((layout.prefix, layout.revision), (layout.revision + b"\x00", layout.extensions)):

            async def clear(transaction: Transaction, begin: bytes = begin, end: bytes = end) -> bool:
                rows, more = await transaction.get_range(begin, end, _CLEARED)
                if rows:
                    transaction.clear_range(begin, rows[-1][0] + b"\x00")
                return more

            while await self._step(clear):
                pass

    async def _clear_leases(self, transaction: Transaction) -> bool:
        """Clears some leases, and their places in the queue that all tenants share."""
        layout = self._layout
        rows, more = await transaction.get_range(layout.leases, layout.leases_end, _LEASES)
        for row, stored in rows:
            granted = Grant.unpack(layout.unpack_lease(row), stored)
            transaction.clear(layout.expiry(granted.expires, granted.lease))
            transaction.clear(row)
        return more

    async def _queue_leases(self) -> None:
        """Lets the leases' time begin."""
        layout, begin, more = self._layout, self._layout.leases, True
        keyspace = self._keyspace.encode()
        while more:

            async def queue(transaction: Transaction, begin: bytes = begin) -> tuple[bytes, bool]:
                rows, more = await transaction.get_range(begin, layout.leases_end, _LEASES)
                now = self._served.latest() + _LEEWAY + self._leases * _LEEWAY_PER_LEASE
                for row, stored in rows:
                    left = Grant.unpack(layout.unpack_lease(row), stored)
                    granted = Grant(left.lease, left.ttl, now + left.expires + slack(left.ttl))
                    transaction.set(row, granted.pack())
                    transaction.set(layout.expiry(granted.expires, granted.lease), keyspace)
                return (rows[-1][0] + b"\x00" if rows else begin), more

            begin, more = await self._step(queue)

    async def _store_changes(self, transaction: Transaction, changes: Sequence[Change]) -> tuple[int, int, int]:
        """Stores changes until they are enough for a step: how many, and how many keys and bytes more there are."""
        layout = self._layout
        taken = keys = size = written = 0
        for first in range(0, len(changes), _PREFETCHED):
            page = changes[first : first + _PREFETCHED]
            rows = [layout.key(change.key) for change in page]
            rows += [layout.lease(change.lease) for change in page if change.lease]
            # of what this transaction has written itself the stored value is not looked at
            await transaction.prefetch(rows)
            for change in page:
                more_keys, more_bytes, event_bytes = await self._store_change(transaction, change)
                keys, size = keys + more_keys, size + more_bytes
                written += event_bytes + len(change.stored or b"")
                taken += 1
                if written >= _MOST_BYTES:
                    return taken, keys, size
            await self._work.pause()
        return taken, keys, size

    async def _store_change(self, transaction: Transaction, change: Change) -> tuple[int, int, int]:
        """Stores a change as the operation chain would have: how many keys and bytes more that is, and the bytes of its
        event."""
        layout, key, stored = self._layout, change.key, change.stored
        previous = await transaction.get(layout.key(key))
        if stored is None:
            transaction.clear(layout.key(key))
        else:
            transaction.set(layout.key(key), stored)
        await self._attach(transaction, change, previous)
        event = b""
        if change.revision >= self._compacted:
            event = await self._log(transaction, change, previous)
        elif change.sub:
            transaction.set(layout.sub(key), layout.pack_kept_sub(change.revision, change.sub))
        elif previous is not None:
            transaction.clear(layout.sub(key))
        before = 0 if previous is None else len(key) + len(previous)
        now = 0 if stored is None else len(key) + len(stored)
        return (stored is not None) - (previous is not None), now - before + len(event), len(event)

    async def _attach(self, transaction: Transaction, change: Change, previous: bytes | None) -> None:
        """Moves the key between leases. One that there is not has no keys, whatever they say."""
        layout, key = self._layout, change.key
        before = 0 if previous is None else key_value(previous).lease
        if before == change.lease:
            return
        if before:
            transaction.clear(layout.attachment(before, key))
        if change.lease and await transaction.get(layout.lease(change.lease)) is not None:
            transaction.set(layout.attachment(change.lease, key), b"")

    async def _log(self, transaction: Transaction, change: Change, previous: bytes | None) -> bytes:
        """Appends the event to the log; see `interceptors/transaction/events.py`."""
        layout, key, revision, sub = self._layout, change.key, change.revision, change.sub
        if previous is not None and mod_revision_of(previous) == revision:
            # the same key twice in one transaction: all its events have the value of the revision before
            previous = await self._superseded(transaction, key, revision)
        elif previous is not None:
            transaction.set(layout.history_row(key, revision), pack_sub(sub))
        event = delete_event(key, revision, previous) if change.stored is None else put_event(change.stored, previous)
        transaction.set(layout.event(revision, sub), event)
        return event

    async def _superseded(self, transaction: Transaction, key: bytes, revision: int) -> bytes | None:
        """What a revision that has been loaded has superseded of a key."""
        layout = self._layout
        sub = await transaction.get(layout.history_row(key, revision))
        if sub is None:
            return None
        encoded = await transaction.get(layout.event(revision, int.from_bytes(sub)))
        return None if encoded is None else StoredEvent.parse(revision, encoded).previous()

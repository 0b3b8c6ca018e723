"""Compaction: reads below a revision fail at once, and what only they could see is cleared in the background.

The log of events below the compacted revision is walked from its head; what each event superseded is no longer
reachable, so its history row goes with it. Each step is a bounded write in the tenant's batches. The head of the log
is the only state: a walk that was interrupted goes on from there. The compacted revision's own events stay, since a
watch may start there (etcd: `server/storage/mvcc/watchable_store.go`).

What only the log tells and etcd keeps as long as the key is not changed again is the sub: which of the changes of its
revision a change is. It is kept where it is not 0, which takes a transaction with several changes.
"""

from fetch import errors
from fetch.engine.batch import Batch
from fetch.engine.layout import Layout, pack_revision
from fetch.engine.records import StoredEvent
from fetch.stores.transaction import Source

STEP = 500
"""Events that are cleared at once."""


async def compact(batch: Batch, revision: int) -> int:
    """Makes `revision` the oldest that can be read, and returns the tenant's newest.

    :raises Compacted: it is already :raises FutureRevision: there is no such revision yet
    """
    if revision <= batch.compacted:
        raise errors.Compacted
    if revision > batch.revision:
        raise errors.FutureRevision
    batch.compacted = revision
    batch.transaction.set(batch.layout.compacted, pack_revision(revision))
    return batch.revision


async def clear_step(batch: Batch, most: int = STEP) -> bool:
    """Clears the head of what compaction has left behind, at most so many events; whether there may be more."""
    layout, transaction = batch.layout, batch.transaction
    if batch.compacted <= 0:
        return False
    rows, more = await transaction.get_range(layout.events, layout.event(batch.compacted), most)
    # none, where nobody sends such transactions, which Kubernetes does not
    kept, _ = await transaction.get_range(layout.subs, layout.subs_end, 1)
    keeps_subs = bool(kept)
    for row, encoded in rows:
        event = StoredEvent.parse(layout.unpack_event(row), encoded)
        if event.previous() is not None:
            transaction.clear(layout.history_row(event.key, event.revision))
        sub = layout.unpack_event_sub(row)
        if sub and not event.deleted:
            transaction.set(layout.sub(event.key), layout.pack_kept_sub(event.revision, sub))
            keeps_subs = True
        elif keeps_subs and not event.created:
            transaction.clear(layout.sub(event.key))
        batch.stored_bytes -= len(encoded)
        if batch.work.is_spent():
            await batch.work.give_way()
    if rows:
        transaction.clear_range(layout.events, rows[-1][0] + b"\x00")
    return more


async def is_behind(source: Source, layout: Layout, compacted: int) -> bool:
    """Whether compaction has something left to clear."""
    if compacted <= 0:
        return False
    rows, _ = await source.get_range(layout.events, layout.event(compacted), 1)
    return bool(rows)

"""The end of the operation chain: a mutation is written."""

from fetch.engine.batch import Mutation
from fetch.engine.records import frame, key_value


async def apply(mutation: Mutation) -> None:
    """Stores a put's KeyValue at the batch's revision, or removes a deleted one, and moves the key between leases."""
    batch, key = mutation.batch, mutation.key
    transaction, layout = batch.transaction, batch.layout
    previous = None if mutation.previous is None else key_value(mutation.previous)
    if mutation.kind == "put":
        create_revision, version = (batch.revision, 1) if previous is None else (
            previous.create_revision, previous.version + 1
        )  # fmt: skip
        mutation.record = frame(key, mutation.value, create_revision, batch.revision, version, mutation.lease)
        transaction.set(layout.key(key), mutation.record)
    else:
        transaction.clear(layout.key(key))
    before = 0 if previous is None else previous.lease
    if before != mutation.lease:
        if before:
            transaction.clear(layout.attachment(before, key))
        if mutation.lease:
            transaction.set(layout.attachment(mutation.lease, key), b"")

"""Usage: counts the bytes and keys that a tenant has stored.

What counts is the current KeyValue of each key with its key, and the log of events with the previous values that it
keeps. Compaction gives back what it clears of the log.
"""

from fetch.chain import ProceedMutation, Setup
from fetch.engine.batch import Mutation


class Usage:
    """Adds what a mutation stores to `batch.stored_bytes` and `batch.keys`."""

    after = ("previous",)

    def __init__(self, setup: Setup) -> None:
        """Has no settings."""

    async def intercept(self, mutation: Mutation, proceed: ProceedMutation) -> None:
        """Counts when the rest of the chain has made the record and the event."""
        await proceed(mutation)
        batch = mutation.batch
        before = 0 if mutation.previous is None else len(mutation.key) + len(mutation.previous)
        now = 0 if mutation.record is None else len(mutation.key) + len(mutation.record)
        batch.stored_bytes += now - before + len(mutation.event)
        batch.keys += (mutation.record is not None) - (mutation.previous is not None)

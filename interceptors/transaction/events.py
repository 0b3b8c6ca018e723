"""Events: appends each mutation to the tenant's log, from which watches are served."""

from fetch.chain import ProceedMutation, Setup
from fetch.engine.batch import Mutation
from fetch.engine.layout import pack_sub
from fetch.engine.records import StoredEvent, delete_event, put_event


class Events:
    """Stores the event and, where it supersedes a value, the history row that leads to it."""

    after = ("previous",)

    def __init__(self, setup: Setup) -> None:
        """Has no settings."""

    async def intercept(self, mutation: Mutation, proceed: ProceedMutation) -> None:
        """The event is told to watchers after the commit."""
        await proceed(mutation)
        batch = mutation.batch
        transaction, layout, key = batch.transaction, batch.layout, mutation.key
        previous, revision, sub = mutation.previous, batch.revision, batch.sub
        if mutation.record is not None:
            mutation.event = put_event(mutation.record, previous)
            event = StoredEvent(revision, key, mutation.event, len(mutation.record), deleted=False)
        elif previous is not None:
            mutation.event = delete_event(key, revision, previous)
            event = StoredEvent(revision, key, mutation.event, len(mutation.event) - len(previous), deleted=True)
        else:
            return
        transaction.set(layout.event(revision, sub), mutation.event)
        if previous is not None:
            transaction.set(layout.history_row(key, revision), pack_sub(sub))
        batch.events.append(event)

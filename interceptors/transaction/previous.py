"""Previous: looks up what a mutation supersedes."""

from fetch.chain import ProceedMutation, Setup
from fetch.engine.batch import Mutation


class Previous:
    """Sets `mutation.previous`, unless the operation has read it already."""

    def __init__(self, setup: Setup) -> None:
        """Has no settings."""

    async def intercept(self, mutation: Mutation, proceed: ProceedMutation) -> None:
        """Reads the key's row; it is usually one that the batch has fetched beforehand."""
        if mutation.previous is None:
            batch = mutation.batch
            mutation.previous = await batch.transaction.get(batch.layout.key(mutation.key))
        await proceed(mutation)

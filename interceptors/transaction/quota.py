"""Quota: a tenant that is full is refused what would grow it, and gets etcd's alarm; others go on.

A put is charged as etcd charges it (`server/storage/quota.go`): its key, its value and 256 bytes. Once the NOSPACE
alarm is raised the engine refuses every write that could grow, until the alarm is disarmed.

Settings: none. `--quota-backend-bytes` is what a tenant may store.
"""

from fetch import errors
from fetch.chain import ProceedMutation, Setup
from fetch.engine.alarms import NO_SPACE
from fetch.engine.batch import Mutation

_OVERHEAD = 256


class Quota:
    """Raises NoSpace and the alarm for a put that does not fit."""

    after = ("usage",)

    def __init__(self, setup: Setup) -> None:
        """Has no settings: the engine knows the limit."""

    async def intercept(self, mutation: Mutation, proceed: ProceedMutation) -> None:
        """The alarm stays although the write is undone: it belongs to the batch."""
        batch = mutation.batch
        if mutation.kind == "put" and batch.quota:
            if batch.stored_bytes + _OVERHEAD + len(mutation.key) + len(mutation.value) >= batch.quota:
                batch.alarms |= {NO_SPACE}
                raise errors.NoSpace
        await proceed(mutation)

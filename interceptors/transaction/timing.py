"""Timing: how long a mutation takes inside the storage transaction, its commit not included."""

import time

from opentelemetry import metrics

from fetch.chain import ProceedMutation, Setup
from fetch.engine.batch import Mutation


class Timing:
    """Records the duration of the rest of the chain, by kind of mutation, once it is committed."""

    def __init__(self, setup: Setup) -> None:
        """Has no settings."""
        self._durations = metrics.get_meter("fetch").create_histogram(
            "fetch.mutation.duration", unit="s", description="Time a mutation takes inside the storage transaction."
        )

    async def intercept(self, mutation: Mutation, proceed: ProceedMutation) -> None:
        """Counts an evaluation that a conflict made void as nothing."""
        started = time.perf_counter()
        await proceed(mutation)
        seconds = time.perf_counter() - started
        mutation.batch.after_commit.append(lambda: self._durations.record(seconds, {"kind": mutation.kind}))

"""Timing: how long a mutation takes inside the storage transaction, its commit not included.

Recorded by kind of mutation and, where the call is traced, as a span in its trace.

Settings: none.
"""

import functools
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from opentelemetry import trace

from fetch.chain import ProceedMutation, Setup
from fetch.engine.batch import Mutation
from fetch.observation.instruments import Distribution, Labels
from fetch.observation.telemetry import is_tracing


class Timing:
    """Times the rest of the operation chain; what a conflict made void counts as nothing."""

    def __init__(self, setup: Setup) -> None:
        self._durations = setup.instruments.histogram(
            "fetch.mutation.duration", "Time a mutation takes inside the storage transaction.", ("kind",), "s", _BOUNDS
        )
        self._tracer = trace.get_tracer("fetch")
        self._traces = is_tracing()

    async def intercept(self, mutation: Mutation, proceed: ProceedMutation) -> None:
        """Records once it is committed."""
        started = time.perf_counter()
        await proceed(mutation)
        seconds = time.perf_counter() - started
        batch, kind = mutation.batch, (mutation.kind,)
        if batch.sub == 0:
            batch.after_commit.append(functools.partial(self._durations.record, kind, seconds))
        else:
            self._add(batch.after_commit, kind, seconds)
        if self._traces:
            ended, caller, revision = time.time_ns(), batch.caller, batch.revision
            batch.after_commit.append(
                lambda: caller.run(self._trace, mutation.kind, revision, ended - int(seconds * 1e9), ended)
            )

    def _add(self, actions: list[Callable[[], None]], kind: Labels, seconds: float) -> None:
        """Records a further mutation of one write, of which there may be very many, together with those before it."""
        last = actions[-1] if actions else None
        if not isinstance(last, _Further) or last.durations is not self._durations or len(last.taken) >= _TOGETHER:
            last = _Further(self._durations)
            actions.append(last)
        last.taken.append((kind, seconds))

    def _trace(self, kind: str, revision: int, started: int, ended: int) -> None:
        """A span in the trace of the call that the mutation belongs to; runs in that call's context."""
        if trace.get_current_span().is_recording():
            attributes: dict[str, str | int] = {"fetch.mutation.kind": kind, "fetch.revision": revision}
            self._tracer.start_span(f"operation chain: {kind}", attributes=attributes, start_time=started).end(ended)


@dataclass(slots=True)
class _Further:
    """The times of several mutations of one write. An action for each would be ten objects that the cyclic collector
    walks, which took 24 ms at a time while 20,000 keys were deleted."""

    durations: Distribution
    taken: list[tuple[Labels, float]] = field(default_factory=list)

    def __call__(self) -> None:
        for kind, seconds in self.taken:
            self.durations.record(kind, seconds)


_TOGETHER = 100

_BOUNDS = tuple(0.00001 * 2**exponent for exponent in range(14))
"""10 µs to 80 ms."""

"""An event loop with a time of its own and a scheduler that a seed decides.

Nothing is waited for: when nobody can run, the time jumps to the next timer. Among those who can run the seed picks who
runs next, as long as the order is nobody's to rely on: what a callback schedules still comes behind it. So all that
happens in a run follows from its seed, and a run that fails fails again. The idea is that of FoundationDB's simulation.
"""

import asyncio
import contextlib
import random
import secrets
import time
from collections import deque
from collections.abc import Coroutine, Iterator
from typing import Any, TypeVar
from unittest import mock

T = TypeVar("T")

EPOCH = 1_800_000_000.0


class StuckError(Exception):
    """Nobody can run and no timer is set: the run would wait for ever."""


class _Ready(deque[asyncio.Handle]):
    """Who can run: not always who came first."""

    def __init__(self, chance: random.Random) -> None:
        super().__init__()
        self._chance = chance

    def popleft(self) -> asyncio.Handle:
        if len(self) > 1 and self._chance.random() < 0.5:
            self.rotate(-self._chance.randrange(len(self)))
        return super().popleft()


class _Selector:
    """Waits by moving the time."""

    def __init__(self, loop: "SimulatedLoop") -> None:
        self._loop = loop

    def select(self, timeout: float | None) -> list[Any]:
        if timeout is None:
            raise StuckError("everybody waits, and for nothing that will come")
        self._loop.pass_time(timeout)
        return []


class SimulatedLoop(asyncio.BaseEventLoop):
    """The loop. Threads, sockets and signals there are none."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        self._chance = random.Random(seed)
        self._selector = _Selector(self)
        self._ready = _Ready(self._chance)
        self._now = 0.0

    def time(self) -> float:
        """Seconds since the run began."""
        return self._now

    def pass_time(self, seconds: float) -> None:
        """Moves the time."""
        self._now += max(seconds, 0.0)

    def wall(self) -> float:
        """The wall clock's time."""
        return EPOCH + self._now

    def wall_ns(self) -> int:
        """The same in nanoseconds."""
        return int(self.wall() * 1e9)

    def busy(self) -> float:
        """The time, of which a little goes by while it is read: work takes time too."""
        self._now += self._chance.uniform(0, 0.0002)
        return self._now

    def _process_events(self, event_list: list[Any]) -> None:
        pass

    def _write_to_self(self) -> None:
        pass


@contextlib.contextmanager
def simulated(seed: int) -> Iterator[SimulatedLoop]:
    """A loop, whose time is everybody's and whose seed decides all that is left to chance."""
    loop = SimulatedLoop(seed)
    chance = random.Random(seed + 1)
    with (
        mock.patch.object(time, "monotonic", loop.time),
        mock.patch.object(time, "perf_counter", loop.busy),
        mock.patch.object(time, "time", loop.wall),
        mock.patch.object(time, "time_ns", loop.wall_ns),
        mock.patch.object(secrets, "token_bytes", chance.randbytes),
        mock.patch.object(secrets, "token_hex", lambda count: chance.randbytes(count).hex()),
        mock.patch.object(secrets, "randbits", chance.getrandbits),
        mock.patch.object(random, "uniform", chance.uniform),
    ):
        try:
            yield loop
        finally:
            asyncio.set_event_loop(None)
            loop.close()


def run(seed: int, main: Coroutine[Any, Any, T]) -> T:
    """Runs to the end of `main`; what it has started and left is cancelled."""
    with simulated(seed) as loop:
        asyncio.set_event_loop(loop)
        try:
            return loop.run_until_complete(main)
        finally:
            left = asyncio.all_tasks(loop)
            for task in left:
                task.cancel()
            if left:
                loop.run_until_complete(asyncio.gather(*left, return_exceptions=True))

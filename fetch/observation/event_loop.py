"""How late the event loop is: what holds it without giving way makes all tenants wait for as long.

A timer asks for its turn, and how late it gets it is recorded. A stretch that is shorter than the time
between two looks may fall between them; many of them do not. A look wakes an idle process, which costs up to 0.1 ms: so
the timer asks forty times a second while the loop has work, and less and less often while it has none.
"""

import asyncio
import time
from collections.abc import Iterator
from contextlib import contextmanager

from fetch.observation.instruments import Distribution, Instruments

INTERVAL_SECONDS = 0.025
IDLE_SECONDS = 0.4

BOUNDS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 60.0)
"""Up to 2 ms are the clock's and the kernel's; 10 ms is what nothing that a request asks for may take."""

_BUSY_SHARE = 0.02
"""The share of a processor above which the loop has work; a look itself takes less."""


@contextmanager
def measured(instruments: Instruments) -> Iterator[None]:
    """Measures the running event loop while the context is open."""
    lag = instruments.histogram(
        "fetch.event_loop.lag", "How late the event loop comes to what is due.", unit="s", bounds=BOUNDS
    )
    watch = _Watch(lag, asyncio.get_running_loop())
    watch.ask()
    try:
        yield
    finally:
        watch.stop()


class _Watch:
    """The timer, which asks again each time it gets its turn."""

    def __init__(self, lag: Distribution, loop: asyncio.AbstractEventLoop) -> None:
        self._lag = lag
        self._loop = loop
        self._interval = INTERVAL_SECONDS
        self._used = time.thread_time()
        self._timer: asyncio.TimerHandle | None = None

    def ask(self) -> None:
        due = self._loop.time() + self._interval
        self._timer = self._loop.call_at(due, self._look, due)

    def _look(self, due: float) -> None:
        self._lag.record((), self._loop.time() - due)
        before, self._used = self._used, time.thread_time()
        is_busy = self._used - before > _BUSY_SHARE * self._interval
        self._interval = INTERVAL_SECONDS if is_busy else min(2 * self._interval, IDLE_SECONDS)
        self.ask()

    def stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()

"""How late the event loop is, measured by itself."""

import asyncio
import time
from collections.abc import Callable
from typing import Any

import pytest

from fetch.observation import event_loop
from fetch.observation.instruments import Instruments

HELD_SECONDS = 0.25


def counts(instruments: Instruments) -> dict[float, int]:
    """How many values there are above each bound."""
    lag = instruments.histogram("fetch.event_loop.lag", "")
    cell = lag.cells.get((), [0.0] * (len(event_loop.BOUNDS) + 2))
    return {bound: int(sum(cell[number + 1 : -1])) for number, bound in enumerate(event_loop.BOUNDS)}


async def hold_the_event_loop() -> None:
    time.sleep(HELD_SECONDS)  # noqa: ASYNC251  this is what is measured
    await asyncio.sleep(0)  # what is due by now comes next
    await asyncio.sleep(0)


async def test_what_holds_the_event_loop_is_measured() -> None:
    instruments = Instruments()
    with event_loop.measured(instruments):
        await hold_the_event_loop()
    assert counts(instruments)[0.2] == 1


async def test_each_stretch_is_measured_while_the_loop_has_work(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fetch.observation.event_loop._BUSY_SHARE", -1)
    instruments = Instruments()
    with event_loop.measured(instruments):
        for _ in range(3):
            await hold_the_event_loop()
    assert counts(instruments)[0.2] == 3


class Clock:
    """An event loop's timers, in a time that passes from one to the next."""

    def __init__(self) -> None:
        self.now = 0.0
        self.due: tuple[float, Callable[[float], None]] = (0.0, lambda _: None)

    def time(self) -> float:
        return self.now

    def call_at(self, when: float, callback: Callable[[float], None], due: float) -> None:
        self.due = due, callback

    def advance(self) -> float:
        """Runs what is due next; how long it took until then."""
        before, (self.now, callback) = self.now, self.due
        callback(self.now)
        return self.now - before


@pytest.mark.parametrize(
    ("share_of_busy", "intervals"),
    [
        pytest.param(-1.0, [0.025, 0.025, 0.025, 0.025, 0.025, 0.025], id="busy"),
        pytest.param(1000.0, [0.025, 0.05, 0.1, 0.2, 0.4, 0.4], id="idle"),
    ],
)
def test_an_idle_loop_is_woken_less_and_less_often(
    monkeypatch: pytest.MonkeyPatch, share_of_busy: float, intervals: list[float]
) -> None:
    monkeypatch.setattr("fetch.observation.event_loop._BUSY_SHARE", share_of_busy)
    clock: Any = Clock()
    watch = event_loop._Watch(Instruments().histogram("lag", ""), clock)
    watch.ask()
    assert [clock.advance() for _ in intervals] == pytest.approx(intervals)


async def test_the_measurement_ends() -> None:
    instruments = Instruments()
    with event_loop.measured(instruments):
        pass
    time.sleep(2 * event_loop.INTERVAL_SECONDS)  # noqa: ASYNC251
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert sum(counts(instruments).values()) == 0

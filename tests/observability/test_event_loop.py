"""How late the event loop is, measured by itself."""

import asyncio
import time

import pytest

from fetch import event_loop
from fetch.instruments import Instruments

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
    monkeypatch.setattr("fetch.event_loop._BUSY_SHARE", -1)
    instruments = Instruments()
    with event_loop.measured(instruments):
        for _ in range(3):
            await hold_the_event_loop()
    assert counts(instruments)[0.2] == 3


async def test_the_measurement_ends() -> None:
    instruments = Instruments()
    with event_loop.measured(instruments):
        pass
    time.sleep(2 * event_loop.INTERVAL_SECONDS)  # noqa: ASYNC251
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert sum(counts(instruments).values()) == 0

"""What runs in the background goes on whatever happens to it, and ends only when it is told to."""

import asyncio
import logging
import struct
from collections.abc import Awaitable, Callable

import pytest

from fetch.engine import background
from fetch.engine.background import LONGEST_PAUSE_SECONDS, keep_running


async def fails(error: BaseException, times: int) -> tuple[list[str], list[float]]:
    """Runs something that fails so often and then returns; what was counted, and the pauses between the tries."""
    failed: list[str] = []
    pauses: list[float] = []
    tries = iter(range(times))

    async def run() -> None:
        if next(tries, None) is not None:
            raise error

    async def pause(seconds: float) -> None:
        pauses.append(seconds)

    await keep_running("a task", run, failed.append, pause)
    return failed, pauses


@pytest.mark.parametrize(
    "error", [struct.error("ubyte format requires 0 <= number <= 255"), OSError(), MemoryError(), KeyError("a")]
)
async def test_any_error_is_survived_and_counted(error: Exception) -> None:
    assert (await fails(error, 3))[0] == ["a task"] * 3


async def test_a_cancellation_of_something_else_is_an_error_like_others() -> None:
    assert (await fails(asyncio.CancelledError(), 3))[0] == ["a task"] * 3


async def test_a_failure_is_logged_with_its_traceback(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.ERROR):
        await fails(struct.error("too large"), 1)
    assert "a task failed" in caplog.text
    assert "Traceback" in caplog.text
    assert "struct.error: too large" in caplog.text


async def test_each_pause_is_twice_as_long_as_the_one_before_up_to_a_bound() -> None:
    pauses = (await fails(OSError(), 12))[1]
    assert pauses[:3] == [0.1, 0.2, 0.4]
    assert pauses[-1] == LONGEST_PAUSE_SECONDS


async def never(reached: asyncio.Event) -> None:
    reached.set()
    await asyncio.Event().wait()


async def failing(reached: asyncio.Event) -> None:
    reached.set()
    raise OSError


@pytest.mark.parametrize("body", [never, failing], ids=["while it runs", "while it pauses"])
async def test_a_task_that_is_cancelled_ends(body: Callable[[asyncio.Event], Awaitable[None]]) -> None:
    reached = asyncio.Event()
    task = background.start("a task", lambda: body(reached), lambda _: None)
    await reached.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task

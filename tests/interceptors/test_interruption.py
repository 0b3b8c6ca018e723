"""Calls that something other than their client ends."""

import asyncio
from collections.abc import Sequence

import pytest

from fetch.chain.interruption import Interruptible


class EndedError(Exception):
    pass


class StoppedError(Exception):
    pass


async def wait_in(calls: Sequence[Interruptible], inside: asyncio.Event) -> None:
    """Waits for ever, inside all of them, the first outermost."""
    if not calls:
        inside.set()
        await asyncio.Event().wait()
    with calls[0].serving():
        await wait_in(calls[1:], inside)


async def begun(*calls: Interruptible) -> asyncio.Task[None]:
    """A call that waits."""
    inside = asyncio.Event()
    task = asyncio.create_task(wait_in(calls, inside))
    await inside.wait()
    return task


async def test_the_event_ends_a_call_wherever_it_waits() -> None:
    calls = Interruptible(EndedError)
    task = await begun(calls)
    calls.end()
    with pytest.raises(EndedError):
        await task


async def test_a_call_whose_client_hangs_up_is_cancelled() -> None:
    calls = Interruptible(EndedError)
    task = await begun(calls)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert not calls


async def test_a_client_that_hangs_up_at_that_moment_goes_first() -> None:
    calls = Interruptible(EndedError)
    task = await begun(calls)
    calls.end()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


@pytest.mark.parametrize("first", ["outer", "inner"])
async def test_of_two_events_at_once_the_outer_one_is_told(first: str) -> None:
    outer, inner = Interruptible(StoppedError), Interruptible(EndedError)
    task = await begun(outer, inner)
    for event in (outer, inner) if first == "outer" else (inner, outer):
        event.end()
    with pytest.raises(StoppedError):
        await task
    assert task.cancelling() == 0


async def test_an_inner_event_is_told_through_an_outer_call_that_goes_on() -> None:
    outer, inner = Interruptible(StoppedError), Interruptible(EndedError)
    task = await begun(outer, inner)
    inner.end()
    with pytest.raises(EndedError):
        await task
    assert not outer


async def test_a_call_that_has_ended_by_itself_is_left_alone() -> None:
    calls = Interruptible(EndedError)
    with calls.serving():
        pass
    calls.end()
    await asyncio.sleep(0)


async def test_it_is_told_when_the_last_call_has_ended() -> None:
    told: list[int] = []
    calls = Interruptible(EndedError, lambda: told.append(len(calls)))
    first, second = await begun(calls), await begun(calls)
    first.cancel()
    await asyncio.wait([first])
    assert told == []
    second.cancel()
    await asyncio.wait([second])
    assert told == [0]

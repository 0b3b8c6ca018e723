"""Handlers that end without waiting cost no task; the others never notice that they had none at first."""

import asyncio
import contextvars
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any

import pytest

from fetch_transport._first_step import FirstSteps

VARIABLE: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="unset")

Run = Callable[[Coroutine[Any, Any, None]], Coroutine[Any, Any, asyncio.Task[None] | None]]


@pytest.fixture
async def run() -> AsyncIterator[Run]:
    """Starts a coroutine as the server does, from a callback of the loop."""
    loop = asyncio.get_running_loop()
    first_steps = FirstSteps(loop)

    async def start(coroutine: Coroutine[Any, Any, None]) -> asyncio.Task[None] | None:
        started: asyncio.Future[asyncio.Task[None] | None] = loop.create_future()

        def call_back() -> None:
            try:
                started.set_result(first_steps.start(coroutine))
            except BaseException as error:
                started.set_exception(error)

        loop.call_soon(call_back)
        return await started

    yield start
    first_steps.close()


async def test_a_coroutine_that_does_not_wait_needs_no_task(run: Run) -> None:
    done = []

    async def finish() -> None:
        done.append(True)

    before = asyncio.all_tasks()
    for _ in range(100):
        assert await run(finish()) is None
    assert len(done) == 100
    assert asyncio.all_tasks() == before


async def test_the_current_task_is_the_same_in_every_step(run: Run) -> None:
    seen = []

    async def look() -> None:
        for _ in range(3):
            seen.append(asyncio.current_task())
            await asyncio.sleep(0.001)

    task = await run(look())
    assert task is not None
    await task
    assert seen == [task] * 3


async def test_a_bare_yield_is_a_turn(run: Run) -> None:
    steps = []

    async def yield_twice() -> None:
        steps.append(1)
        await asyncio.sleep(0)
        steps.append(2)
        await asyncio.sleep(0)
        steps.append(3)

    task = await run(yield_twice())
    assert task is not None
    await task
    assert steps == [1, 2, 3]


async def test_a_future_that_is_already_done_is_no_hindrance(run: Run) -> None:
    async def wait() -> None:
        future = asyncio.get_running_loop().create_future()
        asyncio.get_running_loop().call_soon(future.set_result, None)
        await future

    tasks = [await run(wait()) for _ in range(10)]
    for task in tasks:
        assert task is not None
        await task


async def test_a_timeout_in_the_first_step_works(run: Run) -> None:
    outcome = []

    async def wait() -> None:
        try:
            async with asyncio.timeout(0.01):
                await asyncio.Event().wait()
        except TimeoutError:
            outcome.append("timeout")
        await asyncio.sleep(0)
        outcome.append("goes on")

    task = await run(wait())
    assert task is not None
    await task
    assert outcome == ["timeout", "goes on"]


async def test_a_timeout_that_has_already_passed_works(run: Run) -> None:
    outcome = []

    async def wait() -> None:
        try:
            async with asyncio.timeout(0):
                await asyncio.sleep(10)
        except TimeoutError:
            outcome.append("timeout")

    task = await run(wait())
    assert task is not None
    await task
    assert outcome == ["timeout"]


async def test_wait_for_and_a_task_group_in_the_first_step_work(run: Run) -> None:
    outcome = []

    async def wait() -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(asyncio.sleep(0.001))
        outcome.append(await asyncio.wait_for(asyncio.sleep(0.001, "slept"), 1))

    task = await run(wait())
    assert task is not None
    await task
    assert outcome == ["slept"]


async def test_a_failing_task_group_cancels_its_parent(run: Run) -> None:
    outcome: list[Any] = []

    async def fail() -> None:
        raise ValueError("boom")

    async def wait() -> None:
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(fail())
                await asyncio.sleep(10)
        except ExceptionGroup as error:
            outcome.extend(error.exceptions)

    task = await run(wait())
    assert task is not None
    await task
    assert [type(error) for error in outcome] == [ValueError]


@pytest.mark.parametrize("turns", [0, 1, 2, 3])
async def test_cancelling_reaches_the_coroutine_at_any_moment(run: Run, turns: int) -> None:
    outcome = []
    future = asyncio.get_running_loop().create_future()

    async def wait() -> None:
        try:
            await future
        except asyncio.CancelledError:
            outcome.append("cancelled")
            await asyncio.sleep(0.001)
            outcome.append("cleaned up")
            raise

    task = await run(wait())
    assert task is not None
    for _ in range(turns):
        await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert outcome == ["cancelled", "cleaned up"]
    assert future.cancelled()


async def test_a_coroutine_that_cancels_its_own_task_spoils_no_other(run: Run) -> None:
    outcome = []

    async def cancel() -> None:
        task = asyncio.current_task()
        assert task is not None
        task.cancel()

    async def wait() -> None:
        await asyncio.sleep(0.001)
        outcome.append("done")

    assert await run(cancel()) is None
    task = await run(wait())
    assert task is not None
    await task
    assert outcome == ["done"]


async def test_context_variables_do_not_leak_from_one_coroutine_to_the_next(run: Run) -> None:
    seen = []

    async def set_and_go() -> None:
        seen.append(VARIABLE.get())
        VARIABLE.set("set")

    async def set_and_wait() -> None:
        seen.append(VARIABLE.get())
        VARIABLE.set("set")
        await asyncio.sleep(0.001)
        seen.append(VARIABLE.get())

    assert await run(set_and_go()) is None
    task = await run(set_and_wait())
    assert task is not None
    await task
    assert await run(set_and_go()) is None
    assert seen == ["unset", "unset", "set", "unset"]


async def test_an_error_of_the_first_step_is_raised_and_spoils_no_other(run: Run) -> None:
    async def fail() -> None:
        raise ValueError("boom")

    async def finish() -> None:
        return

    with pytest.raises(ValueError, match="boom"):
        await run(fail())
    assert await run(finish()) is None


async def test_a_ready_task_that_was_cancelled_is_replaced(run: Run) -> None:
    async def wait() -> None:
        await asyncio.sleep(0.001)

    for task in asyncio.all_tasks() - {asyncio.current_task()}:
        task.cancel()
    await asyncio.sleep(0)
    task = await run(wait())
    assert task is not None
    await task

"""Runs coroutines to their first wait without a task, and gives a task only to those that wait.

Creating and scheduling a task costs more than all else that is done for a short call. So one task lies ready,
parked, and stands as the current task while a coroutine takes its first step; if that step is also its last, the task
lies ready for the next one. If it waits, the task adopts it, with what it waits for: to the coroutine it has been the
same task, in the same context, all along, so timeouts, task groups and cancellation work from the first line on.
"""

import asyncio
import contextvars
from collections.abc import Coroutine
from types import TracebackType
from typing import Any

# The documented way for others than asyncio itself to say which task runs ("Extending asyncio").
from asyncio import _enter_task, _leave_task  # isort: skip

Serving = Coroutine[Any, Any, None]


class _Carrier(Coroutine[Any, Any, None]):
    """What the ready task runs: nothing, until it adopts a coroutine that has begun."""

    __slots__ = ("_blocked", "_coroutine", "_loop", "_parked")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._coroutine: Serving | None = None
        self._blocked: Any = None
        self._parked: asyncio.Future[None] | None = None

    def adopt(self, coroutine: Serving, blocked: Any) -> None:
        """Goes on with a coroutine whose first step has yielded `blocked`: a future, or None for one turn."""
        self._coroutine = coroutine
        self._blocked = blocked
        if self._parked is not None and not self._parked.done():
            self._parked.set_result(None)

    def send(self, value: None) -> Any:
        if self._coroutine is None:
            self._parked = self._loop.create_future()
            # What `await` does to a future before a task sees it.
            self._parked._asyncio_future_blocking = True
            return self._parked
        if self._blocked is not None:
            blocked, self._blocked = self._blocked, None
            return blocked
        return self._coroutine.send(value)

    def throw(
        self,
        typ: BaseException | type[BaseException],
        val: BaseException | object = None,
        tb: TracebackType | None = None,
    ) -> Any:
        error = typ if isinstance(typ, BaseException) else typ()
        if self._coroutine is None:
            raise error
        if self._blocked is not None:
            # Cancelled between the first step and the second: what the coroutine waits for is cancelled, as the task
            # would have done, and the coroutine hears of it from there.
            blocked, self._blocked = self._blocked, None
            if isinstance(error, asyncio.CancelledError) and asyncio.isfuture(blocked) and blocked.cancel():
                return blocked
        return self._coroutine.throw(error)

    def close(self) -> None:
        if self._coroutine is not None:
            self._coroutine.close()

    def __await__(self) -> Any:
        raise TypeError("a carrier is for a task to run")


class FirstSteps:
    """Starts coroutines on one event loop."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        # A copy for comparison: the one that coroutines run in shows by it whether they have left something behind.
        self._pristine = contextvars.copy_context()
        self._prepare()

    def _prepare(self) -> None:
        self._context = self._pristine.copy()
        self._carrier = _Carrier(self._loop)
        self._task: asyncio.Task[None] = self._loop.create_task(self._carrier, context=self._context)

    def start(self, coroutine: Serving) -> "asyncio.Task[None] | None":
        """Takes the first step; the task that goes on with it, or None if there is nothing to go on with.

        To be called from a callback of the loop, outside any task. What the coroutine raises is raised here.
        """
        if self._task.cancelling():
            # Somebody has cancelled every task there is, or the last coroutine itself.
            self._prepare()
        task, context = self._task, self._context
        _enter_task(self._loop, task)
        try:
            blocked = context.run(coroutine.send, None)
        except StopIteration:
            if context != self._pristine:
                task.cancel()
                self._prepare()
            return None
        finally:
            _leave_task(self._loop, task)
        self._carrier.adopt(coroutine, blocked)
        self._prepare()
        return task

    def close(self) -> None:
        """Lets go of the task that lies ready."""
        self._task.cancel()

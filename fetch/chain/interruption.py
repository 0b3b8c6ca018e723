"""Calls that something other than their client ends, wherever they wait: the server's stop, or a certificate's end."""

import asyncio
from collections.abc import Callable
from contextlib import AbstractContextManager
from types import TracebackType


def _nothing() -> None:
    pass


class Interruptible:
    """The calls that one event ends."""

    def __init__(self, error: Callable[[], Exception], emptied: Callable[[], None] = _nothing) -> None:
        """`error` is what such a call ends with; `emptied` is told when the last call has ended."""
        self._error = error
        self._emptied = emptied
        self._serving: set[asyncio.Task[object]] = set()

    def __len__(self) -> int:
        """How many there are."""
        return len(self._serving)

    def serving(self) -> AbstractContextManager[None]:
        """Serves a call in the running task, and leaves the body of the `with` when the event comes."""
        return _Serving(self)

    def end(self) -> None:
        """The event."""
        while self._serving:
            self._serving.pop().cancel()

    def enter(self) -> "asyncio.Task[object]":
        """The running task is one of them from now on."""
        task = asyncio.current_task()
        assert task is not None  # noqa: S101  coroutines run in tasks
        self._serving.add(task)
        return task

    def leave(self, task: "asyncio.Task[object]", ended_by: type[BaseException] | None) -> None:
        """It no longer is.

        :raises Exception: the error, where the event has ended it
        """
        interrupted = task not in self._serving
        self._serving.discard(task)
        if not self._serving:
            self._emptied()
        # the client may have hung up at the same time: that goes first, as in asyncio.timeout
        if interrupted and ended_by is asyncio.CancelledError and not task.uncancel():
            raise self._error() from None


class _Serving(AbstractContextManager[None]):
    """A class with slots, and not a generator: every watch has one for as long as it is open."""

    __slots__ = ("_calls", "_task")

    def __init__(self, calls: Interruptible) -> None:
        self._calls = calls

    def __enter__(self) -> None:
        self._task = self._calls.enter()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._calls.leave(self._task, kind)

"""What a daemon does without being asked goes on whatever happens to it: a task that fails begins again.

A failure is logged with its traceback and told to whoever counts failures; the next try waits longer each time. Only
the cancellation of the task itself ends it: a `CancelledError` that comes out of something it awaited, whose task
somebody else has cancelled, is a failure like any other.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable

from fetch.errors import TimedOut
from fetch.stores.protocol import StoreUnavailable

Failed = Callable[[str], None]
"""Is told the name of a background task each time it fails."""

FIRST_PAUSE_SECONDS = 0.1
LONGEST_PAUSE_SECONDS = 30.0

logger = logging.getLogger(__name__)


class Pauses:
    """How long to wait before the next try: twice as long after each failure, from the start after a success."""

    __slots__ = ("_next",)

    def __init__(self) -> None:
        self._next = FIRST_PAUSE_SECONDS

    def after_failure(self) -> float:
        """The seconds to wait now."""
        pause = self._next
        self._next = min(pause * 2, LONGEST_PAUSE_SECONDS)
        return pause

    def succeeded(self) -> None:
        """The next failure is a first one."""
        self._next = FIRST_PAUSE_SECONDS


async def keep_running(
    name: str,
    run: Callable[[], Awaitable[None]],
    failed: Failed,
    pause: Callable[[float], Awaitable[None]],
    about: str = "",
) -> None:
    """Awaits `run()` again and again, until it returns or the task that does so is cancelled.

    `pause(seconds)` waits between tries, as `asyncio.sleep` does. A run that lasted longer than the longest pause
    counts as a success.
    """
    pauses = Pauses()
    loop = asyncio.get_running_loop()
    while True:
        began = loop.time()
        try:
            await run()
        except asyncio.CancelledError as error:
            if is_cancelled():
                raise
            report(name, error, failed, about)
        except Exception as error:  # noqa: BLE001  that nothing ends it is what this is for
            report(name, error, failed, about)
        else:
            return
        if loop.time() - began > LONGEST_PAUSE_SECONDS:
            pauses.succeeded()
        await pause(pauses.after_failure())


def start(name: str, run: Callable[[], Awaitable[None]], failed: Failed, about: str = "") -> "asyncio.Task[None]":
    """Starts a task of this name that keeps running; cancel it to end it."""
    return asyncio.create_task(keep_running(name, run, failed, asyncio.sleep, about), name=name)


def report(name: str, error: BaseException, failed: Failed, about: str = "") -> None:
    """Logs a failure, with its traceback if nobody foresaw it, and counts it. `about`: whom it concerns, a tenant for
    instance."""
    concerning = about and f" for {about}"
    if isinstance(error, StoreUnavailable | TimedOut):
        logger.warning("%s failed%s; trying again: %s", name, concerning, error)
    else:
        logger.error("%s failed%s; trying again", name, concerning, exc_info=error)
    failed(name)


def is_cancelled() -> bool:
    """Whether the running task itself has been told to end, rather than something that it awaits."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0

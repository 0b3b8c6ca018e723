"""What runs in the background for one tenant's watches: it survives whatever happens, and says so in the log."""

import asyncio
import logging
from collections.abc import Awaitable, Callable

from fetch.stores.protocol import StoreUnavailable

RETRY_SECONDS = 0.5

logger = logging.getLogger(__name__)


class Background:
    """Tasks by name, one of each at a time. `failures` counts what nobody foresaw."""

    def __init__(self, tenant: str) -> None:
        self._tenant = tenant
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self.failures = 0

    def __contains__(self, name: str) -> bool:
        return name in self._tasks

    def run(self, name: str, body: Callable[[], Awaitable[None]]) -> None:
        """Runs the body until it returns, unless it runs already. What it raises is logged, and it runs again.

        Nothing comes between its return and its name being free.
        """
        if name not in self._tasks:
            self._tasks[name] = asyncio.create_task(self._survive(name, body))

    def cancel(self, name: str) -> None:
        """Ends a task, if it runs."""
        task = self._tasks.pop(name, None)
        if task is not None:
            task.cancel()

    async def close(self) -> None:
        """Ends all tasks."""
        tasks = list(self._tasks.values())
        for name in list(self._tasks):
            self.cancel(name)
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _survive(self, name: str, body: Callable[[], Awaitable[None]]) -> None:
        while True:
            try:
                await body()
            except StoreUnavailable:
                pass
            except asyncio.CancelledError as error:
                task = asyncio.current_task()
                if task is None or task.cancelling():
                    raise
                self._failed(name, error)  # what it awaited was cancelled, not this task
            except Exception as error:  # noqa: BLE001  nothing ends it but its own cancellation
                self._failed(name, error)
            else:
                break
            await asyncio.sleep(RETRY_SECONDS)
        del self._tasks[name]

    def _failed(self, name: str, error: BaseException) -> None:
        self.failures += 1
        logger.error("%s of tenant %s failed, and is tried again", name, self._tenant, exc_info=error)

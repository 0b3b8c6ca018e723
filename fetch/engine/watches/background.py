"""What runs in the background for one tenant's watches, by name."""

import asyncio
from collections.abc import Awaitable, Callable

from fetch.engine import background
from fetch.engine.background import Failed


class Background:
    """Tasks by name, one of each at a time, which go on whatever happens to them."""

    def __init__(self, tenant: str, failed: Failed) -> None:
        self._tenant = tenant
        self._failed = failed
        self._tasks: dict[str, asyncio.Task[None]] = {}

    def __contains__(self, name: str) -> bool:
        return name in self._tasks

    def run(self, name: str, body: Callable[[], Awaitable[None]]) -> None:
        """Runs the body until it returns, unless it runs already. What it raises is logged, and it runs again.

        Nothing comes between its return and its name being free.
        """

        async def run() -> None:
            await body()
            del self._tasks[name]

        if name not in self._tasks:
            self._tasks[name] = background.start(name, run, self._failed, self._tenant)

    def report(self, name: str, error: Exception) -> None:
        """Tells of a failure of what was done at once instead."""
        background.report(name, error, self._failed, self._tenant)

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

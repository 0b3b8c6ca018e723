"""What a daemon does about the register of tenants without being asked."""

import asyncio

from fetch.engine import background
from fetch.engine.background import Failed
from fetch.tenants.clearing import Clearing
from fetch.tenants.following import Following


class Upkeep:
    """Tasks that go on whatever happens to them."""

    def __init__(self, following: Following, clearing: Clearing, failed: Failed) -> None:
        """`failed` is told of each failure."""
        self._following = following
        self._clearing = clearing
        self._failed = failed
        self._tasks: list[asyncio.Task[None]] = []

    def start(self) -> None:
        """Starts to follow the register, to note who is used, and to clear what is given up."""
        self._tasks = [
            background.start("following the register of tenants", self._following.follow, self._failed),
            background.start("noting which tenants are used", self._following.note_use, self._failed),
            background.start("clearing tenants", self._clearing.run, self._failed),
        ]

    async def close(self) -> None:
        """Ends all of it."""
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)

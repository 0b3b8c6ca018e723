"""Work that any number of small things make long, on the event loop."""

import asyncio
import time

_TURN_SECONDS = 0.001


class Pace:
    """Lets others go first, once a millisecond has been worked since they could."""

    __slots__ = ("_since",)

    def __init__(self) -> None:
        self._since = time.perf_counter()

    async def keep(self) -> None:
        """To be awaited after each small piece of work."""
        if time.perf_counter() - self._since > _TURN_SECONDS:
            await asyncio.sleep(0)
            self._since = time.perf_counter()

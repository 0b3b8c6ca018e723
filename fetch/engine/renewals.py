"""Renewals that wait are stored together, whichever streams of the tenant they came by, and answered together."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence

from fetch.engine.lease import Grant

_MOST_AT_ONCE = 256


class Renewals:
    """The renewals of one tenant in this daemon."""

    def __init__(self, store: Callable[[Sequence[int]], Awaitable[list[Grant | None]]]) -> None:
        """`store(leases)` renews leases in the tenant's next batch."""
        self._store = store
        self._waiting: dict[int, asyncio.Future[Grant | None]] = {}
        self._running: asyncio.Task[None] | None = None

    async def renew(self, leases: Sequence[int]) -> list[Grant | None]:
        """Starts the leases' times to live anew; None for each that there is not.

        :raises EtcdError: what the batch met
        """
        loop = asyncio.get_running_loop()
        futures = []
        for lease in leases:
            future = self._waiting.get(lease)
            if future is None:
                future = self._waiting[lease] = loop.create_future()
            futures.append(future)
        if self._running is None:
            self._running = asyncio.create_task(self._run())
        await asyncio.wait(futures)  # others wait for the same ones: whoever is cancelled leaves them as they are
        return [future.result() for future in futures]

    async def _run(self) -> None:
        try:
            while self._waiting:
                leases = list(self._waiting)[:_MOST_AT_ONCE]
                futures = [self._waiting.pop(lease) for lease in leases]
                try:
                    granted = await self._store(leases)
                except Exception as error:  # noqa: BLE001  those who wait are told
                    for future in futures:
                        future.set_exception(error)
                        future.exception()  # there may be nobody left to look at it
                else:
                    for future, found in zip(futures, granted, strict=True):
                        future.set_result(found)
        finally:
            self._running = None

"""Clocks that stand still until a test moves them."""

from dataclasses import dataclass

from fetch.engine.served import ServedTime
from fetch.stores.protocol import Store


@dataclass(slots=True)
class Clock:
    """The clocks of a machine, in seconds: the monotonic one, and what the wall clock is ahead of it."""

    monotonic: float = 1000.0
    ahead: float = 1_700_000_000.0
    machine: bytes = b"one machine".ljust(16)

    def wall(self) -> float:
        return self.monotonic + self.ahead

    def served(self, store: Store, workers: bytes = bytes(16)) -> ServedTime:
        """The time served, as a daemon on this machine sees it, or one of the workers that alone serve."""
        return ServedTime(store, lambda: self.monotonic, self.wall, self.machine, workers)

    async def pass_by(self, seconds: float, *daemons: ServedTime) -> None:
        """Lets time pass, during which the daemons serve."""
        for _ in range(int(seconds)):
            self.monotonic += 1
            for daemon in daemons:
                await daemon.beat()
        self.monotonic += seconds % 1
        for daemon in daemons:
            await daemon.beat()

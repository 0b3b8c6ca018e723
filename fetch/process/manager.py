"""What a daemon tells the service manager that has started it, as systemd asks for it (sd_notify(3), Type=notify).

A datagram to the socket that `NOTIFY_SOCKET` names: that it serves, that it stops, and, as often as `WATCHDOG_USEC`
asks for it, that its event loop turns. A store that is away is no reason to be started anew, so it is not looked at:
health tells of it, and of one that is lost the daemon's end. Nothing is told where no manager asks.

With workers the manager knows the process that has started them, and is told what holds for all: `relayed`.
"""

import asyncio
import contextlib
import logging
import os
import socket
import tempfile
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

READY, STOPPING, ALIVE = "READY=1", "STOPPING=1", "WATCHDOG=1"

_SOCKET, _WATCHDOG, _WATCHED = "NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID"
_WORKER = "X_FETCH_WORKER="
_TIMES = 3
"""How often the loop's turning is told in the time after which it would be missed."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Manager:
    """Whoever has started this process. `address` None: nobody who asks; `seconds` None: nobody watches the loop."""

    address: str | None = None
    seconds: float | None = None
    worker: int | None = None

    @classmethod
    def of(cls, environment: Mapping[str, str], worker: int | None = None) -> "Manager":
        """The manager as the environment names it."""
        watched = environment.get(_WATCHED, str(os.getpid())) == str(os.getpid())
        microseconds = environment.get(_WATCHDOG, "") if watched else ""
        seconds = int(microseconds) / 1e6 if microseconds.isdecimal() and int(microseconds) else None
        return cls(environment.get(_SOCKET) or None, seconds, worker)

    def tell(self, *states: str) -> None:
        """Tells what holds. That nobody hears it keeps nobody from serving."""
        if self.address is None:
            return
        told = [*states] if self.worker is None else [*states, f"{_WORKER}{self.worker}"]
        # an address that begins with @ is one without a file (unix(7))
        address = "\0" + self.address[1:] if self.address.startswith("@") else self.address
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sending:
                sending.setblocking(False)
                sending.sendto("\n".join(told).encode(), address)
        except OSError as error:
            logger.warning("the service manager at %s is not told %s: %s", self.address, states[0], error)

    @contextlib.asynccontextmanager
    async def told(self, status: str) -> AsyncIterator[None]:
        """Tells that the daemon serves, and that its loop turns while the context is open; then that it stops."""
        self.tell(READY, f"STATUS={status}")
        turning = asyncio.create_task(self._turns())
        try:
            yield
        finally:
            turning.cancel()
            self.tell(STOPPING)

    async def _turns(self) -> None:
        while self.seconds is not None and self.address is not None:
            self.tell(ALIVE)
            await asyncio.sleep(self.seconds / _TIMES)


@dataclass(slots=True)
class _Relay(asyncio.DatagramProtocol):
    """Tells the manager what all workers have told."""

    manager: Manager
    workers: int
    ready: set[bytes] = field(default_factory=set)
    alive: set[bytes] = field(default_factory=set)

    def datagram_received(self, data: bytes, _: object) -> None:
        states = data.splitlines()
        if not states or not states[-1].startswith(_WORKER.encode()):
            return
        worker, said = states[-1], states[:-1]
        if READY.encode() in said:
            before = len(self.ready)
            self.ready.add(worker)
            if before < len(self.ready) == self.workers:
                self.manager.tell(READY, f"STATUS=serving with {self.workers} workers")
        if ALIVE.encode() in said:
            self.alive.add(worker)
            if len(self.alive) == self.workers:
                self.alive.clear()
                self.manager.tell(ALIVE)


@contextlib.asynccontextmanager
async def relayed(environment: Mapping[str, str], workers: int) -> AsyncIterator[dict[str, str]]:
    """The environment for workers: what they tell is told to this process's manager once all of them have."""
    manager = Manager.of(environment)
    if manager.address is None:
        yield dict(environment)
        return
    with tempfile.TemporaryDirectory(prefix="fetch-") as directory:  # nobody else's, as all such
        address = str(Path(directory) / "workers")
        loop = asyncio.get_running_loop()
        transport, _ = await loop.create_datagram_endpoint(
            lambda: _Relay(manager, workers), local_addr=address, family=socket.AF_UNIX
        )
        try:
            yield {name: value for name, value in environment.items() if name != _WATCHED} | {_SOCKET: address}
        finally:
            manager.tell(STOPPING)
            transport.close()

"""Ends the streams of a client when its certificate expires.

TLS looks at a certificate when a connection is made, and where a session is resumed not even then; a watch goes on for
weeks.
"""

import asyncio
import functools
from collections.abc import Callable
from contextlib import AbstractContextManager

from fetch.chain.interruption import Interruptible
from fetch.errors import CertificateExpired

_LONGEST_SECONDS = 60.0
"""How long two clocks are trusted to go alike: timers go by the monotonic one, certificates by one that can be set."""


class Expiry:
    """The streams that are open, by when they end. One timer serves all of one time, so all of a certificate."""

    def __init__(self, now: Callable[[], float]) -> None:
        """`now` tells the seconds since the Unix epoch."""
        self._now = now
        self._streams: dict[float, Interruptible] = {}
        self._timers: dict[float, asyncio.TimerHandle] = {}

    def __len__(self) -> int:
        """How many different ends there are to wait for."""
        return len(self._timers)

    def until(self, expires: float) -> AbstractContextManager[None]:
        """Serves a stream in the running task, and leaves the body at that time, wherever it waits.

        :raises CertificateExpired: it is that time
        """
        streams = self._streams.get(expires)
        if streams is None:
            streams = Interruptible(CertificateExpired, functools.partial(self._forget, expires))
            self._streams[expires] = streams
            self._wait(expires)
        return streams.serving()

    def _wait(self, expires: float) -> None:
        seconds = min(max(expires - self._now(), 0.0), _LONGEST_SECONDS)
        self._timers[expires] = asyncio.get_running_loop().call_later(seconds, self._look, expires)

    def _look(self, expires: float) -> None:
        if self._now() < expires:
            self._wait(expires)
            return
        del self._timers[expires]
        self._streams.pop(expires).end()

    def _forget(self, expires: float) -> None:
        """Waits no longer for what nobody waits for."""
        if expires in self._streams and not self._streams[expires]:
            del self._streams[expires]
            self._timers.pop(expires).cancel()

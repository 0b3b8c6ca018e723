"""Ends the streams of a client when its certificate ends: when it expires, or is found not to be trusted any more.

TLS looks at a certificate when a connection is made, and where a session is resumed not even then; a watch goes on for
weeks.
"""

import asyncio
import functools
from collections.abc import Callable
from contextlib import AbstractContextManager

from fetch.chain.interruption import Interruptible
from fetch.errors import CertificateExpired, CertificateRefused

_LONGEST_SECONDS = 60.0
"""How long two clocks are trusted to go alike: timers go by the monotonic one, certificates by one that can be set."""


class _Streams:
    """The streams of one certificate, and the timer that waits for its end."""

    __slots__ = ("expires", "open", "reason", "timer")

    def __init__(self, expires: float, emptied: Callable[[], None]) -> None:
        self.expires = expires
        self.reason = ""
        self.open = Interruptible(self._error, emptied)
        self.timer: asyncio.TimerHandle | None = None

    def _error(self) -> Exception:
        return CertificateRefused(self.reason) if self.reason else CertificateExpired()


class Expiry:
    """The streams that are open, by their certificates. One timer serves all of a certificate."""

    def __init__(self, now: Callable[[], float]) -> None:
        """`now` tells the seconds since the Unix epoch."""
        self._now = now
        self._streams: dict[bytes, _Streams] = {}

    def __len__(self) -> int:
        """How many certificates there are to wait for."""
        return len(self._streams)

    def until(self, certificate: bytes, expires: float) -> AbstractContextManager[None]:
        """Serves a stream in the running task, and leaves the body when its certificate ends, wherever it waits.

        :raises CertificateExpired: it is that time
        :raises CertificateRefused: `review` has refused it
        """
        streams = self._streams.get(certificate)
        if streams is None:
            streams = _Streams(expires, functools.partial(self._forget, certificate))
            self._streams[certificate] = streams
            self._wait(certificate, streams)
        return streams.open.serving()

    async def review(self, refusal: Callable[[bytes], str]) -> None:
        """Ends the streams of the certificates for which `refusal` has a reason: one certificate a turn of the loop."""
        for certificate in list(self._streams):
            if certificate in self._streams and (reason := refusal(certificate)):
                self._streams[certificate].reason = reason
                self._end(certificate)
            await asyncio.sleep(0)

    def _wait(self, certificate: bytes, streams: _Streams) -> None:
        seconds = min(max(streams.expires - self._now(), 0.0), _LONGEST_SECONDS)
        streams.timer = asyncio.get_running_loop().call_later(seconds, self._look, certificate)

    def _look(self, certificate: bytes) -> None:
        streams = self._streams[certificate]
        if self._now() < streams.expires:
            self._wait(certificate, streams)
        else:
            self._end(certificate)

    def _end(self, certificate: bytes) -> None:
        streams = self._streams.pop(certificate)
        if streams.timer is not None:
            streams.timer.cancel()
        streams.open.end()

    def _forget(self, certificate: bytes) -> None:
        """Waits no longer for what nobody waits for."""
        streams = self._streams.get(certificate)
        if streams is not None and not streams.open:
            del self._streams[certificate]
            if streams.timer is not None:
                streams.timer.cancel()

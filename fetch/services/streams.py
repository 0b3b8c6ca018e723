"""Calls that go on until their clients hang up: they end when the server stops."""

from contextlib import AbstractContextManager

from fetch import errors
from fetch.chain.interruption import Interruptible


class Streams:
    """The streams that are being served."""

    def __init__(self) -> None:
        self.stopping = False
        self._calls = Interruptible(errors.Stopped)

    def serving(self) -> AbstractContextManager[object]:
        """Serves a stream in the running task, and leaves the body when the server stops, wherever it waits.

        :raises Stopped: the server stops
        """
        if self.stopping:
            raise errors.Stopped
        return self._calls.serving()

    def stop(self) -> None:
        """Ends all streams, and those that are still to come."""
        self.stopping = True
        self._calls.end()

"""Calls that go on until their clients hang up: they end when the server stops."""

import asyncio
import contextlib
from collections.abc import Iterator

from fetch import errors


class Streams:
    """The streams that are being served."""

    def __init__(self) -> None:
        self.stopping = False
        self._serving: set[asyncio.Task[None]] = set()

    @contextlib.contextmanager
    def serving(self) -> Iterator[None]:
        """Serves a stream in the running task, and leaves the body when the server stops, wherever it waits.

        :raises Stopped: the server stops
        """
        if self.stopping:
            raise errors.Stopped
        task = asyncio.current_task()
        assert task is not None  # noqa: S101  coroutines run in tasks
        self._serving.add(task)
        try:
            yield
        except asyncio.CancelledError:
            # the client may have hung up at the same time: that goes first, as in asyncio.timeout
            if task not in self._serving and not task.uncancel():
                raise errors.Stopped from None
            raise
        finally:
            self._serving.discard(task)

    def stop(self) -> None:
        """Ends all streams, and those that are still to come."""
        self.stopping = True
        while self._serving:
            self._serving.pop().cancel()

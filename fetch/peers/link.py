"""The way to another daemon, from the one whose clients' writes go there: what waits is sent together, answers as they
come.

A write that was handed to the channel has an unknown fate until it is answered. One that was not has none: its sender
writes it itself. The other side says something every second, so a link over which nothing comes any more breaks.
"""

import asyncio
import contextlib
import itertools
import logging
from collections.abc import Awaitable, Callable

from fetch.peers.channels import Channel, ChannelClosed
from fetch.v1 import peers_pb2

CONNECT_SECONDS = 1.0
SILENT_SECONDS = 3.0
FIRST_PAUSE_SECONDS = 0.5
LONGEST_PAUSE_SECONDS = 10.0
_MOST_BYTES = 1 << 20
_MOST_WRITES = 256

logger = logging.getLogger(__name__)


class NotTaken(Exception):  # noqa: N818  the sender writes it itself
    """Nothing took place, and nothing will."""


class Unanswered(Exception):  # noqa: N818
    """The write was sent, and whether it took place is not known."""


class Link:
    """The way to one daemon."""

    def __init__(
        self, origin: int, connect: Callable[[], Awaitable[Channel]], moved: Callable[[str, int], None]
    ) -> None:
        """`origin` is this daemon's name; `moved(tenant, writer)` is told of what the other says of who writes."""
        self._origin = origin
        self._connect = connect
        self._moved = moved
        self._numbers = itertools.count(1)
        self._waiting: dict[int, tuple[peers_pb2.Write, asyncio.Future[peers_pb2.Result]]] = {}
        self._sent: dict[int, asyncio.Future[peers_pb2.Result]] = {}
        self._cancelled: list[int] = []
        self._more = asyncio.Event()
        self._running: asyncio.Task[None] | None = None
        self._pause = FIRST_PAUSE_SECONDS
        self._again = 0.0
        self.is_ready = False
        self.is_broken = False
        """It could not be reached when it was last tried. Known until it has been."""

    def open(self) -> None:
        """Begins to connect, unless it does, or has tried a short while ago."""
        if self._running is None and asyncio.get_running_loop().time() >= self._again:
            self._running = asyncio.create_task(self._run(), name="link to a daemon")

    def close(self) -> None:
        """Ends it."""
        if self._running is not None:
            self._running.cancel()

    async def exchange(self, write: peers_pb2.Write) -> peers_pb2.Result:
        """Sends a write with whatever else waits; what the other side says of it.

        :raises NotTaken: :raises Unanswered:
        """
        if not self.is_ready:
            raise NotTaken
        number = write.number = next(self._numbers)
        answer: asyncio.Future[peers_pb2.Result] = asyncio.get_running_loop().create_future()
        self._waiting[number] = write, answer
        self._more.set()
        try:
            return await answer
        except asyncio.CancelledError:
            self._waiting.pop(number, None)
            if self._sent.pop(number, None) is not None:
                self._cancelled.append(number)
                self._more.set()
            raise

    async def _run(self) -> None:
        channel: Channel | None = None
        sending: asyncio.Task[None] | None = None
        try:
            async with asyncio.timeout(CONNECT_SECONDS):
                channel = await self._connect()
                first = await channel.receive()
            self.is_ready, self.is_broken = True, False
            self._pause = FIRST_PAUSE_SECONDS
            self._take(peers_pb2.Results.FromString(first))
            sending = asyncio.create_task(self._send(channel))
            while self.is_ready or self._sent:
                async with asyncio.timeout(SILENT_SECONDS):
                    message = await channel.receive()
                self._take(peers_pb2.Results.FromString(message))
        except Exception as error:  # noqa: BLE001  whatever it is, the other daemon cannot be used
            if not isinstance(error, (ChannelClosed, TimeoutError)):
                logger.warning("another daemon cannot be understood: %s", error)
            self.is_broken = True
            self._again = asyncio.get_running_loop().time() + self._pause
            self._pause = min(self._pause * 2, LONGEST_PAUSE_SECONDS)
        finally:
            self.is_ready = False
            self._running = None
            if sending is not None:
                sending.cancel()
            if channel is not None:
                channel.close()
            self._give_up()

    async def _send(self, channel: Channel) -> None:
        try:
            with contextlib.suppress(ChannelClosed):
                while True:
                    await self._more.wait()
                    self._more.clear()
                    while self._waiting or self._cancelled:
                        await channel.send(self._next_message())
        finally:
            channel.close()  # whatever it was: who receives is told by that

    def _next_message(self) -> bytes:
        """What is to be sent, no more than fits. From here on it counts as sent."""
        cancelled, self._cancelled = self._cancelled, []
        message = peers_pb2.Writes(origin=self._origin, cancelled=cancelled)
        size = 0
        while self._waiting and size < _MOST_BYTES and len(message.writes) < _MOST_WRITES:
            number, (write, answer) = next(iter(self._waiting.items()))
            del self._waiting[number]
            self._sent[number] = answer
            message.writes.append(write)
            size += write.ByteSize()
        return message.SerializeToString()

    def _take(self, message: peers_pb2.Results) -> None:
        for result in message.results:
            answer = self._sent.pop(result.number, None)
            if answer is not None and not answer.done():
                answer.set_result(result)
        for moved in message.moved:
            self._moved(moved.tenant, moved.writer)
        if message.leaving:  # the link ends when all that was sent is answered
            self.is_ready, self.is_broken = False, True
            self._again = asyncio.get_running_loop().time() + LONGEST_PAUSE_SECONDS
            self._return_unsent()

    def _return_unsent(self) -> None:
        waiting, self._waiting = self._waiting, {}
        for _, answer in waiting.values():
            if not answer.done():
                answer.set_exception(NotTaken())

    def _give_up(self) -> None:
        self._return_unsent()
        sent, self._sent = self._sent, {}
        for answer in sent.values():
            if not answer.done():
                answer.set_exception(Unanswered())

"""The network between daemons: channels that take time, break, and are held up in one direction or both.

What is sent arrives in order, if it does. A daemon that is killed resets its connections, which the other side hears of
a while later, unless nothing gets through to it. What is held up arrives when the way is free again, as TCP has it, if
the channel is still there.
"""

import asyncio
import random
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from fetch.peers.channels import Channel, ChannelClosed

HELD_SECONDS = 0.05

Serve = Callable[[Channel], Awaitable[None]]


@dataclass(slots=True)
class Network:
    """Who listens, and between whom nothing gets through: (from, to). `most_delay` in seconds."""

    chance: random.Random
    most_delay: float = 0.002
    breaks: float = 0.0
    held: set[tuple[str, str]] = field(default_factory=set)
    _listening: dict[str, Callable[[Channel], None]] = field(default_factory=dict)
    _ends: list["End"] = field(default_factory=list)

    def listen(self, name: str, accept: Callable[[Channel], None]) -> None:
        """Lets others connect to a daemon. `accept` begins to serve a channel."""
        self._listening[name] = accept

    async def connect(self, origin: str, name: str) -> "End":
        """A channel to a daemon.

        :raises ChannelClosed: there is none of that name
        """
        await asyncio.sleep(self.delay())
        while (origin, name) in self.held or (name, origin) in self.held:
            await asyncio.sleep(HELD_SECONDS)
        accept = self._listening.get(name)
        if accept is None:
            raise ChannelClosed
        near, far = End(self, origin, name), End(self, name, origin)
        near.other, far.other = far, near
        self._ends += [near, far]
        accept(far)
        return near

    def vanish(self, name: str) -> None:
        """The daemon has been killed."""
        self._listening.pop(name, None)
        for end in self._ends:
            if end.name == name:
                end.close()

    def break_between(self, one: str, other: str) -> None:
        """Resets the connections between two daemons."""
        for end in list(self._ends):
            if {end.name, end.towards} == {one, other}:
                end.reset()

    def delay(self) -> float:
        return self.chance.uniform(0.00005, self.most_delay)

    def forget(self, end: "End") -> None:
        if end in self._ends:
            self._ends.remove(end)


class End:
    """One side of a channel."""

    other: "End"

    def __init__(self, network: Network, name: str, towards: str) -> None:
        self.name = name
        self.towards = towards
        self._network = network
        self._arrived: deque[bytes] = deque()
        self._under_way: deque[bytes | None] = deque()
        self._changed = asyncio.Event()
        self._closed = False

    async def send(self, message: bytes) -> None:
        await asyncio.sleep(0)
        if self._closed:
            raise ChannelClosed
        if self._network.chance.random() < self._network.breaks:
            self.reset()  # the message is lost with it, or was the last that arrived
            if self._network.chance.random() < 0.5:
                raise ChannelClosed
            return
        self._dispatch(message)

    async def receive(self) -> bytes:
        while not self._arrived:
            if self._closed:
                raise ChannelClosed
            self._changed.clear()
            await self._changed.wait()
        return self._arrived.popleft()

    def close(self) -> None:
        if not self._closed:
            self._end()
            self._dispatch(None)

    def reset(self) -> None:
        """Breaks it. What is under way is lost, or a part of it."""
        for end in (self, self.other):
            for _ in range(self._network.chance.randint(0, len(end._under_way))):
                end._under_way.pop()
        self.close()

    def _dispatch(self, message: bytes | None) -> None:
        self._under_way.append(message)
        asyncio.get_running_loop().call_later(self._network.delay(), self._deliver)

    def _deliver(self) -> None:
        """Delivers the first that is under way: what was sent first arrives first."""
        if not self._under_way:
            return
        if (self.name, self.towards) in self._network.held:
            asyncio.get_running_loop().call_later(HELD_SECONDS, self._deliver)
            return
        message = self._under_way.popleft()
        if message is None:
            self.other._end()
        elif not self.other._closed:
            self.other._arrived.append(message)
            self.other._changed.set()

    def _end(self) -> None:
        self._closed = True
        self._changed.set()
        self._network.forget(self)

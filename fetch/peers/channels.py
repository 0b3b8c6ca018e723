"""What two daemons talk over: messages both ways, in order, until one side ends it or it breaks."""

from collections.abc import Awaitable, Callable
from typing import Protocol


class ChannelClosed(Exception):  # noqa: N818  it need not be anybody's error
    """Nothing more comes over the channel; whether what was sent last has arrived is not known."""


class Channel(Protocol):
    """One side of it."""

    async def send(self, message: bytes) -> None:
        """Sends a message; returns when there is room for the next.

        :raises ChannelClosed:
        """

    async def receive(self) -> bytes:
        """The next message.

        :raises ChannelClosed:
        """

    def close(self) -> None:
        """Ends it, for both sides."""


Connect = Callable[[str], Awaitable[Channel]]
"""Opens a channel to the daemon at a URL.

:raises ChannelClosed: there is nobody
"""

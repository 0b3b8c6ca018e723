"""Ends connections from above gRPC, which has no way to: of all that a server can say to one client, nothing makes it
connect anew but the end of its connection.

A connection is known by its client's address, as a call tells it, and found among the process's own sockets, so this
works below every transport. On Linux alone, where a process sees its descriptors in /proc.
"""

import asyncio
import contextlib
import ipaddress
import os
import re
import socket
from collections.abc import Collection
from urllib.parse import unquote

_FAREWELL_SECONDS = 0.25
"""What is under way on a connection may still leave."""
_PAUSE_SECONDS_EACH = 120e-6
"""The rest for each descriptor that was looked at, twenty times what it took: nobody can keep the daemon looking."""
_SLICE = 256
"""Descriptors that are looked at in one turn of the loop, 6 µs each."""
_DESCRIPTORS = "/proc/self/fd"
_PEER = re.compile(r"ipv[46]:\[?([^]]+?)\]?:(\d+)")

_Address = ipaddress.IPv4Address | ipaddress.IPv6Address


class Connections:
    """Ends connections a moment after it was asked to, all that have gathered at once."""

    def __init__(self) -> None:
        self._peers: set[str] = set()
        self._ending: asyncio.Task[None] | None = None

    def end_soon(self, peer: str) -> None:
        """Ends the connection from an address in gRPC's form, such as `ipv4:127.0.0.1:40000`."""
        self._peers.add(peer)
        if self._ending is None or self._ending.done():
            self._ending = asyncio.create_task(self._end())

    async def _end(self) -> None:
        while self._peers:
            # whoever comes meanwhile is of the next round, and has a farewell of its own
            peers, self._peers = self._peers, set()
            await asyncio.sleep(_FAREWELL_SECONDS)
            looked = await shut_down(peers)
            await asyncio.sleep(looked * _PAUSE_SECONDS_EACH)


async def shut_down(peers: Collection[str]) -> int:
    """Shuts down the sockets that are connected to these addresses. Looks at every descriptor; how many there are.

    Descriptors come and go between its turns: one that is new has no connection that was meant. Where they cannot be
    looked at it does nothing: the connections have no rights, open or not.
    """
    wanted: dict[int, set[_Address]] = {}
    for peer in peers:
        if (matched := _PEER.fullmatch(unquote(peer))) is not None:
            wanted.setdefault(int(matched[2]), set()).add(_canonical(matched[1]))
    looked = 0
    with contextlib.suppress(OSError), os.scandir(_DESCRIPTORS) as descriptors:
        for looked, descriptor in enumerate(descriptors, 1):
            if looked % _SLICE == 0:
                await asyncio.sleep(0)
            with contextlib.suppress(OSError), _copy(int(descriptor.name)) as connection:
                peer = connection.getpeername()
                if isinstance(peer, tuple) and _canonical(peer[0]) in wanted.get(peer[1], ()):
                    connection.shutdown(socket.SHUT_RDWR)
    return looked


def _copy(descriptor: int) -> socket.socket:
    """The same connection by a descriptor of its own: the number may be somebody else's at any moment."""
    own = os.dup(descriptor)
    try:
        return socket.socket(socket.AF_INET6, socket.SOCK_STREAM, 0, own)
    except OSError:  # it is no socket, and Python does not keep it
        os.close(own)
        raise


def _canonical(host: str) -> _Address:
    address = ipaddress.ip_address(host)
    return getattr(address, "ipv4_mapped", None) or address

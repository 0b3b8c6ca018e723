"""How worker processes that share an embedded database tell each other what has changed.

Each worker has a datagram socket; after a commit it sends the others the keys that other workers may wait for. A
datagram that finds no room is followed, as soon as there is room, by an empty one, which means that anything may have
changed: a wake-up may be for nothing, but none is lost. The sockets lie in the data directory, where nobody else can
write to them or take their place.
"""

import asyncio
import contextlib
import os
import socket
import stat
import struct
from collections.abc import Callable, Collection, Iterator

from fetch.stores.embedded.directory import DataDirectory

_LARGEST = 32 << 10
_RETRY_SECONDS = 0.002
_LENGTH = struct.Struct(">H")


class Wakes:
    """One worker's side. `heard` is called with the keys that another worker has changed, None for any key."""

    def __init__(
        self, directory: DataDirectory, worker: int, workers: int, heard: Callable[[Collection[bytes] | None], None]
    ) -> None:
        """:raises OSError: the socket cannot be made."""
        self._loop = asyncio.get_running_loop()
        self._heard = heard
        self._names = {index: directory.socket(index) for index in range(workers)}
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        mask = os.umask(stat.S_IXUSR | stat.S_IRWXG | stat.S_IRWXO)
        try:
            self._socket.bind(self._names.pop(worker))
        finally:
            os.umask(mask)
        self._behind: set[str] = set()
        self._loop.add_reader(self._socket.fileno(), self._receive)

    def tell(self, keys: Collection[bytes]) -> None:
        """Tells the other workers that the keys have changed."""
        message = b"".join(_LENGTH.pack(len(key)) + key for key in keys)
        for name in self._names.values():
            self._send(name, message if len(message) <= _LARGEST else b"")

    def close(self) -> None:
        """Lets go of the socket."""
        self._loop.remove_reader(self._socket.fileno())
        self._socket.close()

    def _send(self, name: str, message: bytes) -> None:
        if name in self._behind:
            return
        try:
            self._socket.sendto(message, name)
        except (FileNotFoundError, ConnectionRefusedError):
            return  # that worker does not run yet, or no more: it reads the database when it starts
        except OSError:  # there is no room: in its socket, or in the system's memory
            self._behind.add(name)
            self._loop.call_later(_RETRY_SECONDS, self._retry, name)

    def _retry(self, name: str) -> None:
        self._behind.discard(name)
        if self._socket.fileno() >= 0:
            self._send(name, b"")

    def _receive(self) -> None:
        with contextlib.suppress(BlockingIOError):
            while True:
                message = self._socket.recv(_LARGEST)
                self._heard(list(_keys(message)) if message else None)


def _keys(message: bytes) -> Iterator[bytes]:
    position = 0
    while position < len(message):
        (length,) = _LENGTH.unpack_from(message, position)
        position += _LENGTH.size
        yield message[position : position + length]
        position += length

"""Requests' bodies: read from the client up to a bound, and counted while they are held.

Counted for whom the certificate names, as `memory` counts what requests become behind it.
"""

import asyncio
import re
from collections import Counter

import grpc

from fetch.errors import Refused, TooManyRequests
from fetch.http.asgi import Message, Receive
from fetch.http.pace import Pace

_OF_A_TENANT = 64 << 20
_BODY_SECONDS = 60.0
"""How long a client may take to send what is not a stream."""

_STRUCTURE = re.compile(rb'["{}\[\]]')
_IN_STRING = re.compile(rb'["\\]')
_BLANK = b" \t\r\n"
_LOOKS_AT_ONCE = 64


class ClientGone(Exception):  # noqa: N818
    """There is nobody to answer."""


class Held:
    """What bodies hold, by tenant."""

    def __init__(self, most: int = _OF_A_TENANT) -> None:
        self._most = most
        self._bytes: Counter[str] = Counter()

    def hold(self, tenant: str, size: int) -> None:
        """Counts bytes.

        :raises TooManyRequests: there are too many
        """
        if self._bytes[tenant] and self._bytes[tenant] + size > self._most:
            raise TooManyRequests
        self._bytes[tenant] += size

    def free(self, tenant: str, size: int) -> None:
        """Counts them no more."""
        self._bytes[tenant] -= size
        if self._bytes[tenant] <= 0:
            del self._bytes[tenant]


class Body:
    """The body of one request."""

    def __init__(self, receive: Receive, held: Held, tenant: str, largest: int) -> None:
        """`largest` is how many bytes one value may take."""
        self._receive, self._held, self._tenant, self._largest = receive, held, tenant, largest
        self._data = bytearray()
        self._counted = self._handed_out = 0
        self._is_whole = False
        self._ended = asyncio.Event()
        self._pace = Pace()
        # where the value that is looked for goes on
        self._looked = 0
        self._depth = 0
        self._in_string = False

    async def whole(self) -> bytes:
        """All of it.

        :raises Refused: RESOURCE_EXHAUSTED, it is too large; INVALID_ARGUMENT, it does not come
        :raises ClientGone:
        """
        try:
            async with asyncio.timeout(_BODY_SECONDS):
                while not self._is_whole:
                    await self._more()
        except TimeoutError as error:
            raise Refused(grpc.StatusCode.INVALID_ARGUMENT, "the request does not come to an end") from error
        return self._take(len(self._data))

    async def next(self) -> bytes | None:
        """The next value of a stream of them, or what there is instead; None behind the last.

        :raises Refused: RESOURCE_EXHAUSTED, it is too large
        :raises ClientGone:
        """
        self._free(self._handed_out)
        self._handed_out = 0
        while True:
            end = await self._end_of_value()
            if end is None and self._is_whole and self._data:
                end = len(self._data)
            if end is not None:
                self._handed_out = end
                return self._take(end)
            if self._is_whole:
                return None
            await self._more()

    async def gone(self) -> None:
        """Returns when the client has gone, if all of the request has been read before."""
        await self._ended.wait()
        while (await self._receive())["type"] != "http.disconnect":
            pass

    def close(self) -> None:
        """Lets go of it."""
        self._free(self._counted)
        self._data = bytearray()

    def _free(self, size: int) -> None:
        self._counted -= size
        self._held.free(self._tenant, size)

    async def _more(self) -> None:
        message: Message = await self._receive()
        if message["type"] == "http.disconnect":
            raise ClientGone
        part = message.get("body", b"")
        if not message.get("more_body", False):
            self._is_whole = True
            self._ended.set()
        if len(self._data) + len(part) > self._largest:
            size = len(self._data) + len(part)
            told = f"grpc: received message larger than max ({size} vs. {self._largest})"
            raise Refused(grpc.StatusCode.RESOURCE_EXHAUSTED, told)
        self._held.hold(self._tenant, len(part))
        self._counted += len(part)
        self._data += part

    def _take(self, end: int) -> bytes:
        taken = bytes(memoryview(self._data)[:end])
        del self._data[:end]
        self._looked = self._depth = 0
        self._in_string = False
        return taken

    async def _end_of_value(self) -> int | None:
        """Where the first value ends, if it is an object or an array and all of it has come."""
        data = self._data
        if self._looked == 0:
            start = len(data) - len(data.lstrip(_BLANK))
            if start == len(data):
                self._free(start)
                data.clear()
                return None
            if data[start] not in b"{[":
                return len(data)  # no message: reading it tells why
            self._looked = start
        looked = 0
        while self._looked < len(data):
            looked += 1
            if looked % _LOOKS_AT_ONCE == 0:
                await self._pace.keep()
            found = (_IN_STRING if self._in_string else _STRUCTURE).search(data, self._looked)
            if found is None:
                self._looked = len(data)
                return None
            at, byte = found.start(), data[found.start()]
            del found  # it keeps the data from growing
            if self._in_string and byte == ord("\\"):
                if at + 1 >= len(data):
                    self._looked = at
                    return None
                self._looked = at + 2
                continue
            self._looked = at + 1
            if byte == ord('"'):
                self._in_string = not self._in_string
            elif byte in b"{[":
                self._depth += 1
            else:
                self._depth -= 1
                if self._depth <= 0:
                    return at + 1
        return None

"""A client that writes the frames of HTTP/2 itself, and reads only what it is told to."""

import socket
import ssl
import struct
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from fetch.tls import certificates
from tests.endpoints.fetch import FetchServer

DATA, HEADERS, RST_STREAM, SETTINGS = 0, 1, 3, 4
END_STREAM, END_HEADERS = 1, 4
CANCEL = 8


class Frames:
    """A connection. Requests are sent whatever becomes of them."""

    def __init__(self, connection: ssl.SSLSocket) -> None:
        self._connection = connection
        self._next = 1
        connection.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + _frame(SETTINGS, 0, 0, b""))

    def call(self, method: str, request: bytes, *, reset: bool = False) -> bytes:
        """The frames of a call with a small request, which may be reset at once."""
        stream, self._next = self._next, self._next + 2
        body = b"\0" + len(request).to_bytes(4, "big") + request
        frames = [_frame(HEADERS, END_HEADERS, stream, _headers(method)), _frame(DATA, END_STREAM, stream, body)]
        if reset:
            frames.append(_frame(RST_STREAM, 0, stream, struct.pack(">I", CANCEL)))
        return b"".join(frames)

    def send(self, calls: Sequence[bytes]) -> None:
        """Sends calls, all at once."""
        self._connection.sendall(b"".join(calls))


def _frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    return len(payload).to_bytes(3, "big") + bytes((kind, flags)) + stream.to_bytes(4, "big") + payload


def _headers(method: str) -> bytes:
    """Literals without an index, so that the server's tables stay as they are."""
    pairs = {
        b":method": b"POST",
        b":scheme": b"https",
        b":path": method.encode(),
        b":authority": b"test",
        b"te": b"trailers",
        b"content-type": b"application/grpc",
    }
    return b"".join(b"\0" + bytes((len(name),)) + name + bytes((len(value),)) + value for name, value in pairs.items())


@contextmanager
def connected(server: FetchServer, tenant: str, directory: Path) -> Iterator[Frames]:
    """A connection of a tenant; `directory` takes its certificate."""
    certificates.issue(server.endpoint.authority, tenant).write(directory, tenant)
    server.endpoint.authority.write(directory, "authority")
    context = ssl.create_default_context(cafile=str(directory / "authority.crt"))
    context.load_cert_chain(str(directory / f"{tenant}.crt"), str(directory / f"{tenant}.key"))
    context.set_alpn_protocols(["h2"])
    host, port = server.address.split(":")
    with (
        socket.create_connection((host, int(port)), timeout=30) as plain,
        context.wrap_socket(plain, server_hostname=host) as secure,
    ):
        yield Frames(secure)

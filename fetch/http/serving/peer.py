"""A connection as the application hears of it."""

import ssl
import time
from asyncio import StreamWriter
from dataclasses import dataclass
from email.utils import formatdate
from typing import Any
from urllib.parse import unquote_to_bytes

from fetch.http.asgi import Headers, Scope

_VERSIONS = {"TLSv1.2": 0x0303, "TLSv1.3": 0x0304}


@dataclass(frozen=True, slots=True)
class Peer:
    """Who is at the other end, and where it has connected to.

    `owner` is whom its connections count for: what the certificate says of its subject, or the address without one.
    """

    scheme: str
    client: tuple[str, int]
    server: tuple[str, int]
    extensions: dict[str, Any]
    owner: object

    @classmethod
    def of(cls, writer: StreamWriter) -> "Peer":
        """The peer of a connection, whose handshake is over.

        :raises OSError: it is gone
        """
        client, server = writer.get_extra_info("peername"), writer.get_extra_info("sockname")
        if not client or not server:
            raise OSError("the connection is gone")
        secured: ssl.SSLObject | None = writer.get_extra_info("ssl_object")
        if secured is None:
            return cls("http", client[:2], server[:2], {}, client[0])
        certificate = secured.getpeercert(binary_form=True)
        # from Python 3.13 on what the client has sent beside its own is told, too
        presented = getattr(secured, "get_unverified_chain", list)() or ([certificate] if certificate else [])
        subject = (secured.getpeercert() or {}).get("subject")
        tls = {
            "server_cert": None,
            "client_cert_chain": [ssl.DER_cert_to_PEM_cert(each) for each in presented],
            "client_cert_name": None,
            "client_cert_error": None,
            "tls_version": _VERSIONS.get(secured.version() or ""),
            "cipher_suite": None,
        }
        return cls("https", client[:2], server[:2], {"tls": tls}, subject or client[0])

    def scope(self, version: str, method: bytes, target: bytes, headers: Headers) -> Scope:
        """The scope of a request."""
        path, _, query = target.partition(b"?")
        if not path.startswith(b"/") and b"://" in path:  # as it is sent to a proxy
            path = b"/" + path.partition(b"://")[2].partition(b"/")[2]
        return {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.4"},
            "http_version": version,
            "method": method.decode("ascii", "replace"),
            "scheme": self.scheme,
            "path": unquote_to_bytes(path).decode("utf-8", "replace"),
            "raw_path": path,
            "query_string": query,
            "root_path": "",
            "headers": headers,
            "client": self.client,
            "server": self.server,
            "extensions": self.extensions,
        }


_date = (0, b"")


def date() -> tuple[bytes, bytes]:
    """The header that says when an answer was made; made once a second."""
    global _date  # noqa: PLW0603  a cache of one entry
    now = int(time.time())
    if _date[0] != now:
        _date = now, formatdate(now, usegmt=True).encode()
    return b"date", _date[1]

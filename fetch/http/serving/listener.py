"""Where HTTP is listened for, how many connections there may be, and how they end."""

import asyncio
import logging
import socket
import ssl
from asyncio import StreamReader, StreamWriter
from collections import Counter
from urllib.parse import urlsplit

from fetch.http.asgi import Application
from fetch.http.serving.bounds import (
    CONNECTIONS,
    CONNECTIONS_OF_A_CLIENT,
    HANDSHAKE_SECONDS,
    HEAD_SECONDS,
    IDLE_SECONDS,
    READ_BYTES,
)
from fetch.http.serving.http1 import Http1
from fetch.http.serving.http2 import Http2
from fetch.http.serving.peer import Peer

PROTOCOLS = ("h2", "http/1.1")
"""What is offered by ALPN."""

_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_KEEPALIVE = ((socket.TCP_KEEPIDLE, 60), (socket.TCP_KEEPINTVL, 10), (socket.TCP_KEEPCNT, 3))
_SHUTDOWN_SECONDS = 2.0

logger = logging.getLogger(__name__)


class Listener:
    """Serves an application."""

    def __init__(self, application: Application) -> None:
        self._application = application
        self._servers: list[asyncio.Server] = []
        self._serving: dict[asyncio.Task[None], Http1 | Http2 | None] = {}
        self._connections: Counter[object] = Counter()
        self._stopping = False

    async def start(self, url: str, context: ssl.SSLContext | None = None, *, shared: bool = False) -> None:
        """Listens; with TLS where there is a context for it. `shared`: other processes listen there too.

        :raises OSError: it cannot
        """
        parts = urlsplit(url)
        self._servers.append(
            await asyncio.start_server(
                self._connected,
                parts.hostname,
                parts.port,
                ssl=context,
                limit=READ_BYTES,
                reuse_port=shared or None,
                ssl_handshake_timeout=HANDSHAKE_SECONDS if context else None,
                ssl_shutdown_timeout=_SHUTDOWN_SECONDS if context else None,
            )
        )

    async def stop(self, grace: float = 0.0) -> None:
        """Takes no more requests, lets those that go on end within `grace` seconds, and cuts off the rest."""
        self._stopping = True
        for server in self._servers:
            server.close()
        for connection in self._serving.values():
            if connection is not None:
                connection.drain()
        tasks = [task for task in self._serving if task is not asyncio.current_task()]
        if tasks:
            await asyncio.wait(tasks, timeout=grace)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _connected(self, reader: StreamReader, writer: StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None  # noqa: S101  asyncio calls it in one
        self._serving[task] = None
        owner: object = None
        try:
            peer = Peer.of(writer)
            most, mine = CONNECTIONS, CONNECTIONS_OF_A_CLIENT
            if self._stopping or self._connections.total() >= most or self._connections[peer.owner] >= mine:
                writer.transport.abort()
                return
            owner = peer.owner
            self._connections[owner] += 1
            await self._serve(task, reader, writer, peer)
        except (OSError, TimeoutError, asyncio.IncompleteReadError):
            pass  # the client is gone, or is not heard of
        except asyncio.CancelledError:
            writer.transport.abort()  # nothing is behind this: `stop` is who cancels
        except Exception:
            logger.exception("a connection failed")
        finally:
            del self._serving[task]
            if owner is not None:
                self._connections[owner] -= 1
                if not self._connections[owner]:
                    del self._connections[owner]
            await _close(writer)

    async def _serve(self, task: "asyncio.Task[None]", reader: StreamReader, writer: StreamWriter, peer: Peer) -> None:
        connection: socket.socket = writer.get_extra_info("socket")
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for option, value in _KEEPALIVE:
            connection.setsockopt(socket.IPPROTO_TCP, option, value)
        secured: ssl.SSLObject | None = writer.get_extra_info("ssl_object")
        first, speaks_2 = b"", secured is not None and secured.selected_alpn_protocol() == "h2"
        if secured is None:
            async with asyncio.timeout(IDLE_SECONDS) as bound:
                while (first == b"" or _PREFACE.startswith(first)) and first != _PREFACE:
                    data = await reader.read(len(_PREFACE) - len(first))
                    if not data:
                        return
                    first += data
                    bound.reschedule(asyncio.get_running_loop().time() + HEAD_SECONDS)
            speaks_2 = first == _PREFACE
        serving = (Http2 if speaks_2 else Http1)(reader, writer, self._application, peer)
        self._serving[task] = serving
        if not self._stopping:
            await serving.serve(first)


async def _close(writer: StreamWriter) -> None:
    """Closes a connection, whose client may not want to hear of it."""
    writer.close()
    try:
        async with asyncio.timeout(_SHUTDOWN_SECONDS):
            await writer.wait_closed()
    except (OSError, TimeoutError):
        writer.transport.abort()
    except asyncio.CancelledError:
        writer.transport.abort()
        raise

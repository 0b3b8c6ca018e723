"""Channels between daemons over gRPC with mTLS: the service that others call, and the calls that this daemon makes.

A certificate of the peers' authority is needed on both sides. Where names are allowed, the caller's has to be one of
them; how a caller knows whom it calls is TLS's: by the host of the URL. Certificates are read anew for each
connection, and a channel ends when that of its caller does.
"""

import asyncio
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import grpc
from cryptography import x509
from cryptography.x509.oid import NameOID

from fetch.chain import Call
from fetch.errors import Refused
from fetch.peers.channels import Channel, ChannelClosed
from fetch.peers.host import Host

_METHOD = "/fetch.v1.Peers/Exchange"
_CERTIFICATE = "x509_pem_cert"
_OPTIONS = (
    ("grpc.max_receive_message_length", -1),
    ("grpc.max_send_message_length", -1),
    ("grpc.enable_retries", 0),
    # a channel of its own for each link: whether one can be reached is not to be told by an older try
    ("grpc.use_local_subchannel_pool", 1),
)


@dataclass(frozen=True, slots=True)
class Files:
    """Where certificate, key and authority are, PEM."""

    certificate: Path
    key: Path
    authority: Path


@dataclass(frozen=True, slots=True)
class Allowed:
    """The names of daemons: any of these common names, any of these DNS names; where none are told, any."""

    common_names: Collection[str] = ()
    host_names: Collection[str] = ()

    def has(self, certificate: x509.Certificate) -> bool:
        """Whether a certificate is a daemon's."""
        if not self.common_names and not self.host_names:
            return True
        names = [attribute.value for attribute in certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)]
        # one that has several names has whichever its reader likes
        return (len(names) == 1 and names[0] in self.common_names) or bool(
            set(_host_names(certificate)) & set(self.host_names)
        )


class PeerService:
    """The handlers of `fetch.v1.Peers`."""

    name = "fetch.v1.Peers"

    def __init__(self, host: Host, allowed: Allowed, now: Callable[[], float] = time.time) -> None:
        self._host = host
        self._allowed = allowed
        self._now = now

    def handlers(self) -> Mapping[str, grpc.RpcMethodHandler]:
        """The service's methods."""
        return {"Exchange": grpc.stream_stream_rpc_method_handler(self.exchange)}

    async def exchange(self, _: object, call: Call) -> None:
        """Exchange: takes another daemon's writes until it goes.

        :raises Refused: PERMISSION_DENIED, the caller is no daemon
        """
        ends = self._identify(call)
        await self._host.serve(_Served(call, lambda: self._now() < ends))

    def _identify(self, call: Call) -> float:
        """Until when the caller is a daemon."""
        pem = (call.auth_context().get(_CERTIFICATE) or [b""])[0]
        try:
            certificate = x509.load_pem_x509_certificate(pem)
            ends = certificate.not_valid_after_utc.timestamp()
            if self._allowed.has(certificate) and self._now() < ends:
                return ends
        except (ValueError, TypeError, x509.DuplicateExtension, x509.UnsupportedGeneralNameType):
            pass
        raise Refused(grpc.StatusCode.PERMISSION_DENIED, "etcdserver: permission denied: not a daemon's certificate")


class _Served:
    """The called side of a channel."""

    def __init__(self, call: Call, is_valid: Callable[[], bool]) -> None:
        self._call = call
        self._is_valid = is_valid

    async def send(self, message: bytes) -> None:
        try:
            await self._call.write(message)
        except Exception as error:
            raise ChannelClosed from error

    async def receive(self) -> bytes:
        message = await self._call.read()
        if message is grpc.aio.EOF or not self._is_valid():
            raise ChannelClosed
        return bytes(message)

    def close(self) -> None:
        """It ends with its handler."""


class Caller:
    """Calls other daemons."""

    def __init__(self, files: Files) -> None:
        self._files = files
        self._closing: set[asyncio.Task[None]] = set()

    async def connect(self, url: str) -> Channel:
        """See `Connect`. Whether there is anybody shows with the first message."""
        files = self._files
        try:
            credentials = grpc.ssl_channel_credentials(
                files.authority.read_bytes(), files.key.read_bytes(), files.certificate.read_bytes()
            )
        except OSError as error:
            raise ChannelClosed from error
        channel = grpc.aio.secure_channel(urlsplit(url).netloc, credentials, options=_OPTIONS)
        return _Called(channel, self._close)

    def _close(self, channel: grpc.aio.Channel) -> None:
        task = asyncio.create_task(channel.close())
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)


class _Called:
    """The calling side of a channel."""

    def __init__(self, channel: grpc.aio.Channel, close: Callable[[grpc.aio.Channel], None]) -> None:
        self._channel = channel
        self._close = close
        self._call: Any = channel.stream_stream(_METHOD)()
        self._closed = False

    async def send(self, message: bytes) -> None:
        try:
            await self._call.write(message)
        except (grpc.aio.AioRpcError, asyncio.InvalidStateError) as error:
            raise ChannelClosed from error
        except asyncio.CancelledError:
            raise self._ended() from None

    async def receive(self) -> bytes:
        try:
            message = await self._call.read()
        except (grpc.aio.AioRpcError, asyncio.InvalidStateError) as error:
            raise ChannelClosed from error
        except asyncio.CancelledError:
            raise self._ended() from None
        if message is grpc.aio.EOF:
            raise ChannelClosed
        return bytes(message)

    def _ended(self) -> BaseException:
        """What a cancellation means: grpcio tells of a call that was ended as it tells a task to end."""
        task = asyncio.current_task()
        return asyncio.CancelledError() if task is not None and task.cancelling() else ChannelClosed()

    def close(self) -> None:
        if not self._closed:
            self._closed = True
            self._call.cancel()
            self._close(self._channel)


def _host_names(certificate: x509.Certificate) -> list[str]:
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return []
    return names.get_values_for_type(x509.DNSName)

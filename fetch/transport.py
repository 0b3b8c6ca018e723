"""The servers of gRPC and HTTP: which they are, where they listen, and what they leave to the chain and the services.

The only module that knows which server runs the handlers.
"""

import asyncio
import contextlib
import functools
import importlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol
from urllib.parse import urlsplit

import grpc

from fetch import chain, errors
from fetch.config import Settings
from fetch.http.application import only_at
from fetch.http.asgi import Application
from fetch.http.hosts import guarded
from fetch.http.serving.listener import PROTOCOLS, Listener
from fetch.observation.refusals import Refusals
from fetch.process.start import StartError
from fetch.tls.contexts import rotating_context
from fetch.tls.material import Material
from fetch.tls.rotation import Rotation, Take
from fetch.tls.terms import Terms, terms_of

_GRPC_OVERHEAD_BYTES = 512 * 1024
_HANDSHAKE_MS = 10_000
_PENDING_CALLS = 1 << 20
_NEVER = 2**31 - 1
"""Milliseconds, for grpcio."""
_STRIKES = 2
"""Pings that may come too early before a client loses its connection, as in Go; 0 is any number."""
# what connections of one certificate's names may hold of the native transport: more than `memory` lets a tenant have
_CLIENT_BYTES = 512 << 20
# what another daemon may hold, whose clients' requests are bounded there
_PEER_BYTES = (1 << 31) - 1


class Server:
    """What serves the clients' addresses: a gRPC server, and what listens for HTTP beside it."""

    def __init__(
        self, calls: grpc.aio.Server, requests: Listener, urls: Sequence[str], settings: Settings, rotation: Rotation
    ) -> None:
        """`requests` serves HTTP on these URLs, those for HTTP alone that the gRPC server cannot serve."""
        self._calls, self._requests, self._urls = calls, requests, urls
        self._settings, self._rotation = settings, rotation

    async def start(self) -> None:
        """Listens.

        :raises StartError:
        """
        await self._calls.start()
        for url in self._urls:
            secured = urlsplit(url).scheme == "https"
            try:
                context = rotating_context(self._rotation, PROTOCOLS, terms_of(self._settings)) if secured else None
                await self._requests.start(url, context, shared=self._settings.workers > 1)
            except OSError as error:
                raise StartError(f"cannot listen on {url}: {error}") from error

    async def stop(self, grace: float) -> None:
        """Takes no more calls, lets those that go on end within `grace` seconds, and cuts off the rest."""
        await asyncio.gather(self._calls.stop(grace), self._requests.stop(grace))


class _Methods(grpc.GenericRpcHandler):  # type: ignore[misc]  # grpcio's class is untyped
    """Finds the handler of a call."""

    def __init__(self, methods: Mapping[str, grpc.RpcMethodHandler]) -> None:
        self._methods = methods

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler | None:
        """The handler; None where there is no such method."""
        return self._methods.get(handler_call_details.method)


class Service(Protocol):
    """A gRPC service: its full name, and its methods as handlers of raw bytes."""

    name: str

    def handlers(self) -> Mapping[str, grpc.RpcMethodHandler]:
        """The methods by their names."""


def methods_of(
    services: Sequence[Service], links: Sequence[chain.Link], refusals: Refusals | None = None
) -> dict[str, grpc.RpcMethodHandler]:
    """The services' methods by their full names, each behind the request chain, which tells what it refuses."""
    named = (
        (f"/{service.name}/{name}", handler) for service in services for name, handler in service.handlers().items()
    )
    return {method: chain.wrap(method, handler, links, refusals) for method, handler in named}


def server_of(
    methods: Mapping[str, grpc.RpcMethodHandler],
    settings: Settings,
    application: Application,
    rotation: Rotation,
    refusals: Refusals | None = None,
) -> Server:
    """A server of these methods that listens once it is started.

    The application answers every request that is not gRPC: beside gRPC where the transport can, unless there are URLs
    for HTTP alone, as in etcd. Ports with TLS are served with what `rotation` has, and takes later.

    :raises StartError: there is no such transport, or a URL cannot be listened on
    """
    transport = _transport(settings.transport)
    server = transport.server(
        options=[
            ("grpc.max_receive_message_length", settings.max_request_bytes + _GRPC_OVERHEAD_BYTES),
            ("grpc.max_send_message_length", -1),
            ("grpc.max_concurrent_streams", settings.max_concurrent_streams),
            ("grpc.so_reuseport", int(settings.workers > 1)),
            ("grpc.server_handshake_timeout_ms", _HANDSHAKE_MS),
            # grpcio cancels calls, whosever they are, when too many of all clients wait for the interpreter
            ("grpc.server.max_pending_requests", _PENDING_CALLS),
            ("grpc.server.max_pending_requests_hard_limit", _PENDING_CALLS),
            ("fetch_transport.max_bytes_of_a_client", _CLIENT_BYTES),
            ("fetch_transport.refusal", errors.TooManyRequests.text),
            *_keepalive(settings),
        ]
    )
    server.add_generic_rpc_handlers([_Methods(methods)])
    application = guarded(application, settings.host_whitelist)
    if refusals is not None and hasattr(server, "on_refused_handshakes"):
        server.on_refused_handshakes(functools.partial(_tell, refusals))
    apart = settings.listen_client_http_urls
    knows_http = hasattr(server, "set_http_application")
    if knows_http:
        server.set_http_application(only_at(apart, application) if apart else application)
    for url in (*settings.listen_client_urls, *(apart if knows_http else ())):
        parts = urlsplit(url)
        try:
            credentials = transport.credentials(rotation, terms_of(settings)) if parts.scheme == "https" else None
            if url in apart:
                server.add_http_port(parts.netloc, credentials)
            elif credentials is not None:
                server.add_secure_port(parts.netloc, credentials)
            else:
                server.add_insecure_port(parts.netloc)
        except (RuntimeError, OSError, ValueError) as error:
            raise StartError(f"cannot listen on {url}: {error}") from error
    return Server(server, Listener(application), () if knows_http else apart, settings, rotation)


def _tell(refusals: Refusals, handshakes: Sequence[tuple[str, str]], besides: int) -> None:
    """Tells of handshakes that have failed. (grpcio tells nobody but its own log, without the client's address.)"""
    for client, why in handshakes:
        refusals.report("handshake", who=client.rpartition(":")[0], peer=client, why=why)
    refusals.count("handshake", amount=besides)


def peer_server_of(service: Service, settings: Settings, rotation: Rotation) -> grpc.aio.Server:
    """A server of the service that daemons call, on its own addresses, that listens once it is started.

    It is served with what `rotation` has, and takes later. Daemons are trusted with as much as this one may have; whom
    it lets in is for the service to say.

    :raises StartError:
    """
    transport = _transport(settings.transport)
    server = transport.server(
        options=[
            ("grpc.max_receive_message_length", -1),
            ("grpc.max_send_message_length", -1),
            ("grpc.so_reuseport", 0),
            ("grpc.server_handshake_timeout_ms", _HANDSHAKE_MS),
            ("fetch_transport.max_bytes_of_a_client", _PEER_BYTES),
        ]
    )
    handlers = {
        name: chain.wrap(f"/{service.name}/{name}", handler, ()) for name, handler in service.handlers().items()
    }
    server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler(service.name, handlers)])
    for url in settings.listen_peer_urls:
        try:
            server.add_secure_port(urlsplit(url).netloc, transport.credentials(rotation, Terms()))
        except (RuntimeError, OSError, ValueError) as error:
            raise StartError(f"cannot listen on {url}: {error}") from error
    return server


@dataclass(frozen=True, slots=True)
class _Transport:
    """A gRPC server with grpcio's interface: what makes it, and what makes the credentials of one of its ports."""

    name: str
    server: Callable[..., Any]
    credentials: Callable[[Rotation, Terms], Any]


def _transport(wanted: str) -> _Transport:
    """The transport that runs the handlers; fetch's own where it is installed, unless grpcio's is asked for.

    :raises StartError: the native one is asked for and is not there
    """
    if wanted != "grpcio":
        try:
            native = importlib.import_module("fetch_transport")
        except ImportError as error:
            if wanted == "native":
                raise StartError(f"--transport native needs the package fetch-transport: {error}") from error
        else:
            return _Transport("native", native.server, functools.partial(_of_native, native))
    return _Transport("grpcio", grpc.aio.server, _of_grpcio)


def _keepalive(settings: Settings) -> list[tuple[str, int]]:
    """Pings, as options: ours to clients that are silent, and how often theirs may come, with or without calls.

    The native transport answers every ping, however often they come.
    """
    interval, timeout = settings.grpc_keepalive_interval, settings.grpc_keepalive_timeout
    never = not interval or not timeout
    least = round(settings.grpc_keepalive_min_time * 1000)
    return [
        ("grpc.keepalive_time_ms", _NEVER if never else min(round(interval * 1000), _NEVER)),
        ("grpc.keepalive_timeout_ms", _NEVER if never else min(round(timeout * 1000), _NEVER)),
        ("grpc.keepalive_permit_without_calls", 1),
        ("grpc.http2.min_ping_interval_without_data_ms", least),
        ("grpc.http2.min_recv_ping_interval_without_data_ms", least),
        ("grpc.http2.max_ping_strikes", _STRIKES if least else 0),
    ]


def _of_native(native: Any, rotation: Rotation, terms: Terms) -> Any:
    """The native transport's credentials: clients must have a certificate, which is in no revocation list."""

    def made(material: Material) -> Any:
        pair = (material.key, material.certificate)
        revoked = material.trust.revocations.revoked
        return native.ssl_server_credentials(
            [pair],
            material.authorities,
            True,
            revoked=revoked,
            versions=terms.versions,
            cipher_suites=terms.cipher_suites,
        )

    def prepare(material: Material) -> Take:
        return functools.partial(credentials.replace, made(material))

    credentials = made(rotation.material)
    rotation.serve_with(prepare)
    return credentials


def _of_grpcio(rotation: Rotation, terms: Terms) -> Any:
    """Credentials of grpcio, which ask at each handshake for what is new. Its handshakes know no revocation lists:
    `authorization` refuses the calls of whom those name.

    :raises StartError: it is to leave out what it serves
    """
    if terms.are_chosen:
        raise StartError(
            "--tls-min-version, --tls-max-version and --cipher-suites: grpcio serves TLS 1.2 and 1.3 and cannot be "
            "told otherwise; --transport native can"
        )
    latest: list[Any] = []

    def prepare(material: Material) -> Take:
        pair = (material.key, material.certificate)
        configuration = grpc.ssl_server_certificate_configuration([pair], material.authorities)
        return functools.partial(latest.append, configuration)

    def changed() -> Any:
        """What is new since this was asked for the last time, if anything is; in a thread of grpcio's."""
        newest = None
        with contextlib.suppress(IndexError):
            while True:
                newest = latest.pop(0)
        return newest

    rotation.serve_with(prepare)
    return grpc.dynamic_ssl_server_credentials(changed(), changed, require_client_authentication=True)

"""What starts, in what order, and how it stops. The only module that knows which server runs the handlers."""

import asyncio
import contextlib
import logging
import signal
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path
from typing import Protocol
from urllib.parse import urlsplit

import grpc

from fetch import chain
from fetch.config import Settings
from fetch.engine.batch import Committed
from fetch.engine.mutations import apply
from fetch.engine.tenants import Tenants
from fetch.services.cluster import Cluster
from fetch.services.health import Health
from fetch.services.kv import KV
from fetch.services.lease import Lease
from fetch.services.maintenance import Maintenance
from fetch.services.unserved import Auth
from fetch.services.watch import Watch
from fetch.stores.lmdb import LmdbStore
from fetch.stores.protocol import Store, StoreUnavailable

_GRACE_SECONDS = 5.0
_GRPC_OVERHEAD_BYTES = 512 * 1024
_DEFAULT_QUOTA = 2 << 30

logger = logging.getLogger(__name__)


class Service(Protocol):
    """A gRPC service: its full name, and its methods as handlers of raw bytes."""

    name: str

    def handlers(self) -> Mapping[str, grpc.RpcMethodHandler]:
        """The methods by their names."""


class StartError(Exception):
    """The daemon cannot start: one sentence that says why."""


async def serve(settings: Settings) -> None:
    """Serves until SIGTERM or SIGINT, then ends the calls in flight and closes the store.

    :raises StartError: :raises ChainError: before anything is served
    """
    async with running(settings):
        stop = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stop.set)
        logger.info("serving on %s", ", ".join(settings.listen_client_urls))
        await stop.wait()
        logger.info("stopping")


@contextlib.asynccontextmanager
async def running(settings: Settings) -> AsyncIterator[None]:
    """The daemon, serving while the context is open.

    :raises StartError: :raises ChainError:
    """
    operations = chain.compose(chain.load(chain.OPERATION_GROUP, settings.transaction_interceptors, settings), apply)
    try:
        store = _open_store(settings)
    except StoreUnavailable as error:
        raise StartError(str(error)) from error
    tenants = Tenants(store, _quota(settings), settings.tenants, operations, _ignore)
    try:
        links = chain.load(chain.REQUEST_GROUP, settings.interceptors, settings, tenants)
        health, stopping = Health(), asyncio.Event()
        server = _server(settings, links, health, stopping)
        tenants.start()
        await server.start()
        try:
            yield
        finally:
            health.set_serving(serving=False)
            stopping.set()
            await server.stop(_GRACE_SECONDS)
    finally:
        await tenants.close()
        await store.close()


def _open_store(settings: Settings) -> Store:
    return LmdbStore(Path(settings.data_dir))


def _quota(settings: Settings) -> int:
    if settings.quota_backend_bytes < 0:
        return 0
    return settings.quota_backend_bytes or _DEFAULT_QUOTA


def _server(
    settings: Settings, links: Sequence[chain.Link], health: Health, stopping: asyncio.Event
) -> grpc.aio.Server:
    server = grpc.aio.server(
        options=[
            ("grpc.max_receive_message_length", settings.max_request_bytes + _GRPC_OVERHEAD_BYTES),
            ("grpc.max_send_message_length", -1),
            ("grpc.so_reuseport", 0),
            # etcd's client pings as often as every ten seconds, with or without calls (`--keepalive` of clientv3)
            ("grpc.http2.min_ping_interval_without_data_ms", 5000),
            ("grpc.http2.min_recv_ping_interval_without_data_ms", 5000),
            ("grpc.keepalive_permit_without_calls", 1),
            ("grpc.http2.max_ping_strikes", 0),
        ]
    )
    services: list[Service] = [
        KV(settings),
        Watch(settings, stopping),
        Lease(stopping),
        Maintenance(),
        Cluster(settings),
        Auth(),
        health,
    ]
    server.add_generic_rpc_handlers(
        [
            grpc.method_handlers_generic_handler(
                service.name,
                {
                    name: chain.wrap(f"/{service.name}/{name}", handler, links)
                    for name, handler in service.handlers().items()
                },
            )
            for service in services
        ]
    )
    for url in settings.listen_client_urls:
        _listen(server, url, settings)
    return server


def _listen(server: grpc.aio.Server, url: str, settings: Settings) -> None:
    parts = urlsplit(url)
    try:
        if parts.scheme == "https":
            server.add_secure_port(parts.netloc, _credentials(settings))
        else:
            server.add_insecure_port(parts.netloc)
    except RuntimeError as error:
        raise StartError(f"cannot listen on {url}: {error}") from error


def _credentials(settings: Settings) -> grpc.ServerCredentials:
    certificate, key, authority = (
        Path(str(path)).read_bytes() for path in (settings.cert_file, settings.key_file, settings.trusted_ca_file)
    )
    return grpc.ssl_server_credentials([(key, certificate)], authority, require_client_auth=True)


def _ignore(_tenant: str, _committed: Committed) -> None:
    """What batches were is not reported yet."""

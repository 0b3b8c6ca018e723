"""What starts, in what order, and how it stops. The only module that knows which server runs the handlers."""

import asyncio
import contextlib
import gc
import importlib
import logging
import signal
import socket
import sys
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import urlsplit

import grpc

from fetch import chain, errors
from fetch.config import Settings, connection_hint
from fetch.engine import background
from fetch.engine.alarms import MEMBER_ID
from fetch.engine.mutations import apply
from fetch.engine.served import ServedTime, these_workers
from fetch.engine.tenants import Tenants
from fetch.http import listener
from fetch.http.listener import Listener
from fetch.observation import event_loop
from fetch.observation.engines import Observation
from fetch.observation.instruments import Instruments
from fetch.observation.telemetry import Telemetry, TelemetryError
from fetch.process.limits import raise_open_files
from fetch.process.workers import stop_with_supervisor
from fetch.services.cluster import Cluster
from fetch.services.health import Health
from fetch.services.kv import KV
from fetch.services.lease import Lease
from fetch.services.maintenance import VERSION, Maintenance
from fetch.services.reflection import Reflection
from fetch.services.streams import Streams
from fetch.services.unserved import Auth
from fetch.services.watch import Watch
from fetch.stores.embedded.directory import DataDirectory, DirectoryTaken
from fetch.stores.embedded.store import LmdbStore
from fetch.stores.foundationdb.store import FoundationDBStore
from fetch.stores.protocol import Store, StoreLost, StoreUnavailable

_GRACE_SECONDS = 5.0
_ORPHANS_SECONDS = _GRACE_SECONDS + 3.0
_ORPHANS_POLL_SECONDS = 0.1
_PROBE_SECONDS = 2.0
_PROBE_INTERVAL_SECONDS = 1.0
_GRPC_OVERHEAD_BYTES = 512 * 1024
_HANDSHAKE_MS = 10_000
_PENDING_CALLS = 1 << 20
# what connections of one certificate's names may hold of the native transport: more than `memory` lets a tenant have
_CLIENT_BYTES = 512 << 20
_DEFAULT_QUOTA = 2 << 30
_SAMPLE_SECONDS = 15.0
_YOUNG_OBJECTS = 20_000

logger = logging.getLogger(__name__)


class Service(Protocol):
    """A gRPC service: its full name, and its methods as handlers of raw bytes."""

    name: str

    def handlers(self) -> Mapping[str, grpc.RpcMethodHandler]:
        """The methods by their names."""


class StartError(Exception):
    """The daemon cannot start: one sentence that says why."""


async def serve(settings: Settings, worker: int | None = None) -> None:
    """Serves until SIGTERM or SIGINT, then ends the calls in flight and closes the store.

    :raises StartError: :raises ChainError: before anything is served
    :raises StoreLost: the store could not be used any more; what is started anew may be able to
    """
    async with running(settings, worker or 0) as store:
        stop = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stop.set)
        if worker is not None:
            stop_with_supervisor(stop)
        raise_open_files()
        _relax_collector()
        logger.info("serving on %s", ", ".join(settings.listen_client_urls))
        if not worker:
            sys.stdout.write(f"fetch serves {', '.join(settings.listen_client_urls)}\n{connection_hint(settings)}\n")
            sys.stdout.flush()
        lost = await _stopped_or_lost(stop, store)
    if lost is not None:
        raise lost


async def _stopped_or_lost(stop: asyncio.Event, store: Store) -> StoreLost | None:
    """Returns when the daemon has to end: why the store is lost, if that is the reason."""
    stopping, losing = asyncio.create_task(stop.wait()), asyncio.create_task(store.lost())
    try:
        await asyncio.wait([stopping, losing], return_when=asyncio.FIRST_COMPLETED)
        if losing.done():
            logger.critical("stopping, since the store is lost: %s", losing.result())
            return losing.result()
        logger.info("stopping")
        return None
    finally:
        stopping.cancel()
        losing.cancel()


def _relax_collector() -> None:
    """Has the cyclic garbage collector look less often, and never again at what starting has made.

    Requests leave hardly any cycles behind, their objects go by reference count. With the collector's defaults a get
    costs 22 µs of Python where it costs 13 so, a create 44 and 38.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(_YOUNG_OBJECTS, 10, 10)


@contextlib.asynccontextmanager
async def running(settings: Settings, worker: int = 0) -> AsyncIterator[Store]:
    """The daemon, serving while the context is open, and the store that it stands on.

    :raises StartError: :raises ChainError:
    """
    instruments = Instruments(settings.metrics_tenants)
    try:
        telemetry = Telemetry(instruments, scraped=bool(settings.listen_metrics_urls))
    except TelemetryError as error:
        raise StartError(str(error)) from error
    observation = Observation(instruments)
    observation.identify(VERSION, MEMBER_ID)
    inner = chain.load(chain.OPERATION_GROUP, settings.transaction_interceptors, settings, instruments=instruments)
    operations = chain.compose(inner, apply)
    try:
        store = _open_store(settings, worker)
    except StoreUnavailable as error:
        raise StartError(str(error)) from error
    served = (
        ServedTime(store, workers=these_workers()) if settings.workers > 1 and not settings.fdb_cluster_file else None
    )
    tenants = Tenants(
        store, _quota(settings), settings.tenants, operations, observation.report, observation.failed, served
    )
    tenants.most_response_bytes = settings.max_response_bytes
    observation.watch_over(tenants, _quota(settings))
    try:
        links = chain.load(chain.REQUEST_GROUP, settings.interceptors, settings, tenants, instruments)
        health, streams = Health(), Streams()
        if settings.workers == 1:
            require_free(settings)
        server = _server(settings, links, health, streams)
        tenants.start()
        following = await _follow_store(store, health)
        await server.start()
        try:
            async with _observed(settings, telemetry, observation, tenants, streams):
                with event_loop.measured(instruments):
                    yield store
        finally:
            following.cancel()
            health.set_serving(serving=False)
            streams.stop()
            await server.stop(_GRACE_SECONDS)
    finally:
        await tenants.close()
        await store.close()
        await telemetry.close()


@contextlib.asynccontextmanager
async def _observed(
    settings: Settings, telemetry: Telemetry, observation: Observation, tenants: Tenants, streams: Streams
) -> AsyncIterator[None]:
    """Serves metrics and health, and keeps what is exported fresh, while the context is open.

    :raises StartError:
    """
    store = tenants.store

    async def metrics() -> bytes:
        await observation.sample(tenants, store)
        return telemetry.text()

    async def sample() -> None:
        while True:
            await observation.sample(tenants, store)
            await asyncio.sleep(_SAMPLE_SECONDS)

    listening = Listener(listener.pages(metrics, store.check, lambda: not streams.stopping, observation.instruments))
    sampling = background.start("samples", sample, observation.failed) if telemetry.exports_metrics else None
    try:
        await _listen_for_metrics(listening, settings.listen_metrics_urls)
        yield
    finally:
        if sampling is not None:
            sampling.cancel()
        listening.close()


async def _listen_for_metrics(listening: Listener, urls: tuple[str, ...]) -> None:
    try:
        await listening.start(urls)
    except OSError as error:
        raise StartError(f"cannot listen on {', '.join(urls)}: {error}") from error


def _open_store(settings: Settings, worker: int) -> Store:
    if settings.fdb_cluster_file is not None:
        return FoundationDBStore.open(Path(settings.fdb_cluster_file))
    return LmdbStore(Path(settings.data_dir), worker, settings.workers)


async def _follow_store(store: Store, health: Health) -> asyncio.Task[None]:
    """Lets health say that the daemon serves as long as the store can be used.

    Returns what goes on doing so, once health knows.
    """

    async def follow(serving: bool) -> None:
        while True:
            await asyncio.sleep(_PROBE_INTERVAL_SECONDS)
            before, serving = serving, await _answers(store, quiet=not serving)
            if serving and not before:
                logger.info("the store can be used again")
            if serving != before:
                health.set_serving(serving=serving)

    serving = await _answers(store)
    health.set_serving(serving=serving)
    return asyncio.create_task(follow(serving))


async def _answers(store: Store, *, quiet: bool = False) -> bool:
    try:
        async with asyncio.timeout(_PROBE_SECONDS):
            await store.check()
    except (StoreUnavailable, TimeoutError) as error:
        if not quiet:
            logger.error("the store cannot be used: %s", str(error) or f"nothing within {_PROBE_SECONDS:g} s")  # noqa: TRY400
        return False
    except Exception:  # whatever it is, it must not end what health stands on
        logger.exception("the store cannot be looked at")
        return False
    return True


def _quota(settings: Settings) -> int:
    if settings.quota_backend_bytes < 0:
        return 0
    return settings.quota_backend_bytes or _DEFAULT_QUOTA


def _server(settings: Settings, links: Sequence[chain.Link], health: Health, streams: Streams) -> grpc.aio.Server:
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
            # etcd's client pings as often as every ten seconds, with or without calls (`--keepalive` of clientv3)
            ("grpc.http2.min_ping_interval_without_data_ms", 5000),
            ("grpc.http2.min_recv_ping_interval_without_data_ms", 5000),
            ("grpc.keepalive_permit_without_calls", 1),
            ("grpc.http2.max_ping_strikes", 0),
        ]
    )
    services: list[Service] = [
        KV(settings),
        Watch(settings, streams),
        Lease(streams),
        Maintenance(),
        Cluster(settings),
        Auth(),
        health,
    ]
    named = [service.name for service in services]
    services += [Reflection("v1", named), Reflection("v1alpha", named)]
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
        parts = urlsplit(url)
        try:
            if parts.scheme == "https":
                server.add_secure_port(parts.netloc, transport.ssl_server_credentials(*_certificates(settings)))
            else:
                server.add_insecure_port(parts.netloc)
        except (RuntimeError, OSError) as error:
            raise StartError(f"cannot listen on {url}: {error}") from error
    return server


def require_free(settings: Settings) -> None:
    """Tries the addresses: the transports would say less clearly, or in more than a line, why they cannot have one.

    :raises StartError:
    """
    for url in settings.listen_client_urls:
        parts = urlsplit(url)
        host = parts.hostname or ""
        try:
            family = socket.AF_INET6 if ":" in host else socket.AF_INET
            socket.create_server((host, parts.port or 0), family=family).close()
        except OSError as error:
            raise StartError(f"cannot listen on {url}: {error.strerror}") from error


def require_data_directory(settings: Settings) -> None:
    """Tries the data directory, so that it is said once what is wrong with it, and not by each worker.

    A daemon that was killed leaves workers behind, which end by themselves: that is waited for.

    :raises StartError:
    """
    if settings.fdb_cluster_file is not None:
        return
    deadline = time.monotonic() + _ORPHANS_SECONDS
    while True:
        try:
            DataDirectory(Path(settings.data_dir), 0, 1).close()
        except DirectoryTaken as error:
            if time.monotonic() > deadline:
                raise StartError(str(error)) from error
            time.sleep(_ORPHANS_POLL_SECONDS)
        except StoreUnavailable as error:
            raise StartError(str(error)) from error
        else:
            return


@dataclass(frozen=True, slots=True)
class _Transport:
    """A gRPC server with grpcio's interface: what makes it, and what makes the credentials of its ports."""

    name: str
    server: Callable[..., Any]
    ssl_server_credentials: Callable[..., Any]


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
            return _Transport("native", native.server, native.ssl_server_credentials)
    return _Transport("grpcio", grpc.aio.server, grpc.ssl_server_credentials)


def _certificates(settings: Settings) -> tuple[list[tuple[bytes, bytes]], bytes, bool]:
    """The arguments of `grpc.ssl_server_credentials`: clients must have a certificate."""
    certificate, key, authority = (
        Path(str(path)).read_bytes() for path in (settings.cert_file, settings.key_file, settings.trusted_ca_file)
    )
    return [(key, certificate)], authority, True

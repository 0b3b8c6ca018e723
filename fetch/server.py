"""What starts, in what order, and how it stops.

One file, since it is one order: each thing is made of what was made before it.
"""

import asyncio
import contextlib
import functools
import logging
import os
import signal
import sys
from collections.abc import AsyncIterator, Mapping
from pathlib import Path

from fetch import chain
from fetch.config import Settings, connection_hint
from fetch.daemons import join, members_of, shared, writers_of
from fetch.engine import background, protocol
from fetch.engine.alarms import MEMBER_ID
from fetch.engine.batch import Mutate
from fetch.engine.format import NewerFormat
from fetch.engine.mutations import apply
from fetch.engine.retention import Retention
from fetch.engine.served import ServedTime, these_workers
from fetch.engine.tenants import Tenants
from fetch.http import pages
from fetch.http.answers import Page
from fetch.http.application import CROSS_ORIGIN, Application
from fetch.http.gateway.gateway import Gateway
from fetch.http.serving.listener import Listener
from fetch.observation import event_loop
from fetch.observation.engines import Observation
from fetch.observation.instruments import Instruments
from fetch.observation.telemetry import Telemetry, TelemetryError
from fetch.peers.daemons import Writers
from fetch.peers.members import Members
from fetch.process.collector import relax_collector
from fetch.process.limits import raise_open_files
from fetch.process.manager import Manager
from fetch.process.readiness import follow_store
from fetch.process.start import StartError, require_free
from fetch.process.workers import stop_with_supervisor
from fetch.services.administration import Administration
from fetch.services.auth import Auth
from fetch.services.cluster import Cluster
from fetch.services.election import Election
from fetch.services.health import Health
from fetch.services.kv import KV
from fetch.services.lease import Lease
from fetch.services.lock import Lock
from fetch.services.maintenance import STORAGE_VERSION, VERSION, Maintenance
from fetch.services.metrics import metrics_of_caller
from fetch.services.reflection import Reflection
from fetch.services.snapshots import Snapshots
from fetch.services.streams import Streams
from fetch.services.users import Users
from fetch.services.watch import Watch
from fetch.stores.embedded.store import LmdbStore
from fetch.stores.foundationdb.store import FoundationDBStore
from fetch.stores.protocol import Store, StoreLost, StoreUnavailable
from fetch.tenants.clearing import Clearing
from fetch.tenants.following import Following
from fetch.tenants.register import Register
from fetch.tenants.upkeep import Upkeep
from fetch.tls.apart import keep_apart
from fetch.tls.material import Files as TlsFiles
from fetch.tls.material import MaterialError, files_of, peer_files_of
from fetch.tls.rotation import Rotation, measure, rotating
from fetch.transport import Service, methods_of, server_of

_GRACE_SECONDS = 5.0
_DEFAULT_QUOTA = 2 << 30
_SAMPLE_SECONDS = 15.0
_FORMAT_SECONDS = 2.0

logger = logging.getLogger(__name__)


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
        relax_collector()
        logger.info("serving on %s", ", ".join(settings.listen_client_urls))
        if not worker:
            sys.stdout.write(f"fetch serves {', '.join(settings.listen_client_urls)}\n{connection_hint(settings)}\n")
            sys.stdout.flush()
        async with Manager.of(os.environ, worker).told(f"serving on {', '.join(settings.listen_client_urls)}"):
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


@contextlib.asynccontextmanager
async def running(settings: Settings, worker: int = 0) -> AsyncIterator[Store]:
    """The daemon, serving while the context is open, and the store that it stands on.

    :raises StartError: :raises ChainError:
    """
    instruments = Instruments(settings.metrics_tenants)
    telemetry = _telemetry(settings, instruments)
    observation = Observation(instruments)
    rotation = rotation_of(files_of(settings), instruments)
    of_peers = rotation_of(peer_files_of(settings), instruments)
    keep_apart(settings, rotation, of_peers)
    measure(instruments, rotation, of_peers)
    inner = chain.load(chain.OPERATION_GROUP, settings.transaction_interceptors, settings, instruments=instruments)
    store = _open_store(settings, worker)
    served = _served(settings, store)
    members = members_of(settings, store)
    observation.identify(VERSION, MEMBER_ID if members is None else members.own.id)
    writers = None if members is None else writers_of(settings, members, served)
    tenants = _tenants(settings, store, chain.compose(inner, apply), observation, served, writers)
    if members is not None:
        tenants.member_id = members.own.id
    register = _register(settings, store, tenants)
    upkeep = Upkeep(Following(store, register, tenants), Clearing(store, register, served), observation.failed)
    try:
        engines = tenants if writers is None else shared(tenants, writers, instruments)
        links = chain.load(chain.REQUEST_GROUP, settings.interceptors, settings, engines, instruments, rotation)
        health, streams = Health(), Streams()
        if settings.workers == 1:
            require_free(settings)
        well = pages.health(store.check, lambda: not streams.stopping, instruments)
        administration = Administration(register, tenants.watches)
        offered = _services(settings, health, streams, engines, members, administration)
        methods = methods_of(offered, links, observation.refusals)
        scrape = functools.partial(_scrape, telemetry, observation, tenants)
        watched = {"/metrics": pages.metrics(scrape), **well}
        own = pages.own_metrics(metrics_of_caller(scrape, observation, links))
        told = {"/metrics": own, "/version": pages.version(VERSION, STORAGE_VERSION), **well}
        application = Application(told, cross_origin=True, gateway=Gateway(methods, settings, CROSS_ORIGIN))
        server = server_of(methods, settings, application, rotation, observation.refusals)
        await _require_format(tenants)
        tenants.start()
        upkeep.start()
        following = await follow_store(store, health)
        leave = await join(settings, tenants, members, writers, observation, rotation=of_peers)
        await server.start()
        try:
            async with rotating(rotation, of_peers), _observed(settings, telemetry, observation, tenants, watched):
                with event_loop.measured(instruments):
                    yield store
        finally:
            following.cancel()
            health.set_serving(serving=False)
            streams.stop()
            await asyncio.gather(server.stop(_GRACE_SECONDS), leave())
    finally:
        await upkeep.close()
        await tenants.close()
        await store.close()
        await telemetry.close()


async def _require_format(tenants: Tenants) -> None:
    """Looks at the format of what is stored, if the store answers; what comes to it later looks again.

    :raises StartError: it is a newer release's
    """
    try:
        async with asyncio.timeout(_FORMAT_SECONDS):
            await tenants.format.require()
    except NewerFormat as error:
        raise StartError(str(error)) from error
    except (StoreUnavailable, TimeoutError) as error:
        logger.warning("the format of what is stored is not known yet: %s", error or "the store does not answer")


async def _scrape(telemetry: Telemetry, observation: Observation, tenants: Tenants) -> bytes:
    """All that is measured, for Prometheus."""
    await observation.sample(tenants, tenants.store)
    return telemetry.text()


def _services(
    settings: Settings,
    health: Health,
    streams: Streams,
    tenants: protocol.Tenants,
    members: Members | None = None,
    administration: Administration | None = None,
) -> list[Service]:
    """All that is served on the clients' addresses."""
    services: list[Service] = [
        KV(settings),
        Watch(settings, streams),
        Lease(streams),
        Maintenance(settings, members),
        Cluster(settings, members),
        Auth(None if administration is None else Users(administration.register)),
        Lock(streams, settings.max_request_bytes),
        Election(streams, settings.max_request_bytes),
        Snapshots(settings, tenants, streams),
        health,
    ]
    if administration is not None:
        services.append(administration)
    named = [service.name for service in services]
    return [*services, Reflection("v1", named), Reflection("v1alpha", named)]


@contextlib.asynccontextmanager
async def _observed(
    settings: Settings, telemetry: Telemetry, observation: Observation, tenants: Tenants, served: Mapping[str, Page]
) -> AsyncIterator[None]:
    """Serves pages of metrics and health, and keeps what is exported fresh, while the context is open.

    :raises StartError:
    """

    async def sample() -> None:
        while True:
            await observation.sample(tenants, tenants.store)
            await asyncio.sleep(_SAMPLE_SECONDS)

    listening = Listener(Application(served, cross_origin=False))
    sampling = background.start("samples", sample, observation.failed) if telemetry.exports_metrics else None
    try:
        await _listen_for_metrics(listening, settings.listen_metrics_urls)
        yield
    finally:
        if sampling is not None:
            sampling.cancel()
        await listening.stop()


async def _listen_for_metrics(listening: Listener, urls: tuple[str, ...]) -> None:
    try:
        for url in urls:
            await listening.start(url)
    except OSError as error:
        raise StartError(f"cannot listen on {', '.join(urls)}: {error}") from error


def rotation_of(files: TlsFiles | None, instruments: Instruments) -> Rotation:
    """The certificates that are served with, read.

    :raises StartError: they cannot be used
    """
    try:
        return Rotation(files, instruments)
    except MaterialError as error:
        raise StartError(str(error)) from error


def _telemetry(settings: Settings, instruments: Instruments) -> Telemetry:
    try:
        return Telemetry(instruments, scraped=bool(settings.listen_metrics_urls or settings.admin_principals))
    except TelemetryError as error:
        raise StartError(str(error)) from error


def _open_store(settings: Settings, worker: int) -> Store:
    try:
        if settings.fdb_cluster_file is not None:
            return FoundationDBStore.open(Path(settings.fdb_cluster_file))
        return LmdbStore(Path(settings.data_dir), worker, settings.workers)
    except StoreUnavailable as error:
        raise StartError(str(error)) from error


def _served(settings: Settings, store: Store) -> ServedTime:
    by_workers = settings.workers > 1 and not settings.fdb_cluster_file
    return ServedTime(store, workers=these_workers()) if by_workers else ServedTime(store)


def _tenants(
    settings: Settings,
    store: Store,
    mutate: Mutate,
    observation: Observation,
    served: ServedTime,
    writers: Writers | None,
) -> Tenants:
    quota = _quota(settings)
    claim = None if writers is None else writers.of
    tenants = Tenants(store, quota, _allowed(settings), mutate, observation.report, observation.failed, served, claim)
    tenants.most_response_bytes = settings.max_response_bytes
    seconds, revisions = settings.retained()
    if seconds or revisions:
        tenants.retention = Retention(seconds, revisions)
    observation.watch_over(tenants, quota)
    return tenants


def _register(settings: Settings, store: Store, tenants: Tenants) -> Register:
    """The register of tenants, which from now on decides who is served."""
    register = Register(
        store,
        tenants.served,
        settings.admin_principals,
        settings.tenants,
        makes_unknown=settings.unknown_tenants == "create",
    )
    tenants.admit = register.admit
    return register


def _allowed(settings: Settings) -> frozenset[str] | None:
    """The only tenants there may be; None: any. Administrators have keyspaces too."""
    return None if settings.tenants is None else frozenset((*settings.tenants, *settings.admin_principals))


def _quota(settings: Settings) -> int:
    if settings.quota_backend_bytes < 0:
        return 0
    return settings.quota_backend_bytes or _DEFAULT_QUOTA

"""A daemon among those on its store: what it knows of the others, and what it is to them."""

import functools
from collections.abc import Awaitable, Callable
from pathlib import Path

from fetch.config import Settings
from fetch.engine import background
from fetch.engine.served import ServedTime
from fetch.engine.tenants import Tenants
from fetch.observation.engines import Observation
from fetch.observation.instruments import Instruments
from fetch.observation.telemetry import is_tracing
from fetch.peers.daemons import Peers, SharedTenants, Writers, leave_others
from fetch.peers.members import Members
from fetch.peers.streams import Allowed, Caller, Files, PeerService
from fetch.stores.protocol import Store
from fetch.tls.rotation import Rotation
from fetch.transport import peer_server_of

_GRACE_SECONDS = 5.0


def members_of(settings: Settings, store: Store) -> Members | None:
    """The daemons on a FoundationDB; None: the store is one daemon's."""
    if settings.fdb_cluster_file is None:
        return None
    peer_urls = settings.initial_advertise_peer_urls if settings.has_peers else ()
    return Members(store, settings.name, settings.advertise_client_urls, peer_urls)


def writers_of(settings: Settings, members: Members, served: ServedTime) -> Writers | None:
    """What finds a tenant's writer among daemons that have peers; None: this one sends nothing to others."""
    if not settings.has_peers:
        return None
    certificate, key, authority = (
        Path(str(path)) for path in (settings.peer_cert_file, settings.peer_key_file, settings.peer_trusted_ca_file)
    )
    return Writers(members, served.now, Caller(Files(certificate, key, authority)).connect)


def shared(tenants: Tenants, writers: Writers, instruments: Instruments) -> SharedTenants:
    """The tenants' engines, whose writes go to other daemons too; what came of these is counted."""
    sent = instruments.counter(
        "fetch.peers.writes", "Writes for the daemon that writes for their tenant, by what came of them.", ("result",)
    )
    return SharedTenants(tenants, writers, traces=is_tracing(), report=lambda result: sent.add((result,)))


async def join(
    settings: Settings,
    tenants: Tenants,
    members: Members | None,
    writers: Writers | None,
    observation: Observation,
    *,
    rotation: Rotation,
) -> Callable[[], Awaitable[None]]:
    """Makes this daemon known to others, and serves them; how that ends.

    :raises StartError:
    """
    if members is None:
        return _nothing
    if writers is None:
        beating = background.start("daemons", members.run, observation.failed)
        return functools.partial(leave_others, members, beating)
    peers = Peers(tenants, writers, observation.failed)
    allowed = Allowed(settings.peer_cert_allowed_cn, settings.peer_cert_allowed_hostname)
    server = peer_server_of(PeerService(peers.host, allowed), settings, rotation)
    await server.start()
    peers.start()

    async def end() -> None:
        await peers.leave()
        await server.stop(_GRACE_SECONDS)

    return end


async def _nothing() -> None:
    """There are no others to leave."""

"""Daemons as they are started, two in this process, on one simulated cluster: gRPC, TLS and transports are real."""

import contextlib
import os
import random
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from pathlib import Path

import grpc
import pytest

from fetch.config import Settings
from fetch.stores.foundationdb.store import FoundationDBStore
from fetch.tls import certificates
from fetch.tls.certificates import Certificate
from tests.endpoints.process import free_port
from tests.simulation.binding import SimulatedBinding
from tests.simulation.cluster import Cluster, Faults


@dataclass(slots=True)
class Site:
    """Certificates, and a cluster: clients' authority and tenants' certificates, daemons' authority and certificate."""

    directory: Path
    clients: Certificate
    peers: Certificate

    def settings(self, **changed: object) -> Settings:
        """Those of one more daemon."""
        directory = self.directory
        given: dict[str, object] = {
            "listen_client_urls": (f"https://127.0.0.1:{free_port()}",),
            "listen_peer_urls": (f"https://127.0.0.1:{free_port()}",),
            "cert_file": f"{directory}/server.crt",
            "key_file": f"{directory}/server.key",
            "trusted_ca_file": f"{directory}/ca.crt",
            "peer_cert_file": f"{directory}/peer.crt",
            "peer_key_file": f"{directory}/peer.key",
            "peer_trusted_ca_file": f"{directory}/peer-ca.crt",
            "fdb_cluster_file": f"{directory}/fdb.cluster",
            "transport": os.environ.get("FETCH_TRANSPORT", "auto"),
        }
        return Settings(**(given | changed))  # type: ignore[arg-type]

    def credentials(self, certificate: Certificate, authority: Certificate) -> grpc.ChannelCredentials:
        return grpc.ssl_channel_credentials(authority.certificate_pem, certificate.key_pem, certificate.certificate_pem)

    @contextlib.asynccontextmanager
    async def channel(
        self, url: str, certificate: Certificate, authority: Certificate
    ) -> AsyncIterator[grpc.aio.Channel]:
        async with grpc.aio.secure_channel(
            url.removeprefix("https://"), self.credentials(certificate, authority)
        ) as channel:
            yield channel

    def client(self, settings: Settings) -> AbstractAsyncContextManager[grpc.aio.Channel]:
        """A tenant's channel to a daemon."""
        return self.channel(settings.listen_client_urls[0], certificates.issue(self.clients, "alpha"), self.clients)


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Site:
    cluster = Cluster(random.Random(1), Faults(least_delay=0.0001, most_delay=0.001))
    monkeypatch.setattr(FoundationDBStore, "open", lambda _: FoundationDBStore(SimulatedBinding(cluster)))  # type: ignore[arg-type]
    clients, peers = certificates.authority("clients"), certificates.authority("peers")
    names = certificates.loopback_names()
    clients.write(tmp_path, "ca")
    peers.write(tmp_path, "peer-ca")
    certificates.issue(clients, "server", server=True, names=names).write(tmp_path, "server")
    certificates.issue(peers, "daemon", peer=True, names=names).write(tmp_path, "peer")
    return Site(tmp_path, clients, peers)

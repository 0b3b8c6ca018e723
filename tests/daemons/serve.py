"""`python -m tests.daemons.serve serve …`: fetch on a simulated cluster, with a second daemon that writes for all tenants.

What clients ask of the daemon that they see is answered by it, but for writes, which it sends to the other. So whatever
asks for etcd's behaviour asks it of writes that were sent.
"""

import contextlib
import dataclasses
import random
import sys
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path

from fetch import server
from fetch.cli import main
from fetch.config import Settings
from fetch.peers.claims import Writing
from fetch.peers.members import Members
from fetch.stores.foundationdb.store import FoundationDBStore
from fetch.stores.protocol import Store
from fetch.tls import certificates
from tests.endpoints.process import free_port
from tests.simulation.binding import SimulatedBinding
from tests.simulation.cluster import Cluster, Faults

_FAULTS = Faults(least_delay=0.00005, most_delay=0.0005)
_running = server.running


@contextlib.asynccontextmanager
async def running(settings: Settings, worker: int = 0) -> AsyncIterator[Store]:
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        authority = certificates.authority("peers")
        authority.write(directory, "ca")
        names = certificates.loopback_names()
        certificates.issue(authority, "daemon", peer=True, names=names).write(directory, "peer")
        first, second = (_with_peers(settings, directory) for _ in range(2))
        second = dataclasses.replace(
            second,
            listen_client_urls=(f"https://127.0.0.1:{free_port()}",),
            advertise_client_urls=settings.advertise_client_urls,  # clients see one member
            listen_client_http_urls=(),
            listen_metrics_urls=(),
        )
        made: list[Members] = []
        init = Members.__init__

        def noted(self: Members, *arguments: object) -> None:
            init(self, *arguments)  # type: ignore[arg-type]
            made.append(self)

        Members.__init__ = noted  # type: ignore[method-assign, assignment]
        async with _running(second, worker), _running(first, worker) as store:
            writer, seen = (members.own.daemon for members in made)
            Writing.elsewhere = lambda self: writer if self._own == seen else None  # type: ignore[method-assign]
            yield store


def _with_peers(settings: Settings, directory: Path) -> Settings:
    url = f"https://127.0.0.1:{free_port()}"
    return dataclasses.replace(
        settings,
        listen_peer_urls=(url,),
        initial_advertise_peer_urls=(url,),
        peer_cert_file=f"{directory}/peer.crt",
        peer_key_file=f"{directory}/peer.key",
        peer_trusted_ca_file=f"{directory}/ca.crt",
    )


if __name__ == "__main__":
    cluster = Cluster(random.Random(1), _FAULTS)
    FoundationDBStore.open = lambda _: FoundationDBStore(SimulatedBinding(cluster))  # type: ignore[method-assign, assignment, arg-type]
    server.running = running  # type: ignore[assignment]
    sys.argv[0] = "fetch"
    main()

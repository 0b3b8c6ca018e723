"""Several daemons on one FoundationDB, which know each other: whether more of them are more."""

import contextlib
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from bench.contenders import Certificates, Contender, Server
from bench.generator import Figures, Generator
from fetch.tls import certificates

COUNTS = (1, 3)
"""Daemons that serve one tenant."""

CLIENTS = (64, 8, 1)
MANY_COUNTS = (1, 2, 4)
TENANTS = 8
"""Tenants that as many daemons serve, each through all of them."""

_CONNECTIONS = 12
_PEERS = (
    "--listen-peer-urls=https://127.0.0.1:{peer}",
    "--peer-cert-file={certs}/peer.crt",
    "--peer-key-file={certs}/peer.key",
    "--peer-trusted-ca-file={certs}/peers.crt",
)


@dataclass(frozen=True, slots=True)
class Daemons:
    """Daemons that run, as one server."""

    servers: Sequence[Server]
    issued: Certificates

    @property
    def contender(self) -> Contender:
        """What each of them is."""
        return self.servers[0].contender

    @property
    def address(self) -> str:
        """Where they serve."""
        return ",".join(server.address for server in self.servers)

    def cpu(self) -> float:
        """Seconds of CPU that all have taken."""
        return sum(server.cpu() for server in self.servers)


def measure(
    generator: Generator, contender: Contender, total: int, turn: int, directory: Path
) -> Iterator[dict[str, Any]]:
    """One tenant through one daemon and through three, and many tenants through one, two and four."""
    with _running(contender, max(COUNTS + MANY_COUNTS), directory) as daemons:
        for clients in CLIENTS:
            count = total if clients > 1 else total // 10
            options = {"total": count, "clients": clients, "conns": min(clients, _CONNECTIONS)}
            for work in ("create", "update"):
                for number in COUNTS:
                    some = replace(daemons, servers=daemons.servers[:number])
                    figures = generator.run(some, work, f"{turn}-{number}-{clients}", **options)
                    yield {"daemons": number, "tenants": 1, "clients": clients, "work": work, **figures.record()}
        for number in MANY_COUNTS:
            some = replace(daemons, servers=daemons.servers[:number])
            figures = _of_many_tenants(generator, some, total, f"{turn}-{number}")
            yield {"daemons": number, "tenants": TENANTS, "clients": 64, "work": "create", **figures.record()}


def _of_many_tenants(generator: Generator, daemons: Daemons, total: int, prefix: str) -> Figures:
    """What all of them do together, the slowest of whom ends it."""
    tenants = [daemons.issued.another(str(number)) for number in range(TENANTS)]
    options = {"total": total // TENANTS, "clients": 64 // TENANTS, "conns": len(daemons.servers)}

    def run(tenant: Certificates) -> Figures:
        return generator.run(replace(daemons, issued=tenant), "create", prefix, **options)

    before = daemons.cpu()
    with ThreadPoolExecutor(TENANTS) as pool:
        each = list(pool.map(run, tenants))
    items = options["total"] * TENANTS
    seconds = max(options["total"] / figures.rate for figures in each)
    cpu = (daemons.cpu() - before) / items * 1e6
    return Figures(items / seconds, max(it.p50 for it in each), max(it.p99 for it in each), cpu)


@contextlib.contextmanager
def _running(contender: Contender, count: int, directory: Path) -> Iterator[Daemons]:
    issued = Certificates(directory / "certs")
    peers = certificates.authority("peers")
    peers.write(issued.directory, "peers")
    daemon = certificates.issue(peers, "daemon", peer=True, names=certificates.loopback_names())
    daemon.write(issued.directory, "peer")
    peer = replace(contender, command=(*contender.command, *_PEERS))
    with contextlib.ExitStack() as stack:
        servers = [stack.enter_context(peer.start(directory / str(number), issued)) for number in range(count)]
        yield Daemons(servers, issued)

"""fetch, as its users start it: `fetch serve` with mTLS, a tenant for each client certificate."""

import itertools
import os
import secrets
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import grpc

from fetch.tls import certificates
from fetch.tls.certificates import Certificate
from tests.endpoints.client import Client
from tests.endpoints.process import Process, free_port
from tests.endpoints.server import CHANNEL_OPTIONS, Flags, Missing

SERVE = (sys.executable, "-m", "fetch", "serve")
SERVE_SIMULATED = (sys.executable, "-m", "tests.simulation.serve", "serve", "--workers=1")
SERVE_SENDING = (sys.executable, "-m", "tests.daemons.serve", "serve", "--workers=1")
SERVE_MEMORY = (sys.executable, "-m", "tests.endpoints.serve_memory", "serve", "--workers=1")


@dataclass(frozen=True, slots=True)
class Fetch:
    """fetch on one of its stores: `embedded`, `fdb` with the cluster file, or `simulated`: a FoundationDB in memory.

    `sending` is the simulated one with a second daemon that all writes are sent to. With `memory` it has no store, but the storage engine in memory.
    """

    store: str
    cluster_file: Path | None = None
    authority: Certificate = field(default_factory=lambda: certificates.authority("tests"))
    _session: str = field(default_factory=lambda: secrets.token_hex(4))
    """Tells the tenants of this run from those of others on the same cluster."""
    _tenants: Iterator[int] = field(default_factory=itertools.count)

    @property
    def name(self) -> str:
        return f"fetch-{self.store}"

    @property
    def version(self) -> tuple[int, int]:
        return 3, 7

    @property
    def is_durable(self) -> bool:
        """Whether data outlives the daemon."""
        return self.store not in ("simulated", "sending", "memory")

    @property
    def command(self) -> Sequence[str]:
        commands = {"simulated": SERVE_SIMULATED, "sending": SERVE_SENDING, "memory": SERVE_MEMORY}
        return commands.get(self.store, SERVE)

    @contextmanager
    def start(self, directory: Path, flags: Flags = (), listeners: Sequence[str] = ()) -> Iterator["FetchServer"]:
        """Starts a daemon, with `listeners` besides its own; `directory` holds the embedded store and certificates."""
        directory.mkdir(parents=True, exist_ok=True)
        address = f"127.0.0.1:{free_port()}"
        urls = ",".join([f"https://{address}", *listeners])
        command = [*self.command, f"--listen-client-urls={urls}", *self.tls_flags(directory)]
        command += [*self.store_flags(directory), *flags]
        with Process(command, directory / "fetch.log") as process:
            server = FetchServer(self, process, address, directory)
            with server.connect() as client:
                process.wait_until_serving(client)
            yield server

    def tls_flags(self, directory: Path) -> list[str]:
        """Writes a server's certificates to `directory`; returns the flags that name them."""
        names = certificates.loopback_names()
        certificates.issue(self.authority, "server", server=True, names=names).write(directory, "server")
        self.authority.write(directory, "ca")
        return [
            f"--cert-file={directory}/server.crt",
            f"--key-file={directory}/server.key",
            f"--trusted-ca-file={directory}/ca.crt",
        ]

    def store_flags(self, directory: Path) -> list[str]:
        if self.cluster_file:
            return [f"--fdb-cluster-file={self.cluster_file}"]
        if self.store == "memory":
            return []
        if not self.is_durable:
            return ["--fdb-cluster-file=simulated"]
        return [f"--data-dir={directory / 'data'}"]

    def new_tenant(self) -> str:
        """A name that no test has used."""
        return f"test-{self._session}-{next(self._tenants)}"

    def tenant_of(self, directory: Path) -> str:
        """The same name each time."""
        return f"test-{self._session}-{directory.name}"


@dataclass(frozen=True, slots=True)
class FetchServer:
    """A running daemon. Each keyspace is a tenant, which comes with the first call of its certificate."""

    endpoint: Fetch
    process: Process
    address: str
    directory: Path

    def connect(self) -> Client:
        """Another connection to one and the same tenant of this directory."""
        return self.connect_as(self.endpoint.tenant_of(self.directory))

    def connect_as(self, tenant: str) -> Client:
        return self.connect_with(certificates.issue(self.endpoint.authority, tenant))

    def connect_with(self, certificate: Certificate | None) -> Client:
        """A connection with this client certificate, or without any."""
        credentials = grpc.ssl_channel_credentials(
            root_certificates=self.endpoint.authority.certificate_pem,
            private_key=certificate.key_pem if certificate else None,
            certificate_chain=certificate.certificate_pem if certificate else None,
        )
        return Client(grpc.secure_channel(self.address, credentials, CHANNEL_OPTIONS))

    def empty_keyspace(self) -> Client:
        """A new tenant."""
        return self.connect_as(self.endpoint.new_tenant())

    @contextmanager
    def new_keyspace(self) -> Iterator[Client]:
        """A new tenant."""
        with self.empty_keyspace() as client:
            yield client


def _on_foundationdb() -> Fetch | Missing:
    cluster_file = os.environ.get("FETCH_TEST_FDB_CLUSTER_FILE")
    if cluster_file is None:
        reason = "there is no FoundationDB: set FETCH_TEST_FDB_CLUSTER_FILE to the cluster file of one that runs"
        return Missing("fetch-fdb", reason)
    return Fetch("fdb", Path(cluster_file))


SENDING = Fetch("sending")
"""fetch on a simulated FoundationDB, whose writes are all sent to another daemon."""

STORES = (
    Fetch("embedded"),
    Fetch("simulated"),
    _on_foundationdb(),
    *([SENDING] if "FETCH_TEST_SENDING" in os.environ else []),
)
"""fetch on each of its stores."""

MEMORY = Fetch("memory")
"""fetch's services on the storage engine in memory."""

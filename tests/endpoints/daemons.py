"""Several daemons on one FoundationDB, which know each other as peers and are killed and started again."""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

import grpc

from fetch.tls import certificates
from fetch.tls.certificates import Certificate
from tests.endpoints.client import Client
from tests.endpoints.fetch import SERVE, Fetch
from tests.endpoints.process import Process, free_port
from tests.endpoints.server import CHANNEL_OPTIONS


class Daemon:
    """A daemon at an address of its own, whichever process serves there."""

    def __init__(self, endpoint: Fetch, directory: Path, peers: Certificate, flags: Sequence[str]) -> None:
        directory.mkdir(parents=True)
        self._endpoint = endpoint
        self.address = f"127.0.0.1:{free_port()}"
        names = certificates.loopback_names()
        certificates.issue(peers, "daemon", peer=True, names=names).write(directory, "peer")
        peers.write(directory, "peers")
        self._command = [
            *SERVE,
            f"--listen-client-urls=https://{self.address}",
            f"--listen-peer-urls=https://127.0.0.1:{free_port()}",
            f"--peer-cert-file={directory}/peer.crt",
            f"--peer-key-file={directory}/peer.key",
            f"--peer-trusted-ca-file={directory}/peers.crt",
            *endpoint.tls_flags(directory),
            *endpoint.store_flags(directory),
            *flags,
        ]
        self._log = directory / "fetch.log"
        self.process = Process(self._command, self._log)

    def credentials(self, tenant: str) -> grpc.ChannelCredentials:
        """Those of a client of a tenant."""
        authority = self._endpoint.authority
        certificate = certificates.issue(authority, tenant)
        return grpc.ssl_channel_credentials(authority.certificate_pem, certificate.key_pem, certificate.certificate_pem)

    def wait_until_serving(self) -> None:
        """Returns once it serves."""
        channel = grpc.secure_channel(self.address, self.credentials("health"), CHANNEL_OPTIONS)
        with Client(channel) as client:
            self.process.wait_until_serving(client)

    def kill(self) -> None:
        """Ends the process without giving it a chance to do anything."""
        self.process.kill()

    def restart(self) -> None:
        """Starts another one."""
        self.process = Process(self._command, self._log)
        self.wait_until_serving()


@contextmanager
def daemons(endpoint: Fetch, directory: Path, count: int, flags: Sequence[str] = ()) -> Iterator[list[Daemon]]:
    """So many daemons that serve."""
    peers = certificates.authority("peers")
    with ExitStack() as stack:
        started = [Daemon(endpoint, directory / f"daemon-{number}", peers, flags) for number in range(count)]
        for daemon in started:
            stack.callback(lambda daemon=daemon: daemon.process.stop())
        for daemon in started:
            daemon.wait_until_serving()
        yield started

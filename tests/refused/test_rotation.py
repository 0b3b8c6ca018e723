"""Certificates rotate while clients go on; who is not to be trusted any more is not. On each transport."""

import contextlib
import datetime
import os
import signal
import socket
import ssl
import subprocess
import tempfile
import threading
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import grpc
import pytest
from cryptography import x509
from grpc._cython import cygrpc

from fetch.tls import certificates
from fetch.tls.certificates import Certificate
from tests.certificates.lists import list_of
from tests.endpoints.client import Client
from tests.endpoints.fetch import SERVE, Fetch, FetchServer
from tests.endpoints.process import free_port
from tests.refused.test_identity import CHOSEN, ETCDCTL, NATIVE, channel_of, ended_with, refusal, refused_anew

pytestmark = pytest.mark.skipif(
    os.environ.get("FETCH_WORKERS", "1") != "1", reason="the tests choose how many workers there are"
)


@pytest.fixture(scope="module", params=[CHOSEN] if CHOSEN else ["grpcio", NATIVE])
def transport(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


@dataclass(frozen=True, slots=True)
class Rotating:
    """A daemon whose certificate files are changed."""

    server: FetchServer
    metrics: str

    @property
    def directory(self) -> Path:
        return self.server.directory

    def renew(self, signer: Certificate | None = None) -> Certificate:
        """Writes a new certificate of the server, and its key."""
        signer = signer or self.server.endpoint.authority
        made = certificates.issue(signer, "server", server=True, names=certificates.loopback_names())
        made.write(self.directory, "server")
        return made

    def trust(self, *authorities: Certificate) -> None:
        bundle = b"".join(authority.certificate_pem for authority in authorities)
        (self.directory / "ca.crt").write_bytes(bundle)

    def revoke(self, *revoked: Certificate) -> None:
        (self.directory / "revoked.crl").write_bytes(list_of(self.server.endpoint.authority, revoked))

    def ask(self) -> None:
        """Has the files looked at now."""
        os.kill(self.server.process.pid, signal.SIGHUP)

    def served(self, address: str | None = None) -> int:
        """The serial number of the certificate that a new connection is served with."""
        context = ssl.create_default_context()
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        context.set_alpn_protocols(["h2"])
        host, _, port = (address or self.server.address).partition(":")
        with (
            socket.create_connection((host, int(port)), timeout=60) as connection,
            context.wrap_socket(connection) as secured,
        ):
            der = secured.getpeercert(binary_form=True)
        assert der is not None
        return x509.load_der_x509_certificate(der).serial_number

    def wait_until_served(self, certificate: Certificate) -> None:
        while self.served() != certificate.certificate.serial_number:
            pass

    def measured(self, beginning: str) -> dict[str, float]:
        """The metrics whose names begin so."""
        with urllib.request.urlopen(f"{self.metrics}/metrics", timeout=60) as answer:
            lines = [line for line in answer.read().decode().splitlines() if line.startswith(beginning)]
        return {name: float(value) for name, _, value in (line.rpartition(" ") for line in lines)}

    def wait_for_log(self, text: str) -> None:
        while text not in self.server.process.log():
            self.measured("fetch_")  # takes as long as the daemon needs to come to it


@pytest.fixture
def rotating(transport: str, tmp_path: Path) -> Iterator[Rotating]:
    with start(transport, tmp_path) as running:
        yield running


@contextlib.contextmanager
def start(transport: str, directory: Path, *flags: str) -> Iterator[Rotating]:
    metrics = f"http://127.0.0.1:{free_port()}"
    fetch = Fetch("embedded")
    (directory / "revoked.crl").write_bytes(list_of(fetch.authority))
    all_flags = [
        f"--transport={transport}",
        f"--listen-metrics-urls={metrics}",
        f"--client-crl-file={directory}/revoked.crl",
        *flags,
    ]
    with fetch.start(directory, all_flags) as server:
        yield Rotating(server, metrics)


@contextlib.contextmanager
def writing(client: Client) -> Iterator[list[grpc.RpcError]]:
    """Puts one key after the other meanwhile. What failed, which is complete behind the block."""
    failed: list[grpc.RpcError] = []
    enough = threading.Event()

    def write() -> None:
        while not enough.is_set():
            try:
                client.put(b"load", b"x")
            except grpc.RpcError as error:
                failed.append(error)

    thread = threading.Thread(target=write)
    thread.start()
    try:
        yield failed
    finally:
        enough.set()
        thread.join()


def test_a_renewed_certificate_is_served_and_no_call_fails(rotating: Rotating) -> None:
    with rotating.server.connect_as("alpha") as client, client.watch() as watch:
        watch.create(b"key")
        with writing(client) as failed:
            for _ in range(3):
                rotating.wait_until_served(rotating.renew())
                with rotating.server.connect_as("alpha") as another:
                    another.range(b"key")
        assert failed == []
        client.put(b"key", b"after")
        assert watch.receive().events[0].kv.value == b"after"
    assert (
        rotating.measured("fetch_certificates_reloads_total")['fetch_certificates_reloads_total{result="taken"}'] >= 3
    )


def test_half_a_renewal_changes_nothing_until_it_is_whole(rotating: Rotating) -> None:
    before = rotating.served()
    renewed = certificates.issue(
        rotating.server.endpoint.authority, "server", server=True, names=certificates.loopback_names()
    )
    (rotating.directory / "server.crt").write_bytes(renewed.certificate_pem)
    rotating.ask()
    rotating.wait_for_log("is not the key of the certificate")
    assert rotating.served() == before
    (rotating.directory / "server.key").write_bytes(renewed.key_pem)
    rotating.wait_until_served(renewed)


def test_an_authority_comes_and_another_goes_and_its_clients_with_it(rotating: Rotating) -> None:
    first, second = rotating.server.endpoint.authority, certificates.authority("second")
    old, new = certificates.issue(first, "old"), certificates.issue(second, "new")
    with rotating.server.connect_with(old) as going, going.watch() as ended:
        ended.create(b"key")
        rotating.trust(first, second)
        until(lambda: is_let_in(rotating.server, new))
        going.put(b"still", b"there")
        with rotating.server.connect_with(new) as staying, staying.watch() as watch:
            watch.create(b"key")
            (rotating.directory / "revoked.crl").write_bytes(list_of(second))
            rotating.trust(second)
            assert ended_with(ended) is grpc.StatusCode.UNAVAILABLE
            assert refusal(going)[0] is grpc.StatusCode.UNAVAILABLE
            staying.put(b"key", b"value")
            assert watch.receive().events[0].kv.value == b"value"
            assert refused_anew(rotating.server, old)[0] is grpc.StatusCode.UNAVAILABLE


def test_a_revoked_clients_calls_and_streams_end_and_it_does_not_come_back(rotating: Rotating, transport: str) -> None:
    revoked = certificates.issue(rotating.server.endpoint.authority, "revoked")
    with (
        rotating.server.connect_with(revoked) as client,
        client.watch() as watch,
        rotating.server.connect_as("neighbour") as neighbour,
        neighbour.watch() as others,
    ):
        watch.create(b"key")
        others.create(b"key")
        rotating.revoke(revoked)
        assert ended_with(watch) is grpc.StatusCode.UNAVAILABLE
        code, text = refused_anew(rotating.server, revoked)
        assert code is grpc.StatusCode.UNAVAILABLE
        # grpcio's handshake knows no lists: there it is the call that is refused
        assert ("etcdserver: the client certificate has been revoked" in text) == (transport == "grpcio")
        neighbour.put(b"key", b"value")
        assert others.receive().events[0].kv.value == b"value"


def test_the_same_client_comes_back_with_a_certificate_that_is_not_revoked(rotating: Rotating) -> None:
    authority = rotating.server.endpoint.authority
    revoked = certificates.issue(authority, "alpha")
    with rotating.server.connect_with(revoked) as client, client.watch() as watch:
        client.put(b"key", b"value")
        watch.create(b"another")
        rotating.revoke(revoked)
        assert ended_with(watch) is grpc.StatusCode.UNAVAILABLE
    with rotating.server.connect_with(certificates.issue(authority, "alpha")) as client:
        assert client.get(b"key").value == b"value"


def test_a_session_is_not_resumed_past_the_authority_that_let_it_in(rotating: Rotating) -> None:
    first, second = rotating.server.endpoint.authority, certificates.authority("second")
    old, new = certificates.issue(first, "old"), certificates.issue(second, "new")
    sessions = (
        ("grpc.ssl_session_cache", cygrpc.SSLSessionCacheLRU(4)),
        ("grpc.ssl_target_name_override", "localhost"),
    )
    with Client(channel_of(rotating.server, old, *sessions)) as client:
        client.put(b"key")
    (rotating.directory / "revoked.crl").write_bytes(list_of(second))
    rotating.trust(second)
    until(lambda: is_let_in(rotating.server, new))
    code, text = refused_anew(rotating.server, old, *sessions)
    assert code is grpc.StatusCode.UNAVAILABLE
    assert "etcdserver" not in text, "the handshake refuses it, and not only the call"


@pytest.mark.parametrize("transport", ["grpcio"])
def test_ports_for_http_are_served_with_what_is_new(transport: str, tmp_path: Path) -> None:
    address = f"127.0.0.1:{free_port()}"
    with start(transport, tmp_path, f"--listen-client-http-urls=https://{address}") as rotating:
        first, second = rotating.server.endpoint.authority, certificates.authority("second")
        old, new = certificates.issue(first, "old"), certificates.issue(second, "new")
        assert [version(rotating, address, client) for client in (old, new)] == [True, False]
        renewed = rotating.renew(second)
        (tmp_path / "revoked.crl").write_bytes(list_of(second))
        rotating.trust(second)
        until(lambda: rotating.served(address) == renewed.certificate.serial_number)
        assert [version(rotating, address, client) for client in (old, new)] == [False, True]


def version(rotating: Rotating, address: str, client: Certificate) -> bool:
    """Whether this client is told the version by HTTP."""
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    client.write(rotating.directory, "client")
    context.load_cert_chain(rotating.directory / "client.crt", rotating.directory / "client.key")
    try:
        with urllib.request.urlopen(f"https://{address}/version", timeout=60, context=context) as answer:
            return answer.status == 200
    except OSError:
        return False


def test_what_ends_when_is_a_metric(rotating: Rotating) -> None:
    measured = rotating.measured("fetch_certificate_expiry_timestamp_seconds")
    file = f"{rotating.directory}/server.crt"
    name = f'fetch_certificate_expiry_timestamp_seconds{{file="{file}",kind="certificate",subject="CN=server"}}'
    certificate = x509.load_pem_x509_certificate(Path(file).read_bytes())
    assert measured[name] == certificate.not_valid_after_utc.timestamp()


@pytest.mark.skipif((os.cpu_count() or 1) < 2, reason="two workers need two processors")
def test_every_worker_takes_what_is_new(transport: str, tmp_path: Path) -> None:
    with start(transport, tmp_path, "--workers=2") as rotating:
        renewed = rotating.renew()
        rotating.ask()
        # a worker that starts late has read what is new already, so the log does not tell how many have taken it
        until(lambda: {rotating.served() for _ in range(20)} == {renewed.certificate.serial_number})


@pytest.mark.skipif(not ETCDCTL.is_file(), reason="there is no etcdctl beside etcd")
def test_etcds_own_client_moves_from_one_authority_to_the_next(rotating: Rotating, tmp_path: Path) -> None:
    first, second = rotating.server.endpoint.authority, certificates.authority("second")
    client = tmp_path / "client"
    client.mkdir()

    def etcdctl(*arguments: str) -> str:
        files = [f"--cacert={client}/ca.crt", f"--cert={client}/client.crt", f"--key={client}/client.key"]
        command = [ETCDCTL, f"--endpoints=https://{rotating.server.address}", *files, *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout

    (client / "ca.crt").write_bytes(first.certificate_pem + second.certificate_pem)
    certificates.issue(first, "alpha").write(client, "client")
    assert etcdctl("put", "key", "value") == "OK\n"
    rotating.trust(first, second)
    rotating.wait_until_served(rotating.renew(second))
    assert etcdctl("get", "key", "--print-value-only") == "value\n"
    certificates.issue(second, "alpha").write(client, "client")
    assert etcdctl("get", "key", "--print-value-only") == "value\n"


@pytest.mark.parametrize("transport", ["grpcio"])
def test_what_has_expired_at_start_is_one_line(transport: str) -> None:
    authority = certificates.authority("tests")
    with tempfile.TemporaryDirectory() as directory:
        where = Path(directory)
        passed = datetime.timedelta(days=-1)
        certificates.issue(authority, "server", server=True, valid=passed).write(where, "server")
        authority.write(where, "ca")
        command = [
            *SERVE,
            f"--listen-client-urls=https://127.0.0.1:{free_port()}",
            *(f"--cert-file={where}/server.crt", f"--key-file={where}/server.key", f"--trusted-ca-file={where}/ca.crt"),
            f"--data-dir={where}/data",
            f"--transport={transport}",
        ]
        ended = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    (line,) = ended.stderr.splitlines()
    assert ended.returncode == 2
    assert "server.crt has expired" in line


def until(holds: Callable[[], bool]) -> None:
    while not holds():
        pass


def is_let_in(server: FetchServer, certificate: Certificate) -> bool:
    with server.connect_with(certificate) as client:
        try:
            client.range(b"key")
        except grpc.RpcError:
            return False
    return True

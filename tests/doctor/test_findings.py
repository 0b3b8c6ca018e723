"""`fetch doctor` finds what is wrong, says what to do in a line, and ends with 1; what is well is told as such."""

import datetime
import socket
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import lmdb
import pytest

from fetch.doctor import clocks
from fetch.engine.layout import format_row
from fetch.tls import certificates
from fetch.tls.certificates import Certificate
from tests.endpoints.fetch import Fetch
from tests.endpoints.process import free_port

DAYS = datetime.timedelta(days=1)


@dataclass
class Installed:
    """What a daemon would be started with. A test breaks some of it."""

    directory: Path
    authority: Certificate = field(default_factory=lambda: certificates.authority("tests"))
    port: int = field(default_factory=free_port)

    def serve_with(self, certificate: Certificate) -> None:
        certificate.write(self.directory, "server")

    def certificate(self, valid: datetime.timedelta = 300 * DAYS, **options: object) -> Certificate:
        names = certificates.loopback_names()
        return certificates.issue(self.authority, "server", server=True, valid=valid, **{"names": names, **options})

    def doctor(self, *flags: str) -> tuple[int, Sequence[str]]:
        """The exit code, and the lines."""
        there = [f"--listen-client-urls=https://127.0.0.1:{self.port}", f"--data-dir={self.directory / 'data'}"]
        files = [
            f"--cert-file={self.directory}/server.crt",
            f"--key-file={self.directory}/server.key",
            f"--trusted-ca-file={self.directory}/ca.crt",
        ]
        command = [sys.executable, "-m", "fetch", "doctor", *there, *files, *flags]
        ended = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
        assert ended.stderr == ""
        return ended.returncode, ended.stdout.splitlines()

    def wrong(self, *flags: str) -> str:
        """The one line that says what is wrong."""
        code, lines = self.doctor(*flags)
        found = [line for line in lines if line.startswith("wrong")]
        assert (code, len(found)) == (1, 1), lines
        return found[0]


@pytest.fixture
def installed(tmp_path: Path) -> Installed:
    it = Installed(tmp_path)
    it.authority.write(tmp_path, "ca")
    it.serve_with(it.certificate())
    return it


def test_nothing_is_wrong_where_all_is_well(installed: Installed) -> None:
    code, lines = installed.doctor()
    assert code == 0, lines
    assert {line.split()[1] for line in lines} == {
        "configuration",
        "certificates",
        "clocks",
        "store",
        "network",
        "limits",
    }


def test_nothing_is_made(installed: Installed) -> None:
    installed.doctor()
    assert not (installed.directory / "data").exists()


def test_a_wrong_setting_is_found(installed: Installed) -> None:
    assert "--max-txn-ops" in installed.wrong("--max-txn-ops=0")


def test_an_interceptor_that_is_not_there_is_found(installed: Installed) -> None:
    assert "nobody_has_it" in installed.wrong("--interceptors=+nobody_has_it")


def test_a_certificate_that_ends_soon_is_found(installed: Installed) -> None:
    installed.serve_with(installed.certificate(valid=10 * DAYS))
    assert "ends in 9 days; renew it" in installed.wrong()


def test_a_certificate_that_has_ended_is_found(installed: Installed) -> None:
    installed.serve_with(installed.certificate(valid=-DAYS))
    assert "has expired" in installed.wrong()


def test_a_certificate_without_the_name_that_is_advertised_is_found(installed: Installed) -> None:
    url = f"https://localhost.localdomain:{installed.port}"
    wrong = installed.doctor(f"--advertise-client-urls={url}")[1]
    assert [line for line in wrong if line.startswith("wrong") and f"does not have the name in {url}" in line]


def test_a_key_of_another_certificate_is_found(installed: Installed) -> None:
    other = installed.certificate()
    (installed.directory / "server.key").write_bytes(other.key_pem)
    assert "key" in installed.wrong().lower()


def test_a_key_that_anybody_may_read_is_found(installed: Installed) -> None:
    (installed.directory / "server.key").chmod(0o644)
    assert "chmod o= " in installed.wrong()


def test_a_certificate_for_clients_is_found(installed: Installed) -> None:
    names = certificates.loopback_names()
    installed.serve_with(certificates.issue(installed.authority, "server", names=names))
    assert "is not for servers" in installed.wrong()


def test_an_authority_that_is_none_is_found(installed: Installed) -> None:
    with (installed.directory / "ca.crt").open("ab") as file:
        file.write(installed.certificate().certificate_pem)
    assert "is no authority" in installed.wrong()


def test_certificates_of_daemons_among_each_other_are_looked_at(installed: Installed) -> None:
    peers = certificates.authority("peers")
    peers.write(installed.directory, "peer-ca")
    names = certificates.loopback_names()
    certificates.issue(peers, "daemon", peer=True, names=names, valid=5 * DAYS).write(installed.directory, "peer")
    cluster = installed.directory / "fdb.cluster"
    cluster.write_text("none:none@127.0.0.1:1\n")
    command = [
        sys.executable,
        "-m",
        "fetch",
        "doctor",
        "--listen-client-urls=http://127.0.0.1:1",
        "--anonymous-tenant=a",
    ]
    command += [f"--fdb-cluster-file={cluster}", f"--listen-peer-urls=https://127.0.0.1:{free_port()}"]
    command += [f"--peer-cert-file={installed.directory}/peer.crt", f"--peer-key-file={installed.directory}/peer.key"]
    command += [f"--peer-trusted-ca-file={installed.directory}/peer-ca.crt"]
    told = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60).stdout
    assert f"the certificate CN=daemon in {installed.directory}/peer.crt ends in 4 days" in told


def test_a_host_that_nobody_knows_is_found(installed: Installed) -> None:
    code, lines = installed.doctor("--advertise-client-urls=https://nobody.invalid:2379")
    assert code == 1
    assert [line for line in lines if "nobody.invalid, which is advertised, cannot be found" in line]


def test_an_address_of_another_machine_is_found(installed: Installed) -> None:
    lines = installed.doctor(f"--listen-metrics-urls=http://192.0.2.1:{free_port()}")[1]
    assert [line for line in lines if line.startswith("wrong") and "192.0.2.1" in line]


def test_a_port_that_is_taken_is_told(installed: Installed) -> None:
    with socket.create_server(("127.0.0.1", installed.port)):
        lines = installed.doctor()[1]
    assert [line for line in lines if line.startswith("note") and "listens on" in line]


def test_a_store_that_is_there_is_looked_into(installed: Installed) -> None:
    with Fetch("embedded").start(installed.directory) as server, server.connect() as client:
        client.put(b"key", b"value")
    Installed.serve_with(installed, installed.certificate())
    installed.authority.write(installed.directory, "ca")
    lines = installed.doctor()[1]
    assert [line for line in lines if line.startswith("ok") and "can be used: format 1" in line]


def test_a_store_that_is_served_is_let_be(installed: Installed) -> None:
    with Fetch("embedded", authority=installed.authority).start(installed.directory):
        assert [line for line in installed.doctor()[1] if "is served by a daemon now" in line]


def test_a_store_of_a_newer_release_is_found(installed: Installed) -> None:
    with Fetch("embedded", authority=installed.authority).start(installed.directory) as server:
        server.connect().put(b"key", b"value")
    data = str(installed.directory / "data")
    with lmdb.open(data, create=False) as environment, environment.begin(write=True) as transaction:
        transaction.put(format_row(b""), b"99")
    assert "has the format 99" in installed.wrong()


def test_a_cluster_file_that_is_not_there_is_found(installed: Installed) -> None:
    command = [
        sys.executable,
        "-m",
        "fetch",
        "doctor",
        "--listen-client-urls=http://127.0.0.1:1",
        "--anonymous-tenant=a",
    ]
    command += [f"--fdb-cluster-file={installed.directory}/none.cluster"]
    ended = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert ended.returncode == 1
    assert "wrong store" in ended.stdout


def test_whether_the_clock_is_kept_right_is_told_without_changing_it() -> None:
    assert clocks.is_synchronized() in (True, False, None)

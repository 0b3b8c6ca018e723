"""Versions, cipher suites and pings, as etcd's flags of these names have them; on each transport as far as it can."""

import contextlib
import socket
import ssl
import struct
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from fetch.tls import certificates
from tests.endpoints.fetch import SERVE, Fetch, FetchServer
from tests.endpoints.process import free_port
from tests.refused.test_identity import NATIVE, transport

__all__ = ["transport"]  # a fixture

AES_256 = "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384"
SECONDS = 60
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\0\0\0\4\0\0\0\0\0"
PING, GOAWAY, ACK = 6, 7, 1
CALM = 11
"""HTTP/2's ENHANCE_YOUR_CALM."""


def agreed(server: FetchServer, address: str, newest: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3) -> tuple[str, str]:
    """The version and the cipher suite of a new connection; OSError if there is none."""
    context = ssl.create_default_context(cadata=server.endpoint.authority.certificate_pem.decode())
    context.maximum_version = newest
    context.set_alpn_protocols(["h2"])
    certificates.issue(server.endpoint.authority, "client").write(server.directory, "client")
    context.load_cert_chain(server.directory / "client.crt", server.directory / "client.key")
    host, _, port = address.partition(":")
    with (
        socket.create_connection((host, int(port)), timeout=SECONDS) as connection,
        context.wrap_socket(connection, server_hostname="localhost") as secured,
    ):
        version, cipher = secured.version(), secured.cipher()
    assert version is not None
    assert cipher is not None
    return version, cipher[0]


@contextlib.contextmanager
def serving(directory: Path, *flags: str) -> Iterator[tuple[FetchServer, list[str]]]:
    """A daemon on the native transport; its address for gRPC, and the one for HTTP."""
    http = f"127.0.0.1:{free_port()}"
    all_flags = ["--transport=native", f"--listen-client-http-urls=https://{http}", *flags]
    with Fetch("embedded").start(directory, all_flags) as server:
        yield server, [server.address, http]


@pytest.mark.parametrize("transport", [NATIVE], indirect=False)
def test_the_oldest_version_is_the_one_that_was_chosen(transport: str, tmp_path: Path) -> None:
    with serving(tmp_path, "--tls-min-version=TLS1.3") as (server, addresses):
        for address in addresses:
            assert agreed(server, address)[0] == "TLSv1.3"
            with pytest.raises(OSError, match=r"alert|EOF"):
                agreed(server, address, ssl.TLSVersion.TLSv1_2)


@pytest.mark.parametrize("transport", [NATIVE], indirect=False)
def test_the_newest_version_and_its_suites_are_those_that_were_chosen(transport: str, tmp_path: Path) -> None:
    with serving(tmp_path, "--tls-max-version=TLS1.2", f"--cipher-suites={AES_256}") as (server, addresses):
        for address in addresses:
            assert agreed(server, address) == ("TLSv1.2", "ECDHE-ECDSA-AES256-GCM-SHA384")


@pytest.mark.parametrize("flag", ["--tls-min-version=TLS1.3", "--tls-max-version=TLS1.2", f"--cipher-suites={AES_256}"])
def test_what_grpcio_cannot_leave_out_is_one_line_at_start(flag: str, tmp_path: Path) -> None:
    assert "--transport native can" in complaint(tmp_path, "--transport=grpcio", flag)


@pytest.mark.parametrize("name", ["TLS_RSA_WITH_AES_128_CBC_SHA", "none"])
def test_a_suite_that_cannot_be_served_is_one_line_at_start(name: str, tmp_path: Path) -> None:
    line = complaint(tmp_path, f"--cipher-suites={name}")
    assert f"{name} cannot be served" in line
    assert AES_256 in line


def complaint(directory: Path, *flags: str) -> str:
    """The one line of a daemon that does not start."""
    fetch = Fetch("embedded")
    url = f"--listen-client-urls=https://127.0.0.1:{free_port()}"
    command = [*SERVE, url, *fetch.tls_flags(directory), *fetch.store_flags(directory), *flags]
    ended = subprocess.run(command, capture_output=True, text=True, check=False, timeout=SECONDS)
    assert ended.returncode == 2
    (line,) = ended.stderr.splitlines()
    return line


@contextlib.contextmanager
def plain(transport: str, directory: Path, *flags: str) -> Iterator[socket.socket]:
    """A connection without TLS, whose client has said the least that HTTP/2 asks for, and never answers by itself."""
    address = ("127.0.0.1", free_port())
    listener = f"http://{address[0]}:{address[1]}"
    all_flags = [f"--transport={transport}", "--anonymous-tenant=guest", *flags]
    with (
        Fetch("embedded").start(directory, all_flags, [listener]),
        socket.create_connection(address, timeout=SECONDS) as connection,
    ):
        connection.sendall(PREFACE)
        yield connection


def frames(connection: socket.socket) -> Iterator[tuple[int, int, bytes]]:
    """Type, flags and content of the frames that come, to the end of the connection."""
    with connection.makefile("rb") as stream:
        while len(head := stream.read(9)) == 9:
            length, kind, flags = struct.unpack(">I", b"\0" + head[:3])[0], head[3], head[4]
            yield kind, flags, stream.read(length)


def test_a_client_that_does_not_answer_pings_loses_its_connection(transport: str, tmp_path: Path) -> None:
    with plain(transport, tmp_path, "--grpc-keepalive-interval=1s", "--grpc-keepalive-timeout=1s") as connection:
        kinds = [kind for kind, _, _ in frames(connection)]  # ends with the connection
    assert PING in kinds


def ping(connection: socket.socket, count: int) -> None:
    for number in range(count):
        connection.sendall(b"\0\0\x08\x06\0\0\0\0\0" + struct.pack(">Q", number))


@pytest.mark.parametrize("transport", ["grpcio"], indirect=False)
def test_a_client_that_pings_too_often_loses_its_connection_on_grpcio(transport: str, tmp_path: Path) -> None:
    with plain(transport, tmp_path, "--grpc-keepalive-min-time=1h") as connection:
        ping(connection, 10)
        (content,) = [content for kind, _, content in frames(connection) if kind == GOAWAY]
    assert struct.unpack(">I", content[4:8])[0] == CALM


def test_where_there_is_no_bound_every_ping_is_answered(transport: str, tmp_path: Path) -> None:
    with plain(transport, tmp_path, "--grpc-keepalive-min-time=0") as connection:
        ping(connection, 10)
        answered = 0
        for kind, flags, _ in frames(connection):
            assert kind != GOAWAY
            answered += kind == PING and flags == ACK
            if answered == 10:
                return
    raise AssertionError("the connection has ended")

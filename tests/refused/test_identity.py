"""Nobody is taken for another, and nobody for longer than their certificate says. On each transport."""

import datetime
import importlib.util
import os
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from cryptography import x509
from grpc._cython import cygrpc

from fetch.api.rpc_pb2 import LeaseKeepAliveRequest
from fetch.tls import certificates
from fetch.tls.certificates import Certificate
from tests.certificates.subjects import common_name, issue_to
from tests.endpoints.client import Client, Conversation, WatchStream
from tests.endpoints.etcd import find_etcd
from tests.endpoints.fetch import Fetch, FetchServer
from tests.endpoints.server import CHANNEL_OPTIONS

NATIVE = pytest.param(
    "native",
    marks=pytest.mark.skipif(
        importlib.util.find_spec("fetch_transport") is None, reason="fetch-transport is not installed"
    ),
)
CHOSEN = os.environ.get("FETCH_TRANSPORT")
"""The one that all tests run on, where they have been told."""
SHORT = datetime.timedelta(seconds=4)
"""Long enough for a few calls, and waited for."""
ETCDCTL = Path(getattr(find_etcd(), "binary", "none")).with_name("etcdctl")
EXPIRED = "the client certificate has expired"


@pytest.fixture(scope="module", params=[CHOSEN] if CHOSEN else ["grpcio", NATIVE])
def transport(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


@pytest.fixture(scope="module")
def server(transport: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[FetchServer]:
    # one worker: sessions are resumed by the one that began them
    flags = [f"--transport={transport}", "--workers=1"]
    with Fetch("embedded").start(tmp_path_factory.mktemp(transport), flags) as running:
        yield running


def refusal(client: Client) -> tuple[grpc.StatusCode, str]:
    """How a call of this client is refused: code and text."""
    with pytest.raises(grpc.RpcError) as caught:
        client.range(b"secret")
    return caught.value.code(), caught.value.details() or ""


def test_a_name_does_not_end_at_a_nul(server: FetchServer) -> None:
    with server.connect_as("victim") as victim:
        victim.put(b"secret", b"value")
    with server.connect_as("victim\0.attacker.example") as attacker:
        code, text = refusal(attacker)
    assert code is grpc.StatusCode.PERMISSION_DENIED
    assert "not a valid tenant name" in text


@pytest.mark.parametrize(
    ("principal", "name"),
    [
        ("san-uri", x509.UniformResourceIdentifier("victim\0.attacker.example")),
        ("san-dns", x509.DNSName("victim\0.attacker.example")),
    ],
)
def test_an_alternative_name_does_not_end_at_a_nul(
    transport: str, tmp_path: Path, principal: str, name: x509.GeneralName
) -> None:
    fetch = Fetch("embedded")
    certificate = certificates.issue(fetch.authority, "victim", names=[name])
    flags = [f"--transport={transport}", f"--principal={principal}"]
    with fetch.start(tmp_path, flags) as server, server.connect_with(certificate) as attacker:
        assert refusal(attacker)[0] is grpc.StatusCode.PERMISSION_DENIED


@pytest.mark.parametrize("names", [("victim", "attacker"), ("attacker", "victim")])
def test_of_two_names_none_is_chosen(server: FetchServer, names: tuple[str, str]) -> None:
    certificate = issue_to(server.endpoint.authority, [common_name(name) for name in names])
    with server.connect_with(certificate) as attacker:
        code, text = refusal(attacker)
    assert code is grpc.StatusCode.PERMISSION_DENIED
    assert "more than one principal" in text


def test_what_every_clusters_client_is_called_is_no_tenant(server: FetchServer) -> None:
    with server.connect_as("kube-apiserver-etcd-client") as one_of_many:
        code, text = refusal(one_of_many)
    assert code is grpc.StatusCode.PERMISSION_DENIED
    assert "give each cluster one of its own, or list this one in --tenants" in text


def test_such_a_name_is_a_tenant_where_it_is_listed(transport: str, tmp_path: Path) -> None:
    name = "kube-apiserver-etcd-client"
    flags = [f"--transport={transport}", f"--tenants={name}"]
    with Fetch("embedded").start(tmp_path, flags) as server, server.connect_as(name) as client:
        assert client.put(b"key").header.revision == 2


# a connection's rights end with its certificate


def test_watches_keepalives_and_calls_end_with_the_certificate(server: FetchServer) -> None:
    certificate = certificates.issue(server.endpoint.authority, "passing", valid=SHORT)
    with server.connect_with(certificate) as client, client.watch() as watch, client.lease_keep_alive() as keepalive:
        watch.create(b"key")
        lease = client.lease_grant(600).ID
        keepalive.send(LeaseKeepAliveRequest(ID=lease))
        assert keepalive.receive().TTL == 600
        codes = [ended_with(watch), ended_with(keepalive), refusal(client)[0]]
    # UNAVAILABLE is what etcd's client resumes a watch after
    assert codes == [grpc.StatusCode.UNAVAILABLE] * 3


def test_the_connection_ends_so_that_clients_connect_with_their_next_certificate(server: FetchServer) -> None:
    certificate = certificates.issue(server.endpoint.authority, "passing", valid=SHORT)
    channel = channel_of(server, certificate)
    lost = threading.Event()
    with Client(channel) as client:
        client.put(b"key")
        channel.subscribe(lambda state: state is grpc.ChannelConnectivity.READY or lost.set(), try_to_connect=False)
        lost.clear()
        with client.watch() as watch:
            watch.create(b"key")
            assert ended_with(watch) is grpc.StatusCode.UNAVAILABLE
        assert lost.wait(30)


@pytest.mark.skipif(not ETCDCTL.is_file(), reason="there is no etcdctl beside etcd")
def test_etcds_own_client_goes_on_with_the_certificate_that_it_has_by_then(server: FetchServer, tmp_path: Path) -> None:
    passing = certificates.issue(server.endpoint.authority, "rotated", valid=SHORT)
    passing.write(tmp_path, "client")
    server.endpoint.authority.write(tmp_path, "ca")
    files = [f"--cacert={tmp_path}/ca.crt", f"--cert={tmp_path}/client.crt", f"--key={tmp_path}/client.key"]
    command = [ETCDCTL, f"--endpoints=https://{server.address}", *files, "watch", "--rev=1", "key"]
    with (
        subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as etcdctl,
        server.connect_with(passing) as client,
        client.watch() as watch,
    ):
        try:
            assert etcdctl.stdout is not None
            watch.create(b"another")
            client.put(b"key", b"before")
            assert next(line for line in etcdctl.stdout if line == "before\n")
            certificates.issue(server.endpoint.authority, "rotated").write(tmp_path, "client")
            assert ended_with(watch) is grpc.StatusCode.UNAVAILABLE
            with server.connect_as("rotated") as other:
                other.put(b"key", b"after")
            assert next(line for line in etcdctl.stdout if line == "after\n")
        finally:
            etcdctl.kill()


def test_a_resumed_session_has_no_more_rights_than_its_certificate(server: FetchServer, transport: str) -> None:
    certificate = certificates.issue(server.endpoint.authority, "passing", valid=SHORT)
    # sessions are kept by the server's name, which an address is not
    sessions = (
        ("grpc.ssl_session_cache", cygrpc.SSLSessionCacheLRU(4)),
        ("grpc.ssl_target_name_override", "localhost"),
    )
    with Client(channel_of(server, certificate, *sessions)) as client, client.watch() as watch:
        watch.create(b"key")
        assert ended_with(watch) is grpc.StatusCode.UNAVAILABLE
    while time.time() < certificate.certificate.not_valid_after_utc.timestamp() + 1:
        refused_anew(server, certificate)  # to TLS a certificate is valid until that second has passed
    code, text = refused_anew(server, certificate, *sessions)
    assert code is grpc.StatusCode.UNAVAILABLE
    # grpcio's server resumes and has no way not to, so there it is the call that is refused, and not the handshake
    assert (EXPIRED in text) == (transport == "grpcio")


def refused_anew(
    server: FetchServer, certificate: Certificate, *options: tuple[str, object]
) -> tuple[grpc.StatusCode, str]:
    with Client(channel_of(server, certificate, *options)) as client:
        return refusal(client)


def channel_of(server: FetchServer, certificate: Certificate, *options: tuple[str, object]) -> grpc.Channel:
    credentials = grpc.ssl_channel_credentials(
        server.endpoint.authority.certificate_pem, certificate.key_pem, certificate.certificate_pem
    )
    return grpc.secure_channel(server.address, credentials, [*CHANNEL_OPTIONS, *options])


def ended_with(stream: WatchStream | Conversation[Any, Any]) -> grpc.StatusCode:
    with pytest.raises(grpc.RpcError) as ended:
        stream.receive()
    return ended.value.code()


def test_a_servers_certificate_is_not_a_clients(server: FetchServer) -> None:
    certificate = certificates.issue(server.endpoint.authority, "victim", server=True)
    with server.connect_with(certificate) as client:
        assert refusal(client)[0] is grpc.StatusCode.UNAVAILABLE

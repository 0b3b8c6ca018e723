"""Who may connect: clients with a certificate of the trusted authority, whose principal can be a tenant."""

import datetime
import ipaddress
import os
import socket
import ssl
from pathlib import Path

import grpc
import pytest
from cryptography import x509

from fetch.tls import certificates
from tests.endpoints.client import Client
from tests.endpoints.fetch import Fetch, FetchServer
from tests.endpoints.process import free_port

DAY = datetime.timedelta(days=1)


def refused_with(client: Client) -> tuple[grpc.StatusCode, str]:
    """How a call of this connection is refused: code and text."""
    with client, pytest.raises(grpc.RpcError) as caught:
        client.range(b"a")
    return caught.value.code(), caught.value.details() or ""


def still_serves(server: FetchServer) -> bool:
    with server.empty_keyspace() as client:
        return client.put(b"a").header.revision == 2


def test_a_client_without_a_certificate_is_refused(fetch: FetchServer) -> None:
    assert refused_with(fetch.connect_with(None))[0] == grpc.StatusCode.UNAVAILABLE


def test_a_client_whose_certificate_is_of_another_authority_is_refused(fetch: FetchServer) -> None:
    stranger = certificates.issue(certificates.authority("another"), "alpha")
    assert refused_with(fetch.connect_with(stranger))[0] == grpc.StatusCode.UNAVAILABLE


def test_a_client_whose_authority_has_the_same_name_is_refused(fetch: FetchServer) -> None:
    stranger = certificates.issue(certificates.authority("tests"), "alpha")
    assert refused_with(fetch.connect_with(stranger))[0] == grpc.StatusCode.UNAVAILABLE


def test_a_client_whose_certificate_has_expired_is_refused(fetch: FetchServer) -> None:
    expired = certificates.issue(fetch.endpoint.authority, "alpha", valid=-DAY)
    assert refused_with(fetch.connect_with(expired))[0] == grpc.StatusCode.UNAVAILABLE


def test_a_client_without_tls_is_refused(fetch: FetchServer) -> None:
    assert refused_with(Client(grpc.insecure_channel(fetch.address)))[0] == grpc.StatusCode.UNAVAILABLE


def test_a_certificate_without_a_principal_is_refused(fetch: FetchServer) -> None:
    nameless = certificates.issue(fetch.endpoint.authority, None, names=[x509.DNSName("somewhere")])
    code, text = refused_with(fetch.connect_with(nameless))
    assert code == grpc.StatusCode.PERMISSION_DENIED
    assert "principal" in text


@pytest.mark.parametrize("name", ["with space", "Ä", "*", "a,b", "a\tb"])
def test_a_principal_that_cannot_name_a_tenant_is_refused(fetch: FetchServer, name: str) -> None:
    certificate = certificates.issue(fetch.endpoint.authority, name)
    assert refused_with(fetch.connect_with(certificate))[0] == grpc.StatusCode.PERMISSION_DENIED


def test_a_refused_principal_may_not_watch_either(fetch: FetchServer) -> None:
    certificate = certificates.issue(fetch.endpoint.authority, "with space")
    with fetch.connect_with(certificate) as client, client.watch() as watch, pytest.raises(grpc.RpcError) as caught:
        watch.create(b"a")
    assert caught.value.code() == grpc.StatusCode.PERMISSION_DENIED


def test_health_needs_no_principal(fetch: FetchServer) -> None:
    nameless = certificates.issue(fetch.endpoint.authority, None, names=[x509.DNSName("somewhere")])
    with fetch.connect_with(nameless) as client:
        assert client.health().status == 1


# what comes over the wire


@pytest.mark.parametrize("garbage", [b"GET / HTTP/1.1\r\n\r\n", b"\0" * 1000, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", b""])
def test_garbage_on_the_port_harms_no_one(fetch: FetchServer, garbage: bytes) -> None:
    host, port = fetch.address.split(":")
    with socket.create_connection((host, int(port)), timeout=60) as connection:
        connection.sendall(garbage)
        assert still_serves(fetch)


def test_random_garbage_on_many_connections_harms_no_one(fetch: FetchServer) -> None:
    host, port = fetch.address.split(":")
    for _ in range(50):
        with socket.create_connection((host, int(port)), timeout=60) as connection:
            connection.sendall(os.urandom(500))
    assert still_serves(fetch)


def handshake(server: FetchServer, version: ssl.TLSVersion, directory: Path) -> str | None:
    """The version that is agreed on with a client that speaks only this one."""
    certificate = certificates.issue(server.endpoint.authority, "alpha")
    certificate.write(directory, "client")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    # OpenSSL itself shuns what is older than 1.2
    context.set_ciphers("ALL:@SECLEVEL=0")
    context.load_verify_locations(cadata=server.endpoint.authority.certificate_pem.decode())
    context.load_cert_chain(directory / "client.crt", directory / "client.key")
    context.set_alpn_protocols(["h2"])
    context.minimum_version = context.maximum_version = version
    host, port = server.address.split(":")
    with (
        socket.create_connection((host, int(port)), timeout=60) as connection,
        context.wrap_socket(connection, server_hostname=host) as wrapped,
    ):
        return wrapped.version()


@pytest.mark.parametrize(
    ("version", "name"), [(ssl.TLSVersion.TLSv1_2, "TLSv1.2"), (ssl.TLSVersion.TLSv1_3, "TLSv1.3")]
)
def test_current_versions_of_tls_are_spoken(
    fetch: FetchServer, version: ssl.TLSVersion, name: str, tmp_path: Path
) -> None:
    assert handshake(fetch, version, tmp_path) == name


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_old_versions_of_tls_are_refused(fetch: FetchServer, tmp_path: Path) -> None:
    with pytest.raises((ssl.SSLError, ConnectionResetError)) as caught:
        handshake(fetch, ssl.TLSVersion.TLSv1_1, tmp_path)
    # it is the server that refuses, not this client
    assert "NO_PROTOCOLS_AVAILABLE" not in str(caught.value)


# listeners and principals by setting


def test_callers_of_an_http_listener_are_the_anonymous_tenant(tmp_path: Path) -> None:
    address = f"127.0.0.1:{free_port()}"
    fetch = Fetch("embedded")
    with fetch.start(tmp_path, ["--anonymous-tenant=nobody"], listeners=[f"http://{address}"]) as server:
        with Client(grpc.insecure_channel(address)) as client:
            client.put(b"a", b"1")
        with server.connect_as("nobody") as named:
            assert named.get(b"a").value == b"1"


EXPECTED = ("expected", "spiffe://cluster/expected")


@pytest.mark.parametrize(
    ("principal", "common_name", "names"),
    [
        ("cn", "expected", [x509.DNSName("other")]),
        ("san-dns", "other", [x509.DNSName("expected")]),
        ("san-dns", None, [x509.UniformResourceIdentifier("spiffe://cluster/other"), x509.DNSName("expected")]),
        ("san-dns", None, [x509.RFC822Name("other@somewhere"), x509.DNSName("expected")]),
        ("san-dns", None, [x509.IPAddress(ipaddress.ip_address("127.0.0.1")), x509.DNSName("expected")]),
        ("san-uri", "other", [x509.UniformResourceIdentifier("spiffe://cluster/expected")]),
        ("san-uri", None, [x509.DNSName("other"), x509.UniformResourceIdentifier("spiffe://cluster/expected")]),
    ],
)
def test_the_principal_is_taken_from_where_the_setting_says(
    tmp_path: Path, principal: str, common_name: str | None, names: list[x509.GeneralName]
) -> None:
    fetch = Fetch("embedded")
    certificate = certificates.issue(fetch.authority, common_name, names=names)
    flags = [f"--principal={principal}", f"--tenants={','.join(EXPECTED)}"]
    with fetch.start(tmp_path, flags) as server, server.connect_with(certificate) as client:
        assert client.put(b"a").header.revision == 2


@pytest.mark.parametrize("principal", ["san-dns", "san-uri"])
def test_a_common_name_does_not_stand_in_for_a_missing_alternative_name(tmp_path: Path, principal: str) -> None:
    fetch = Fetch("embedded")
    certificate = certificates.issue(fetch.authority, "expected")
    with fetch.start(tmp_path, [f"--principal={principal}", f"--tenants={','.join(EXPECTED)}"]) as server:
        assert refused_with(server.connect_with(certificate))[0] == grpc.StatusCode.PERMISSION_DENIED


def test_a_tenant_that_is_not_listed_is_refused(tmp_path: Path) -> None:
    fetch = Fetch("embedded")
    with fetch.start(tmp_path, ["--tenants=alpha"]) as server:
        assert refused_with(server.connect_as("beta"))[0] == grpc.StatusCode.PERMISSION_DENIED
        with server.connect_as("alpha") as client:
            assert client.put(b"a").header.revision == 2

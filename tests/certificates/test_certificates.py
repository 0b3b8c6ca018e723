"""What the development certificates say, and that TLS takes them."""

import datetime
import itertools
import ssl
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from fetch.tls import certificates
from fetch.tls.certificates import Certificate


@pytest.fixture(scope="module")
def authority() -> Certificate:
    return certificates.authority("tests")


def names(certificate: Certificate) -> x509.SubjectAlternativeName:
    return certificate.certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value


def purposes(certificate: Certificate) -> list[x509.ObjectIdentifier]:
    return list(certificate.certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value)


def common_names(certificate: Certificate) -> list[str | bytes]:
    return [item.value for item in certificate.certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)]


def test_an_authority_signs_certificates_but_no_other_authority(authority: Certificate) -> None:
    extensions = authority.certificate.extensions
    assert extensions.get_extension_for_class(x509.KeyUsage).value.key_cert_sign
    assert extensions.get_extension_for_class(x509.BasicConstraints).value == x509.BasicConstraints(True, 0)


def test_a_leaf_is_no_authority(authority: Certificate) -> None:
    leaf = certificates.issue(authority, "alpha").certificate
    assert not leaf.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    assert not leaf.extensions.get_extension_for_class(x509.KeyUsage).value.key_cert_sign


def test_keys_are_on_p_256(authority: Certificate) -> None:
    assert certificates.issue(authority, "alpha").key.curve.name == "secp256r1"


def test_a_leaf_names_the_key_of_its_authority(authority: Certificate) -> None:
    leaf = certificates.issue(authority, "alpha").certificate
    of_authority = authority.certificate.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    named = leaf.extensions.get_extension_for_class(x509.AuthorityKeyIdentifier).value
    assert named.key_identifier == of_authority.digest
    leaf.verify_directly_issued_by(authority.certificate)


def test_a_tenant_is_the_common_name_of_a_client_certificate(authority: Certificate) -> None:
    alpha = certificates.issue(authority, "alpha")
    assert common_names(alpha) == ["alpha"]
    assert purposes(alpha) == [ExtendedKeyUsageOID.CLIENT_AUTH]


def test_a_server_certificate_is_for_servers_only(authority: Certificate) -> None:
    server = certificates.issue(authority, "localhost", server=True)
    assert purposes(server) == [ExtendedKeyUsageOID.SERVER_AUTH]


def test_a_certificate_without_a_common_name_has_an_empty_subject(authority: Certificate) -> None:
    assert not list(certificates.issue(authority, None).certificate.subject)


@pytest.mark.parametrize(
    "name", [x509.UniformResourceIdentifier("spiffe://cluster/alpha"), x509.DNSName("alpha.example")]
)
def test_a_certificate_carries_the_alternative_names_given(authority: Certificate, name: x509.GeneralName) -> None:
    assert list(names(certificates.issue(authority, None, names=[name]))) == [name]


def test_a_certificate_can_be_issued_already_expired(authority: Certificate) -> None:
    expired = certificates.issue(authority, "alpha", valid=datetime.timedelta(days=-1)).certificate
    assert expired.not_valid_before_utc < expired.not_valid_after_utc < datetime.datetime.now(datetime.UTC)


def test_what_was_written_is_read_again(authority: Certificate, tmp_path: Path) -> None:
    authority.write(tmp_path, "ca")
    assert Certificate.read(tmp_path, "ca").certificate == authority.certificate


def test_create_makes_the_authority_the_server_and_the_tenants(tmp_path: Path) -> None:
    certificates.create(tmp_path / "certs", ["alpha", "beta"])
    stems = ("ca", "server", "alpha", "beta")
    assert sorted(path.name for path in (tmp_path / "certs").iterdir()) == sorted(
        f"{stem}.{kind}" for stem, kind in itertools.product(stems, ("crt", "key"))
    )


def test_create_makes_keys_that_only_their_owner_reads(tmp_path: Path) -> None:
    certificates.create(tmp_path, ["alpha"])
    assert {path.stat().st_mode & 0o777 for path in tmp_path.glob("*.key")} == {0o600}


def test_a_key_written_over_an_open_file_is_closed(authority: Certificate, tmp_path: Path) -> None:
    (tmp_path / "ca.key").touch(mode=0o644)
    authority.write(tmp_path, "ca")
    assert (tmp_path / "ca.key").stat().st_mode & 0o777 == 0o600


def test_create_leaves_what_is_there_and_adds_to_it(tmp_path: Path) -> None:
    certificates.create(tmp_path, ["alpha"])
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    assert certificates.create(tmp_path, ["alpha", "gamma"]) == ["gamma"]
    assert {path: path.read_bytes() for path in before} == before


@pytest.mark.parametrize("lost", ["ca.key", "ca.crt", "alpha.key", "alpha.crt"])
def test_create_replaces_no_half_of_a_pair(tmp_path: Path, lost: str) -> None:
    certificates.create(tmp_path, ["alpha"])
    (tmp_path / lost).unlink()
    with pytest.raises(ValueError, match=lost):
        certificates.create(tmp_path, ["alpha"])
    assert not (tmp_path / lost).exists()


def test_a_name_longer_than_a_common_name_is_refused_before_anything_is_made(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="at most 64"):
        certificates.create(tmp_path / "certs", ["x" * 65])
    assert not (tmp_path / "certs").exists()


def contexts(directory: Path, client: str) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """Both ends, as strict as Python 3.13 and later are by default."""
    ends = []
    for protocol, name in ((ssl.PROTOCOL_TLS_SERVER, "server"), (ssl.PROTOCOL_TLS_CLIENT, client)):
        context = ssl.SSLContext(protocol)
        context.verify_flags |= ssl.VERIFY_X509_STRICT
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_cert_chain(directory / f"{name}.crt", directory / f"{name}.key")
        context.load_verify_locations(directory / "ca.crt")
        ends.append(context)
    return ends[0], ends[1]


def shake_hands(directory: Path, client: str, host: str = "127.0.0.1") -> ssl.SSLObject:
    """A TLS handshake in memory; returns the server's end.

    :raises ssl.SSLError: an end refuses the other
    """
    of_server, of_client = contexts(directory, client)
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    server = of_server.wrap_bio(to_server, to_client, server_side=True)
    caller = of_client.wrap_bio(to_client, to_server, server_hostname=host)
    waiting = [caller, server]
    for _ in range(8):
        for end in list(waiting):
            try:
                end.do_handshake()
            except ssl.SSLWantReadError:
                continue
            waiting.remove(end)
        if not waiting:
            return server
    raise AssertionError("the handshake never ends")


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "localhost"])
def test_a_tenant_and_the_server_shake_hands_on_loopback(tmp_path: Path, host: str) -> None:
    certificates.create(tmp_path, ["alpha"])
    assert shake_hands(tmp_path, "alpha", host).getpeercert() is not None


def test_the_server_learns_the_tenant_from_the_handshake(tmp_path: Path) -> None:
    certificates.create(tmp_path, ["alpha"])
    peer = shake_hands(tmp_path, "alpha").getpeercert()
    assert peer is not None
    assert peer["subject"] == ((("commonName", "alpha"),),)


def test_the_server_certificate_is_for_no_other_host(tmp_path: Path) -> None:
    certificates.create(tmp_path, ["alpha"])
    with pytest.raises(ssl.SSLCertVerificationError, match="Hostname mismatch"):
        shake_hands(tmp_path, "alpha", "example.com")


def test_an_expired_certificate_is_refused(tmp_path: Path) -> None:
    certificates.create(tmp_path, [])
    signer = Certificate.read(tmp_path, "ca")
    certificates.issue(signer, "alpha", valid=datetime.timedelta(days=-1)).write(tmp_path, "alpha")
    with pytest.raises(ssl.SSLCertVerificationError, match="expired"):
        shake_hands(tmp_path, "alpha")


def test_a_certificate_of_another_authority_is_refused(tmp_path: Path) -> None:
    certificates.create(tmp_path, [])
    certificates.issue(certificates.authority("another"), "alpha").write(tmp_path, "alpha")
    with pytest.raises(ssl.SSLCertVerificationError, match="unable to get local issuer"):
        shake_hands(tmp_path, "alpha")


def test_a_server_certificate_is_no_tenant(tmp_path: Path) -> None:
    certificates.create(tmp_path, [])
    with pytest.raises(ssl.SSLCertVerificationError, match="purpose"):
        shake_hands(tmp_path, "server")

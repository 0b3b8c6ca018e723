"""Whom a certificate names: one principal, said in a way that no two readers take differently, or nobody."""

import datetime
import math
import ssl

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.name import _ASN1Type
from cryptography.x509.oid import NameOID

from fetch.tls import certificates
from fetch.tls.principals import principal_of
from tests.certificates.subjects import common_name, issue_to

AUTHORITY = certificates.authority("tests")
URI, DNS = x509.UniformResourceIdentifier, x509.DNSName


def refusal(pem: bytes, kind: str = "cn") -> str:
    principal = principal_of(pem, kind)
    assert principal.name == ""
    return principal.refusal


def test_a_certificate_names_one_principal_until_it_expires() -> None:
    certificate = certificates.issue(AUTHORITY, "alpha", valid=datetime.timedelta(days=3))
    principal = principal_of(certificate.certificate_pem, "cn")
    assert (principal.name, principal.refusal) == ("alpha", "")
    assert principal.expires == certificate.certificate.not_valid_after_utc.timestamp()


@pytest.mark.parametrize(
    ("kind", "name"), [("cn", "alpha"), ("san-uri", "spiffe://cluster/beta"), ("san-dns", "gamma.example")]
)
def test_each_kind_of_name_is_looked_for_where_it_stands(kind: str, name: str) -> None:
    names = [x509.RFC822Name("other@somewhere"), URI("spiffe://cluster/beta"), DNS("gamma.example")]
    assert principal_of(certificates.issue(AUTHORITY, "alpha", names=names).certificate_pem, kind).name == name


@pytest.mark.parametrize(
    "name", ["victim\0.attacker.example", "victim\n", "\x7fvictim", "victim ", "vi\u200bctim", "vict\u0456m", "*"]
)
def test_a_name_with_anything_but_a_tenants_letters_is_nobodys(name: str) -> None:
    assert "not a valid tenant name" in refusal(certificates.issue(AUTHORITY, name).certificate_pem)


@pytest.mark.parametrize(("kind", "name"), [("san-uri", URI("victim\0x")), ("san-dns", DNS("victim\0.example"))])
def test_an_alternative_name_does_not_end_at_a_nul(kind: str, name: x509.GeneralName) -> None:
    pem = certificates.issue(AUTHORITY, "alpha", names=[name]).certificate_pem
    assert "not a valid tenant name" in refusal(pem, kind)


@pytest.mark.parametrize("kind", ["cn", "san-uri", "san-dns"])
def test_a_certificate_without_the_name_names_nobody(kind: str) -> None:
    pem = certificates.issue(AUTHORITY, None, names=[x509.RFC822Name("a@b")]).certificate_pem
    assert refusal(pem, kind) == "the client certificate has no principal"


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_an_empty_common_name_names_nobody() -> None:
    pem = issue_to(AUTHORITY, [common_name("", _validate=False)]).certificate_pem
    assert refusal(pem) == "the client certificate has no principal"


@pytest.mark.parametrize(
    ("kind", "names"),
    [("san-uri", [URI("spiffe://a/one"), URI("spiffe://a/two")]), ("san-dns", [DNS("one"), DNS("two")])],
)
def test_of_several_alternative_names_none_is_chosen(kind: str, names: list[x509.GeneralName]) -> None:
    pem = certificates.issue(AUTHORITY, "alpha", names=names).certificate_pem
    assert "more than one principal" in refusal(pem, kind)


@pytest.mark.parametrize(
    "components",
    [[["victim"], ["attacker"]], [["alpha"], ["alpha"]], [["victim", "attacker"]], [["alpha"], ["\0"]]],
    ids=["apart", "alike", "in one component", "one of them no name"],
)
def test_of_several_common_names_none_is_chosen(components: list[list[str]]) -> None:
    subject = x509.Name([x509.RelativeDistinguishedName(map(common_name, names)) for names in components])
    assert "more than one principal" in refusal(issue_to(AUTHORITY, subject).certificate_pem)


@pytest.mark.parametrize(
    "kind",
    [
        _ASN1Type.OctetString,
        _ASN1Type.UTCTime,
        _ASN1Type.GeneralizedTime,
        _ASN1Type.IA5String,
        _ASN1Type.NumericString,
        _ASN1Type.VisibleString,
    ],
    ids=lambda kind: kind.name,
)
def test_a_common_name_that_is_no_directory_string_names_nobody(kind: _ASN1Type) -> None:
    pem = issue_to(AUTHORITY, [common_name("victim", _type=kind)]).certificate_pem
    assert refusal(pem) == "the common name of the client certificate is not a text"


@pytest.mark.parametrize(
    "kind",
    [
        _ASN1Type.UTF8String,
        _ASN1Type.PrintableString,
        _ASN1Type.T61String,
        _ASN1Type.UniversalString,
        _ASN1Type.BMPString,
    ],
    ids=lambda kind: kind.name,
)
def test_a_common_name_is_read_in_the_encoding_of_its_type(kind: _ASN1Type) -> None:
    assert principal_of(issue_to(AUTHORITY, [common_name("alpha", _type=kind)]).certificate_pem, "cn").name == "alpha"


@pytest.mark.parametrize("tag", [0x01, 0x02, 0x03, 0x05, 0x1C, 0x1E, 0x30, 0x80])
def test_what_is_not_as_x509_has_it_names_nobody(tag: int) -> None:
    certificate = certificates.issue(AUTHORITY, "alpha").certificate.public_bytes(Encoding.DER)
    changed = certificate.replace(b"\x0c\x05alpha", bytes([tag]) + b"\x05alpha")
    assert changed != certificate
    assert "cannot be read" in refusal(ssl.DER_cert_to_PEM_cert(changed).encode())


def test_what_is_no_certificate_names_nobody_for_ever() -> None:
    assert principal_of(b"garbage", "cn").expires == math.inf
    assert "cannot be read" in refusal(b"garbage")


def test_other_attributes_of_the_subject_do_not_matter() -> None:
    subject = [
        x509.NameAttribute(NameOID.ORGANIZATION_NAME, "system:masters"),
        common_name("alpha"),
        x509.NameAttribute(NameOID.SERIAL_NUMBER, "7"),
    ]
    assert principal_of(issue_to(AUTHORITY, subject).certificate_pem, "cn").name == "alpha"


@pytest.mark.parametrize("name", ["kube-apiserver-etcd-client", "kube-etcd-healthcheck-client", "etcd-client", "root"])
def test_a_name_that_every_clusters_client_has_names_nobody(name: str) -> None:
    pem = certificates.issue(AUTHORITY, name).certificate_pem
    assert "a name that every cluster's has" in refusal(pem)


def test_a_name_that_every_clusters_client_has_is_a_tenants_where_it_is_listed() -> None:
    pem = certificates.issue(AUTHORITY, "kube-apiserver-etcd-client").certificate_pem
    assert principal_of(pem, "cn", {"kube-apiserver-etcd-client"}).name == "kube-apiserver-etcd-client"

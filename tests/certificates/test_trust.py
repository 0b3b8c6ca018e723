"""Who would still be let in: not whom a list of revocations names, nor whose authority was taken out."""

import datetime

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding

from fetch.tls import certificates, revocation
from fetch.tls.certificates import Certificate
from fetch.tls.revocation import RevocationError, Revocations
from fetch.tls.trust import NOT_TRUSTED, REVOKED, Trust
from tests.certificates.lists import DAY, list_of
from tests.certificates.subjects import common_name, issue_to

AUTHORITY, ANOTHER = certificates.authority("tests"), certificates.authority("another")
ALPHA, BETA = certificates.issue(AUTHORITY, "alpha"), certificates.issue(AUTHORITY, "beta")


def intermediate(signer: Certificate, *, is_authority: bool = True) -> Certificate:
    made = certificates.authority("intermediate")
    now = datetime.datetime.now(datetime.UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(made.certificate.subject)
        .issuer_name(signer.certificate.subject)
        .public_key(made.key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - DAY)
        .not_valid_after(now + DAY)
        .add_extension(x509.BasicConstraints(ca=is_authority, path_length=None), critical=True)
    )
    return Certificate(builder.sign(signer.key, hashes.SHA256()), made.key)


def revoking(*lists: bytes) -> Trust:
    return Trust([AUTHORITY.certificate], revocation.read(b"".join(lists), [AUTHORITY.certificate]))


def less(*authorities: Certificate) -> Trust:
    return Trust([authority.certificate for authority in authorities], is_less=True)


# lists


@pytest.mark.parametrize("encoding", [Encoding.PEM, Encoding.DER])
def test_whom_a_list_names_is_refused_and_nobody_else(encoding: Encoding) -> None:
    trust = revoking(list_of(AUTHORITY, [ALPHA], encoding=encoding))
    assert [trust.refusal(it.certificate_pem) for it in (ALPHA, BETA)] == [REVOKED, ""]


def test_all_lists_of_a_file_count() -> None:
    trust = revoking(list_of(AUTHORITY, [ALPHA]), list_of(AUTHORITY, [BETA]))
    assert [trust.refusal(it.certificate_pem) for it in (ALPHA, BETA)] == [REVOKED, REVOKED]


def test_a_number_is_revoked_of_its_issuer_alone() -> None:
    same = x509.CertificateBuilder(
        ANOTHER.certificate.subject,
        ALPHA.certificate.subject,
        ALPHA.key.public_key(),
        ALPHA.certificate.serial_number,
        datetime.datetime.now(datetime.UTC) - DAY,
        datetime.datetime.now(datetime.UTC) + DAY,
    ).sign(ANOTHER.key, hashes.SHA256())
    assert revoking(list_of(AUTHORITY, [ALPHA])).refusal(same.public_bytes(Encoding.PEM)) == ""


def test_an_intermediate_that_is_revoked_takes_its_clients_with_it() -> None:
    between = intermediate(AUTHORITY)
    client = certificates.issue(between, "alpha")
    trust = revoking(list_of(AUTHORITY, [between]))
    assert trust.refusal(client.certificate_pem + between.certificate_pem) == REVOKED


def test_a_list_that_is_overdue_still_counts_and_says_since_when() -> None:
    data = list_of(AUTHORITY, [ALPHA], due=-DAY)
    assert revoking(data).refusal(ALPHA.certificate_pem) == REVOKED
    ((issuer, due),) = revocation.read(data, [AUTHORITY.certificate]).due
    assert issuer == "CN=tests"
    assert due < datetime.datetime.now(datetime.UTC)


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"", "not a revocation list"),
        (b"-----BEGIN X509 CRL-----\nAAAA\n-----END X509 CRL-----\n", "not a revocation list"),
        (AUTHORITY.certificate_pem, "not a revocation list"),
        (list_of(ANOTHER), "'CN=another', which is no authority of --trusted-ca-file"),
        (list_of(AUTHORITY, signer=ANOTHER), "'CN=tests', and not signed by it"),
        (list_of(AUTHORITY, extension=x509.DeltaCRLIndicator(1)), "a delta list"),
        (
            list_of(
                AUTHORITY,
                extension=x509.IssuingDistributionPoint(
                    full_name=None,
                    relative_name=None,
                    only_contains_user_certs=False,
                    only_contains_ca_certs=False,
                    only_some_reasons=None,
                    indirect_crl=True,
                    only_contains_attribute_certs=False,
                ),
            ),
            "an indirect list",
        ),
    ],
    ids=["empty", "garbage", "a certificate", "of another", "forged", "delta", "indirect"],
)
def test_what_is_no_whole_list_of_an_authority_is_refused(data: bytes, why: str) -> None:
    with pytest.raises(RevocationError, match=why):
        revocation.read(data, [AUTHORITY.certificate])


def test_one_forged_list_among_others_spoils_the_file() -> None:
    with pytest.raises(RevocationError, match="not signed by it"):
        revocation.read(list_of(AUTHORITY, [ALPHA]) + list_of(AUTHORITY, signer=ANOTHER), [AUTHORITY.certificate])


# authorities


def test_whose_authority_is_gone_is_refused() -> None:
    assert less(ANOTHER).refusal(ALPHA.certificate_pem) == NOT_TRUSTED


def test_whose_authority_is_there_still_is_not() -> None:
    assert less(ANOTHER, AUTHORITY).refusal(ALPHA.certificate_pem) == ""


def test_an_authority_of_the_same_name_is_another() -> None:
    assert less(certificates.authority("tests")).refusal(ALPHA.certificate_pem) == NOT_TRUSTED


def test_while_none_is_gone_tls_is_believed() -> None:
    assert Trust([ANOTHER.certificate]).refusal(ALPHA.certificate_pem) == ""


@pytest.mark.parametrize("length", [1, 3])
def test_intermediates_lead_to_the_authority(length: int) -> None:
    chain = [AUTHORITY]
    for _ in range(length):
        chain.append(intermediate(chain[-1]))
    client = certificates.issue(chain[-1], "alpha")
    presented = client.certificate_pem + b"".join(it.certificate_pem for it in chain[1:])
    assert less(AUTHORITY).refusal(presented) == ""
    assert less(ANOTHER).refusal(presented) == NOT_TRUSTED


def test_somebodys_certificate_is_no_intermediate() -> None:
    leaf = intermediate(AUTHORITY, is_authority=False)
    presented = certificates.issue(leaf, "alpha").certificate_pem + leaf.certificate_pem
    assert less(AUTHORITY).refusal(presented) == NOT_TRUSTED


def test_what_cannot_be_read_is_refused_for_that_elsewhere() -> None:
    trust = Trust([AUTHORITY.certificate], Revocations({}, ()), is_less=True)
    assert trust.refusal(b"none") == ""


def test_a_name_written_otherwise_is_the_same_issuers() -> None:
    # an authority may write its name as another kind of string into its lists than into its certificates
    other = issue_to(AUTHORITY, [common_name("tests", _type=x509.name._ASN1Type.PrintableString)])
    written = Certificate(other.certificate, AUTHORITY.key)
    data = list_of(written, [ALPHA], signer=AUTHORITY)
    assert Trust([AUTHORITY.certificate], revocation.read(data, [AUTHORITY.certificate])).refusal(ALPHA.certificate_pem)

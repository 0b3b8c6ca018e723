"""Certificates whose subject is not just one common name."""

import datetime
from collections.abc import Sequence

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from fetch.tls.certificates import Certificate


def common_name(value: str, **options: object) -> x509.NameAttribute[str]:
    return x509.NameAttribute(NameOID.COMMON_NAME, value, **options)  # type: ignore[arg-type]


def issue_to(signer: Certificate, subject: Sequence[x509.NameAttribute[str]] | x509.Name) -> Certificate:
    """A client's certificate with this subject."""
    key = ec.generate_private_key(ec.SECP256R1())
    now = datetime.datetime.now(datetime.UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject if isinstance(subject, x509.Name) else x509.Name(subject))
        .issuer_name(signer.certificate.subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(minutes=5))
        .not_valid_after(now + datetime.timedelta(days=1))
    )
    return Certificate(builder.sign(signer.key, hashes.SHA256()), key)

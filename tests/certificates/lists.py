"""Revocation lists."""

import datetime
from collections.abc import Iterable

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding

from fetch.tls.certificates import Certificate

DAY = datetime.timedelta(days=1)


def list_of(
    authority: Certificate,
    revoked: Iterable[Certificate] = (),
    *,
    due: datetime.timedelta = DAY,
    signer: Certificate | None = None,
    extension: x509.ExtensionType | None = None,
    encoding: Encoding = Encoding.PEM,
) -> bytes:
    """What an authority has revoked, signed by it or by `signer`; the next list is due after this time from now."""
    now = datetime.datetime.now(datetime.UTC)
    builder = (
        x509.CertificateRevocationListBuilder()
        .issuer_name(authority.certificate.subject)
        .last_update(now - 2 * DAY)
        .next_update(now + due)
    )
    for certificate in revoked:
        builder = builder.add_revoked_certificate(
            x509.RevokedCertificateBuilder()
            .serial_number(certificate.certificate.serial_number)
            .revocation_date(now - DAY)
            .build()
        )
    if extension is not None:
        builder = builder.add_extension(extension, critical=True)
    return builder.sign((signer or authority).key, hashes.SHA256()).public_bytes(encoding)

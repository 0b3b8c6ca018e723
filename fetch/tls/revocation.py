"""Revocation lists (CRLs, RFC 5280 section 5): which certificates their authorities have taken back.

A list counts if one of the authorities that clients may have has signed it. It goes on counting past its nextUpdate:
whom it names stays refused, and whom it does not name is let in, as etcd does it, since the alternative is that a job
that did not run keeps every cluster out. That it is overdue is logged and measured. Lists of a part, which say so
(delta lists, indirect ones), are not taken for whole ones.
"""

import datetime
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm

_PEM = re.compile(rb"-----BEGIN X509 CRL-----.+?-----END X509 CRL-----", re.DOTALL)
_UNREADABLE = (ValueError, TypeError, UnsupportedAlgorithm, x509.DuplicateExtension)

Revoked = Mapping[bytes, frozenset[int]]
"""Serial numbers of certificates, by the name of their issuer in DER."""


class RevocationError(Exception):
    """What is no list of one of the authorities: a sentence that goes on after the file's name."""


@dataclass(frozen=True, slots=True)
class Revocations:
    """What lists say together: who is revoked, and by issuer when the next list is due."""

    revoked: Revoked
    due: Sequence[tuple[str, datetime.datetime]]


NOBODY = Revocations({}, ())


def read(data: bytes, authorities: Sequence[x509.Certificate]) -> Revocations:
    """The lists of a file, PEM (any number of them) or DER (one). Runs over every entry, 2 µs each.

    :raises RevocationError:
    """
    revoked: dict[bytes, frozenset[int]] = {}
    due: list[tuple[str, datetime.datetime]] = []
    for crl in _lists(data):
        signers = _signers(crl, authorities)
        serials = frozenset(entry.serial_number for entry in crl)
        for name in {crl.issuer.public_bytes(), *(signer.subject.public_bytes() for signer in signers)}:
            revoked[name] = revoked.get(name, frozenset()) | serials
        if crl.next_update_utc is not None:
            due.append((crl.issuer.rfc4514_string(), crl.next_update_utc))
    return Revocations(revoked, due)


def _lists(data: bytes) -> Iterator[x509.CertificateRevocationList]:
    found = _PEM.findall(data)
    try:
        yield from map(x509.load_pem_x509_crl, found) if found else (x509.load_der_x509_crl(data),)
    except _UNREADABLE as error:
        raise RevocationError("is not a revocation list") from error


def _signers(crl: x509.CertificateRevocationList, authorities: Sequence[x509.Certificate]) -> list[x509.Certificate]:
    """The authorities of the list's name, one of which has signed it."""
    issuer = crl.issuer.rfc4514_string()
    signers = [authority for authority in authorities if authority.subject == crl.issuer]
    if not signers:
        raise RevocationError(f"is a list of {issuer!r}, which is no authority of --trusted-ca-file")
    try:
        if not any(crl.is_signature_valid(signer.public_key()) for signer in signers):  # type: ignore[arg-type]
            raise RevocationError(f"is a list of {issuer!r}, and not signed by it")
        if (what := _what_it_leaves_out(crl)) is not None:
            raise RevocationError(f"is {what} of {issuer!r}, which is not served: give the whole list")
    except _UNREADABLE as error:
        raise RevocationError(f"is a list of {issuer!r} that cannot be read: {error}") from error
    return signers


def _what_it_leaves_out(crl: x509.CertificateRevocationList) -> str | None:
    """What sort of list it is, if it is not one of all that its issuer has revoked."""
    for extension in crl.extensions:
        match extension.value:
            case x509.DeltaCRLIndicator():
                return "a delta list"
            case x509.IssuingDistributionPoint(indirect_crl=True):
                return "an indirect list"
            case x509.UnrecognizedExtension() if extension.critical:
                return f"a list with the unknown extension {extension.oid.dotted_string}"
    return None

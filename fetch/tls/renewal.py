"""Renews development certificates: those of a directory that `certificates.create` made, when their end is near.

A certificate is renewed by the directory's authority, with the names and purposes that it has, and a new key. An
authority is renewed before the certificates that it still has to sign could outlive it. The new one stands before the
old one in `ca.crt`, which goes on to trust both until the old one has expired: what either has signed is taken by all
who have that file.
"""

import datetime
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import Encoding

from fetch.tls.certificates import LIFETIME, Certificate, authority, issue_like, replace

NEAR = datetime.timedelta(days=30)
"""How long before its end a certificate is renewed."""

_AUTHORITY = "ca"


@dataclass(frozen=True, slots=True)
class Renewed:
    """What was renewed, under the name of its files, and what there was before and is now the end of it."""

    name: str
    before: datetime.datetime
    until: datetime.datetime


def renew(directory: Path, now: datetime.datetime | None = None) -> list[Renewed]:
    """Renews what is near its end, the authority first. Looks at every pair of NAME.crt and NAME.key.

    Certificates that the directory's authority has not signed, and those without a key, are let be.

    :raises ValueError: :raises TypeError: a file is not what its name says
    :raises OSError: it cannot be read or written
    """
    now = now or datetime.datetime.now(datetime.UTC)
    if not all((directory / f"{_AUTHORITY}.{kind}").exists() for kind in ("crt", "key")):
        return []
    done: list[Renewed] = []
    signer = Certificate.read(directory, _AUTHORITY)
    trusted = x509.load_pem_x509_certificates((directory / f"{_AUTHORITY}.crt").read_bytes())
    if signer.certificate.not_valid_after_utc - now < LIFETIME:
        before, signer = signer, authority(_common_name(signer.certificate))
        trusted = [signer.certificate, *(it for it in trusted if it.not_valid_after_utc > now)]
        # in this order: whatever comes in between, the key there is is one of an authority that is trusted
        replace(directory / f"{_AUTHORITY}.crt", _pem(trusted))
        replace(directory / f"{_AUTHORITY}.key", signer.key_pem, mode=0o600)
        done.append(_renewed(_AUTHORITY, before.certificate, signer.certificate))
    elif (alive := [it for it in trusted if it.not_valid_after_utc > now]) != trusted:
        replace(directory / f"{_AUTHORITY}.crt", _pem(alive))
    for file in sorted(directory.glob("*.crt")):
        if file.stem == _AUTHORITY or not file.with_suffix(".key").exists():
            continue
        old = x509.load_pem_x509_certificate(file.read_bytes())
        if old.not_valid_after_utc - now < NEAR and _is_signed_by(old, trusted):
            new = issue_like(signer, old)
            new.write(directory, file.stem)
            done.append(_renewed(file.stem, old, new.certificate))
    return done


def _renewed(name: str, old: x509.Certificate, new: x509.Certificate) -> Renewed:
    return Renewed(name, old.not_valid_after_utc, new.not_valid_after_utc)


def _common_name(certificate: x509.Certificate) -> str:
    (name,) = certificate.subject.get_attributes_for_oid(x509.NameOID.COMMON_NAME)
    return str(name.value)


def _pem(certificates: Iterable[x509.Certificate]) -> bytes:
    return b"".join(certificate.public_bytes(Encoding.PEM) for certificate in certificates)


def _is_signed_by(certificate: x509.Certificate, authorities: Sequence[x509.Certificate]) -> bool:
    for each in authorities:
        try:
            certificate.verify_directly_issued_by(each)
        except (InvalidSignature, UnsupportedAlgorithm, ValueError, TypeError):
            continue
        return True
    return False

"""What the files of the server's TLS say: read together, and good for use only together.

Certificate, key, authorities and revocation lists are replaced one after the other by whoever renews them, and may be
read in between: a key that is not the certificate's, half a file. Such a set is refused as a whole.
"""

import datetime
import ssl
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization

from fetch.config import Settings
from fetch.tls import revocation
from fetch.tls.revocation import NOBODY, RevocationError
from fetch.tls.trust import Trust

_T = TypeVar("_T")


class MaterialError(Exception):
    """Files that cannot be used: one sentence that says which, and why."""


@dataclass(frozen=True, slots=True)
class Files:
    """Where the server's certificate and key lie, the authorities of clients, and what these have revoked."""

    certificate: Path
    key: Path
    authorities: Path
    revocations: Path | None = None

    def __iter__(self) -> Iterator[Path]:
        yield from (self.certificate, self.key, self.authorities)
        if self.revocations is not None:
            yield self.revocations


def files_of(settings: Settings) -> Files | None:
    """The files that settings name; None where nothing is served by TLS."""
    if not any(url.startswith("https://") for url in (*settings.listen_client_urls, *settings.listen_client_http_urls)):
        return None
    revocations = None if settings.client_crl_file is None else Path(settings.client_crl_file)
    # settings are refused that serve https:// without these
    return Files(
        Path(str(settings.cert_file)), Path(str(settings.key_file)), Path(str(settings.trusted_ca_file)), revocations
    )


def peer_files_of(settings: Settings) -> Files | None:
    """The files of what daemons serve each other with; None where they do not."""
    if not settings.has_peers:
        return None
    return Files(
        Path(str(settings.peer_cert_file)), Path(str(settings.peer_key_file)), Path(str(settings.peer_trusted_ca_file))
    )


@dataclass(frozen=True, slots=True)
class Ending:
    """When something in a file comes to its end: `kind` is `certificate`, `authority` or `crl`."""

    kind: str
    file: Path
    subject: str
    at: datetime.datetime


@dataclass(frozen=True, slots=True)
class Material:
    """What a port is served with: PEM texts, whom it trusts, and when what of it ends."""

    certificate: bytes
    key: bytes
    authorities: bytes
    trust: Trust
    endings: Sequence[Ending]


def read(files: Files, now: datetime.datetime | None = None) -> Material:
    """Reads the files, which may take as long as their disks do.

    :raises MaterialError:
    """
    now = now or datetime.datetime.now(datetime.UTC)
    certificate, key, authorities = (_bytes(file) for file in (files.certificate, files.key, files.authorities))
    chain = _parsed(files.certificate, "a certificate", x509.load_pem_x509_certificates, certificate)
    own = _parsed(files.key, "a private key without a password", _key, key)
    if own != _public(chain[0].public_key()):
        raise MaterialError(f"{files.key} is not the key of the certificate in {files.certificate}")
    if chain[0].not_valid_after_utc <= now:
        raise MaterialError(f"the certificate in {files.certificate} has expired: {chain[0].not_valid_after_utc}")
    roots = _parsed(files.authorities, "a certificate", x509.load_pem_x509_certificates, authorities)
    if all(root.not_valid_after_utc <= now for root in roots):
        raise MaterialError(f"every authority in {files.authorities} has expired: {roots[0].not_valid_after_utc}")
    revocations = NOBODY
    endings = [Ending("certificate", files.certificate, _subject(chain[0]), chain[0].not_valid_after_utc)]
    endings += _latest(Ending("authority", files.authorities, _subject(it), it.not_valid_after_utc) for it in roots)
    if files.revocations is not None:
        try:
            revocations = revocation.read(_bytes(files.revocations), roots)
        except RevocationError as error:
            raise MaterialError(f"{files.revocations} {error}") from error
        endings += _latest(Ending("crl", files.revocations, issuer, due) for issuer, due in revocations.due)
    return Material(certificate, key, authorities, Trust(roots, revocations), endings)


def _latest(endings: Iterator[Ending]) -> list[Ending]:
    """Of those with one name the last: an authority that was renewed is in its file twice, for a time."""
    latest: dict[str, Ending] = {}
    for ending in sorted(endings, key=lambda ending: ending.at):
        latest[ending.subject] = ending
    return list(latest.values())


def _subject(certificate: x509.Certificate) -> str:
    return certificate.subject.rfc4514_string()


def _bytes(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        raise MaterialError(f"cannot read {file}: {error.strerror}") from error


def _parsed(file: Path, what: str, parse: Callable[[bytes], _T], data: bytes) -> _T:
    try:
        return parse(data)
    except (ValueError, TypeError, UnsupportedAlgorithm, ssl.SSLError) as error:
        # the error's own text may be of what is in the file, a key for one
        raise MaterialError(f"{file} is not {what} in PEM") from error


def _key(data: bytes) -> bytes:
    return _public(serialization.load_pem_private_key(data, None).public_key())


def _public(key: object) -> bytes:
    """A public key's bytes, which are alike where keys are."""
    return key.public_bytes(  # type: ignore[attr-defined, no-any-return]  # every kind of key has it, in no common class
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )

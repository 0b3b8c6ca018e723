"""Development certificates: an authority, a server's certificate and one for each tenant.

For trying fetch out and for its tests. In production certificates come from wherever the platform takes them.
"""

import datetime
import ipaddress
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

LIFETIME = datetime.timedelta(days=365)
"""How long a certificate is valid; an authority's ten times that."""
_CLOCK_SKEW = datetime.timedelta(minutes=5)
_LONGEST_COMMON_NAME = 64
"""X.509's bound, RFC 5280 appendix A.1: `ub-common-name`."""


@dataclass(frozen=True, slots=True)
class Certificate:
    """A certificate with its private key."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey

    @property
    def certificate_pem(self) -> bytes:
        """The certificate in PEM."""
        return self.certificate.public_bytes(serialization.Encoding.PEM)

    @property
    def key_pem(self) -> bytes:
        """The private key in PEM, not encrypted."""
        return self.key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )

    def write(self, directory: Path, name: str) -> None:
        """Writes NAME.crt and NAME.key, over what is there; the key is readable for its owner only."""
        replace(directory / f"{name}.key", self.key_pem, mode=0o600)
        replace(directory / f"{name}.crt", self.certificate_pem)

    @classmethod
    def read(cls, directory: Path, name: str) -> "Certificate":
        """Reads what `write` has written."""
        key = serialization.load_pem_private_key((directory / f"{name}.key").read_bytes(), None)
        if not isinstance(key, ec.EllipticCurvePrivateKey):
            raise TypeError(f"{name}.key is not an elliptic curve key")
        return cls(x509.load_pem_x509_certificate((directory / f"{name}.crt").read_bytes()), key)


def replace(file: Path, data: bytes, mode: int = 0o644) -> None:
    """Writes a file that nobody ever sees half of, over what is there."""
    new = file.with_name(f".{file.name}.{os.getpid()}")
    new.unlink(missing_ok=True)
    try:
        with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as writing:
            writing.write(data)
        new.replace(file)
    finally:
        new.unlink(missing_ok=True)


def authority(name: str) -> Certificate:
    """A new certificate authority, valid for ten years."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.datetime.now(datetime.UTC)
    builder = (
        _builder(subject, subject, key, now - _CLOCK_SKEW, now + 10 * LIFETIME)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(signs=True), critical=True)
    )
    return Certificate(builder.sign(key, hashes.SHA256()), key)


def issue(
    signer: Certificate,
    common_name: str | None,
    *,
    server: bool = False,
    peer: bool = False,
    names: Sequence[x509.GeneralName] = (),
    valid: datetime.timedelta = LIFETIME,
) -> Certificate:
    """A certificate signed by an authority, for a server, a client, or a daemon among daemons, which is both.

    `names` are its subject alternative names; `valid` counts from now, and may be negative.
    """
    key = ec.generate_private_key(ec.SECP256R1())
    attributes = [] if common_name is None else [x509.NameAttribute(NameOID.COMMON_NAME, common_name)]
    end = datetime.datetime.now(datetime.UTC) + valid
    start = min(datetime.datetime.now(datetime.UTC), end) - _CLOCK_SKEW
    usages = [ExtendedKeyUsageOID.SERVER_AUTH] if server or peer else []
    usages += [] if server else [ExtendedKeyUsageOID.CLIENT_AUTH]
    builder = (
        _builder(x509.Name(attributes), signer.certificate.subject, key, start, end)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(signs=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage(usages), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.key.public_key()), critical=False)
    )
    if names:
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=not attributes)
    return Certificate(builder.sign(signer.key, hashes.SHA256()), key)


def issue_like(signer: Certificate, other: x509.Certificate) -> Certificate:
    """A certificate for the same names and purposes as another, with a key of its own."""
    key = ec.generate_private_key(ec.SECP256R1())
    now = datetime.datetime.now(datetime.UTC)
    own = signer.key.public_key()
    builder = (
        _builder(other.subject, signer.certificate.subject, key, now - _CLOCK_SKEW, now + LIFETIME)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(signs=False), critical=True)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(own), critical=False)
    )
    for extension in other.extensions:
        if isinstance(extension.value, x509.ExtendedKeyUsage | x509.SubjectAlternativeName):
            builder = builder.add_extension(extension.value, critical=extension.critical)
    return Certificate(builder.sign(signer.key, hashes.SHA256()), key)


def loopback_names() -> list[x509.GeneralName]:
    """The names of a server on this machine."""
    return [
        x509.DNSName("localhost"),
        x509.IPAddress(ipaddress.ip_address("127.0.0.1")),
        x509.IPAddress(ipaddress.ip_address("::1")),
    ]


def create(directory: Path, tenants: Sequence[str]) -> list[str]:
    """Makes what is missing of ca, server and the tenants' certificates; returns the names of those made.

    :raises ValueError: a name is too long for a certificate, or of a certificate and its key one is missing
    :raises OSError: the directory cannot be written, or what is there cannot be read
    """
    for name in tenants:
        if len(name) > _LONGEST_COMMON_NAME:
            raise ValueError(f"a certificate's common name has at most {_LONGEST_COMMON_NAME} characters: {name!r}")
    directory.mkdir(parents=True, exist_ok=True)
    made: list[str] = []
    if not _exists(directory, "ca"):
        authority("fetch development").write(directory, "ca")
        made.append("ca")
    signer = Certificate.read(directory, "ca")
    for name in ("server", *tenants):
        if _exists(directory, name):
            continue
        if name == "server":
            certificate = issue(signer, "localhost", server=True, names=loopback_names())
        else:
            certificate = issue(signer, name)
        certificate.write(directory, name)
        made.append(name)
    return made


def _exists(directory: Path, name: str) -> bool:
    """Whether a certificate and its key are there. One without the other is the operator's to sort out."""
    files = directory / f"{name}.crt", directory / f"{name}.key"
    missing = [str(path) for path in files if not path.exists()]
    if len(missing) == 1:
        raise ValueError(f"{missing[0]} is missing beside its other half")
    return not missing


def _builder(
    subject: x509.Name,
    issuer: x509.Name,
    key: ec.EllipticCurvePrivateKey,
    start: datetime.datetime,
    end: datetime.datetime,
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(start)
        .not_valid_after(end)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )


def _usage(*, signs: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signs,
        crl_sign=signs,
        encipher_only=False,
        decipher_only=False,
    )

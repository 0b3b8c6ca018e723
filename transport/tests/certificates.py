"""Certificates for tests, made in memory."""

import dataclasses
import datetime
import ipaddress
import ssl
from collections.abc import Sequence
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

DAY = datetime.timedelta(days=1)


@dataclasses.dataclass(frozen=True)
class Identity:
    """A key and its certificate, in PEM."""

    key: bytes
    certificate: bytes


@dataclasses.dataclass(frozen=True)
class Authority:
    """Signs certificates."""

    key: ec.EllipticCurvePrivateKey
    certificate: x509.Certificate

    @classmethod
    def named(cls, name: str) -> "Authority":
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        builder = _builder(subject, subject, key, key, DAY)
        builder = builder.add_extension(x509.BasicConstraints(True, None), critical=True)
        # digital signature, content commitment, encipherment of keys and data, agreement, then what it is for
        usage = x509.KeyUsage(False, False, False, False, False, True, True, False, False)
        builder = builder.add_extension(usage, critical=True)
        return cls(key, builder.serial_number(x509.random_serial_number()).sign(key, hashes.SHA256()))

    @property
    def pem(self) -> bytes:
        return self.certificate.public_bytes(Encoding.PEM)

    def authority(self, name: str) -> "Authority":
        """One whose certificate this one has signed."""
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        builder = _builder(subject, self.certificate.subject, key, self.key, DAY)
        builder = builder.add_extension(x509.BasicConstraints(True, None), critical=True)
        return Authority(key, builder.serial_number(x509.random_serial_number()).sign(self.key, hashes.SHA256()))

    def identity(
        self,
        subject: Sequence[x509.NameAttribute[str]],
        names: Sequence[x509.GeneralName] = (),
        *,
        lifetime: datetime.timedelta = DAY,
        serial: int | None = None,
    ) -> Identity:
        key = ec.generate_private_key(ec.SECP256R1())
        builder = _builder(x509.Name(subject), self.certificate.subject, key, self.key, lifetime)
        builder = builder.serial_number(serial or x509.random_serial_number())
        if names:
            builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
        certificate = builder.sign(self.key, hashes.SHA256())
        private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        return Identity(private, certificate.public_bytes(Encoding.PEM))

    def client(self, common_name: str, *, lifetime: datetime.timedelta = DAY, serial: int | None = None) -> Identity:
        subject = [x509.NameAttribute(NameOID.COMMON_NAME, common_name)]
        return self.identity(subject, lifetime=lifetime, serial=serial)

    def server(self) -> Identity:
        address = x509.IPAddress(ipaddress.ip_address("127.0.0.1"))
        return self.identity([x509.NameAttribute(NameOID.COMMON_NAME, "server")], [address])


def context_of(authority: Authority, client: Identity, folder: Path, protocols: Sequence[str] | None) -> ssl.SSLContext:
    """A client's side of TLS, which trusts the authority."""
    key, certificate = folder / "key", folder / "certificate"
    key.write_bytes(client.key)
    certificate.write_bytes(client.certificate)
    context = ssl.create_default_context(cadata=authority.pem.decode())
    context.load_cert_chain(certificate, key)
    if protocols:
        context.set_alpn_protocols(list(protocols))
    return context


def _builder(
    subject: x509.Name,
    issuer: x509.Name,
    key: ec.EllipticCurvePrivateKey,
    issuer_key: ec.EllipticCurvePrivateKey,
    lifetime: datetime.timedelta,
) -> x509.CertificateBuilder:
    now = datetime.datetime.now(datetime.UTC)
    builder = x509.CertificateBuilder().subject_name(subject).issuer_name(issuer).public_key(key.public_key())
    builder = builder.not_valid_before(now - 3 * DAY).not_valid_after(now + lifetime)
    own = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
    signers = x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key.public_key())
    return builder.add_extension(own, critical=False).add_extension(signers, critical=False)

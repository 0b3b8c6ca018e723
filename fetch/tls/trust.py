"""Whether a certificate that TLS has let in still would be let in: connections outlive what their handshake looked at.

TLS refuses at the handshake whose authority is not trusted. That a certificate was revoked, or its authority taken out,
after its connection was made is found out here; and on grpcio, whose handshake knows no revocation lists, any
revocation.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm

from fetch.tls.revocation import NOBODY, Revocations

REVOKED = "the client certificate has been revoked"
NOT_TRUSTED = "the authority of the client certificate is not trusted any more"

_MOST_INTERMEDIATES = 4
"""How many of the certificates that a client presents beside its own are looked at: each is tried against each."""


@dataclass(frozen=True, slots=True)
class Trust:
    """The authorities that clients' certificates may have, and what these have revoked.

    `is_less` tells that there were others: only then a certificate that TLS let in may have lost its authority.
    """

    authorities: Sequence[x509.Certificate]
    revocations: Revocations = field(default=NOBODY)
    is_less: bool = False

    def refusal(self, certificates: bytes) -> str:
        """Why a client is not to be let in any more; empty if it is. `certificates` are PEM: its own, then those that
        it presented beside it. Up to twenty signatures are verified, 0.1 ms each."""
        try:
            own, *others = x509.load_pem_x509_certificates(certificates)
        except ValueError:
            return ""  # it names nobody, and is refused for that
        if any(self._is_revoked(certificate) for certificate in (own, *others)):
            return REVOKED
        if self.is_less and not self._leads_here(own, others[:_MOST_INTERMEDIATES]):
            return NOT_TRUSTED
        return ""

    def _is_revoked(self, certificate: x509.Certificate) -> bool:
        revoked = self.revocations.revoked
        return bool(revoked) and certificate.serial_number in revoked.get(certificate.issuer.public_bytes(), ())

    def _leads_here(self, own: x509.Certificate, others: Sequence[x509.Certificate]) -> bool:
        """Whether signatures lead to an authority. All else that makes a chain valid, TLS has looked at."""
        waiting, unused = [own], [other for other in others if _is_authority(other)]
        while waiting:
            certificate = waiting.pop()
            if any(_has_signed(authority, certificate) for authority in self.authorities):
                return True
            issuers = [other for other in unused if _has_signed(other, certificate)]
            unused = [other for other in unused if other not in issuers]
            waiting += issuers
        return False


def _has_signed(issuer: x509.Certificate, certificate: x509.Certificate) -> bool:
    if issuer.subject != certificate.issuer:
        return False
    try:
        certificate.verify_directly_issued_by(issuer)
    except (InvalidSignature, UnsupportedAlgorithm, ValueError, TypeError):
        return False
    return True


def _is_authority(certificate: x509.Certificate) -> bool:
    try:
        return certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    except (x509.ExtensionNotFound, x509.DuplicateExtension, ValueError):
        return False

"""What the settings of peers must be, so that nobody but a daemon is taken for one.

A daemon that is let in writes for every tenant. So peers speak TLS and have certificates, always; and where a tenant's
certificate comes from the same authority as theirs, the names that daemons have must be told.
"""

from collections.abc import Collection, Sequence
from urllib.parse import urlsplit

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from fetch.config.setting import SettingsError

NAMES = (
    "listen_peer_urls",
    "initial_advertise_peer_urls",
    "peer_cert_file",
    "peer_key_file",
    "peer_trusted_ca_file",
    "peer_cert_allowed_cn",
    "peer_cert_allowed_hostname",
)
"""The settings that mean something only where daemons share a store."""


def check_urls(urls: Sequence[str]) -> None:
    """Looks at where daemons are to be served.

    :raises SettingsError:
    """
    for url in urls:
        if urlsplit(url).scheme != "https":
            raise SettingsError(f"--listen-peer-urls: {url} is not an https:// URL: anybody could write there")


def check_authorities(
    peers: bytes,
    clients: bytes,
    *,
    allowed_cn: Collection[str],
    allowed_hostname: Collection[str],
    principal: str,
    tenants: Collection[str] | None,
) -> None:
    """Looks at the authorities (PEM) of daemons and of clients.

    :raises SettingsError: a tenant's certificate might pass for a daemon's
    """
    if not share_authority(peers, clients):
        return
    if principal != "cn" or not allowed_cn or allowed_hostname:
        raise SettingsError(
            "--peer-trusted-ca-file shares an authority with --trusted-ca-file, so that a tenant's certificate would "
            "pass for a daemon's: give daemons an authority of their own, or name theirs with --peer-cert-allowed-cn "
            "alone, with --principal cn"
        )
    if names := set(allowed_cn) & set(tenants or ()):
        raise SettingsError(f"--peer-cert-allowed-cn: {', '.join(sorted(names))} is among --tenants")


def share_authority(peers: bytes, clients: bytes) -> bool:
    """Whether a certificate that the clients' authorities (PEM) have signed may be one of the peers' authorities.

    It is where both have an authority's key, or where one of the clients' is signed by one of the peers'.
    """
    of_peers, of_clients = x509.load_pem_x509_certificates(peers), x509.load_pem_x509_certificates(clients)
    return any(_has_key_of(one, other) or _has_signed(one, other) for one in of_peers for other in of_clients)


def _has_key_of(one: x509.Certificate, other: x509.Certificate) -> bool:
    form = Encoding.DER, PublicFormat.SubjectPublicKeyInfo
    return one.public_key().public_bytes(*form) == other.public_key().public_bytes(*form)


def _has_signed(one: x509.Certificate, other: x509.Certificate) -> bool:
    try:
        other.verify_directly_issued_by(one)
    except (ValueError, TypeError, InvalidSignature):
        return False
    return True

"""What TLS is served with beside certificates: versions, and cipher suites by Go's names, as etcd has them."""

from collections.abc import Sequence
from dataclasses import dataclass

from fetch.config import Settings

VERSIONS = ("TLS1.2", "TLS1.3")

_ALIASES = {
    "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305": "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256",
    "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305": "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256",
}
"""Names that Go has given up."""

OPENSSL = {
    "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256": "ECDHE-ECDSA-AES128-GCM-SHA256",
    "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384": "ECDHE-ECDSA-AES256-GCM-SHA384",
    "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256": "ECDHE-ECDSA-CHACHA20-POLY1305",
    "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256": "ECDHE-RSA-AES128-GCM-SHA256",
    "TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384": "ECDHE-RSA-AES256-GCM-SHA384",
    "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256": "ECDHE-RSA-CHACHA20-POLY1305",
}
"""The cipher suites of TLS 1.2 that can be chosen: what rustls has, and OpenSSL's names for them."""


@dataclass(frozen=True, slots=True)
class Terms:
    """Versions of TLS, oldest first, and cipher suites of TLS 1.2; none is all."""

    versions: Sequence[str] = VERSIONS
    cipher_suites: Sequence[str] = ()

    @property
    def are_chosen(self) -> bool:
        """Whether they leave anything out that is served otherwise."""
        return bool(self.cipher_suites) or tuple(self.versions) != VERSIONS


def terms_of(settings: Settings) -> Terms:
    """The terms that settings ask for.

    :raises ValueError: one of the cipher suites cannot be served
    """
    versions = VERSIONS[VERSIONS.index(settings.tls_min_version) : VERSIONS.index(settings.tls_max_version) + 1]
    suites = tuple(_ALIASES.get(name, name) for name in settings.cipher_suites)
    for name in suites:
        if name not in OPENSSL:
            raise ValueError(f"--cipher-suites: {name} cannot be served; these can: {', '.join(OPENSSL)}")
    return Terms(versions, suites)

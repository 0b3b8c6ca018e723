"""Whom a client's certificate names, and until when: read from the certificate itself.

gRPC's auth context has names too, but as C strings: one with a NUL in it ends there, and is somebody else's. So the
certificate alone is believed, and strictly: it names one principal so that no two readers differ on it, or nobody.
"""

import math
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace

from cryptography import x509
from cryptography.x509.oid import NameOID

from fetch.config import Settings
from fetch.tenants.names import validate_tenant_name

_UNREADABLE = (ValueError, TypeError, x509.DuplicateExtension, x509.UnsupportedGeneralNameType)
"""What cryptography raises for what is not as X.509 has it."""
_COMMON_NAME_DER = b"\x06\x03\x55\x04\x03"
_DIRECTORY_STRINGS = frozenset({0x0C, 0x13, 0x14, 0x1C, 0x1E})
"""The tags of what X.520 lets a common name be: UTF8, Printable, Teletex, Universal and BMPString."""
_MOST_KNOWN = 4096
_LARGEST_KNOWN = 16 << 10
"""Bytes of what a client has presented."""


SHARED_NAMES = frozenset(
    {
        # kubeadm's, and those of Kubernetes' page on certificates
        "kube-apiserver-etcd-client",
        "kube-etcd-healthcheck-client",
        "kube-etcd",
        "kube-etcd-peer",
        "kube-apiserver",
        # k3s', RKE2's, kops'
        "etcd-client",
        # Kamaji's, and etcd's own for its first user
        "root",
        "etcd",
        "client",
        "localhost",
    }
)
"""What those who make certificates for a cluster call its client of etcd, in every cluster alike: two clusters under
one authority would have one tenant, and each the other's Secrets."""


@dataclass(frozen=True, slots=True)
class Principal:
    """What a certificate says of its owner.

    `name` is a tenant's name; it is empty where the certificate names nobody, and `refusal` says why then. `expires`
    is the end of its validity in seconds since the Unix epoch. `distrusted` says why its connection has lost its
    rights, if it has. `certificates` are those that were presented, in PEM.
    """

    name: str
    expires: float
    refusal: str = ""
    distrusted: str = ""
    certificates: bytes = b""


NOBODY = Principal("", math.inf, "no client certificate")
"""The caller who has shown no certificate."""


class Principals:
    """Whom certificates name as the settings have it. What was read of one is kept: to read it takes 50 µs, to find it
    0.1.

    `anonymous` is the caller on http:// listeners.
    """

    def __init__(self, settings: Settings, distrusted: Callable[[bytes], str] | None = None) -> None:
        """`distrusted` says why what was presented has lost its rights, and nothing if it has not."""
        anonymous = settings.anonymous_tenant
        self.anonymous = NOBODY if anonymous is None else Principal(anonymous, math.inf)
        self._kind = settings.principal
        self._listed = frozenset((*settings.admin_principals, *(settings.tenants or ())))
        self._distrusted = distrusted
        self._known: dict[bytes, Principal] = {}

    def __len__(self) -> int:
        """How many are kept."""
        return len(self._known)

    def of(self, certificate: bytes, presented: bytes) -> Principal:
        """Whom a certificate names (PEM); `presented` is it with what came along."""
        return self._known.get(presented) or self._read(certificate, presented)

    def forget(self) -> None:
        """Reads all of them anew."""
        self._known.clear()

    def _read(self, certificate: bytes, presented: bytes) -> Principal:
        principal = replace(
            principal_of(certificate, self._kind, self._listed),
            certificates=presented,
            distrusted="" if self._distrusted is None else self._distrusted(presented),
        )
        if len(presented) <= _LARGEST_KNOWN:
            if len(self._known) >= _MOST_KNOWN:
                del self._known[next(iter(self._known))]
            self._known[presented] = principal
        return principal


class _NamelessError(Exception):
    """The certificate names nobody: a sentence whose part before the colon is one of few."""


def principal_of(pem: bytes, kind: str, tenants: Collection[str] = ()) -> Principal:
    """The principal of a certificate: its one name of a kind, which is one of the setting `principal`.

    A certificate with several names of that kind has no principal, since which of them counts would be for whoever
    reads it to choose; nor has one whose common name is not a text, or one of `SHARED_NAMES` unless `tenants` lists it.
    """
    expires = math.inf
    try:
        certificate = x509.load_pem_x509_certificate(pem)
        expires = certificate.not_valid_after_utc.timestamp()
        names = _common_names(certificate) if kind == "cn" else _alternative_names(certificate, kind)
        return Principal(_own(_only(names), tenants), expires)
    except _UNREADABLE:
        return Principal("", expires, "the client certificate cannot be read")
    except _NamelessError as error:
        return Principal("", expires, str(error))


def _only(names: Sequence[str]) -> str:
    if not any(names):
        raise _NamelessError("the client certificate has no principal")
    if len(names) > 1:
        raise _NamelessError(f"the client certificate has more than one principal: {', '.join(map(repr, names))}")
    try:
        validate_tenant_name(names[0])
    except ValueError as error:
        raise _NamelessError(f"the principal is not a valid tenant name: {error}") from error
    return names[0]


def _own(name: str, tenants: Collection[str]) -> str:
    if name in SHARED_NAMES and name not in tenants:
        raise _NamelessError(
            f"the client certificate has a name that every cluster's has: {name!r}; "
            "give each cluster one of its own, or list this one in --tenants"
        )
    return name


def _common_names(certificate: x509.Certificate) -> list[str]:
    attributes = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    for attribute in attributes:
        if _tag_of(attribute) not in _DIRECTORY_STRINGS:
            raise _NamelessError("the common name of the client certificate is not a text")
    return [str(attribute.value) for attribute in attributes]


def _tag_of(attribute: x509.NameAttribute[str | bytes]) -> int:
    """The ASN.1 type of a common name. cryptography reads an OCTET STRING, or a time, as a text too."""
    encoded = x509.Name([attribute]).public_bytes()
    return encoded[encoded.index(_COMMON_NAME_DER) + len(_COMMON_NAME_DER)]


def _alternative_names(certificate: x509.Certificate, kind: str) -> list[str]:
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return []
    if kind == "san-uri":
        return names.get_values_for_type(x509.UniformResourceIdentifier)
    return names.get_values_for_type(x509.DNSName)

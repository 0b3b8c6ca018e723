"""TLS for secure ports, asked for as grpcio asks for it."""

from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet

from fetch_transport import _native

ServerCredentials = _native.Credentials


def ssl_server_credentials(
    private_key_certificate_chain_pairs: Sequence[tuple[bytes, bytes]],
    root_certificates: bytes | None = None,
    require_client_auth: bool = False,
    *,
    revoked: Mapping[bytes, AbstractSet[int]] | None = None,
    versions: Sequence[str] = (),
    cipher_suites: Sequence[str] = (),
) -> ServerCredentials:
    """TLS 1.2 and 1.3 with HTTP/2, with the signature of `grpc.ssl_server_credentials`, and what that has not.

    `credentials.replace(others)` gives a port that serves with these what new handshakes are done with.

    Args:
        private_key_certificate_chain_pairs: exactly one pair of PEM texts, key first.
        root_certificates: PEM of the authorities that sign clients' certificates; used where they are required.
        require_client_auth: whether a client must present a certificate; without, none is asked for.
        revoked: serial numbers of certificates that are not taken, by the name of their issuer in DER.
        versions: of the protocol, `TLS1.2` and `TLS1.3`; both by default.
        cipher_suites: those of TLS 1.2 that are used, by their IANA names; all that there are by default.

    Raises:
        ValueError: for more or less than one pair, for PEM that cannot be read or does not belong together, for
            required certificates without authorities, and for names that are not served.
    """
    if len(private_key_certificate_chain_pairs) != 1:
        raise ValueError("Exactly one private key-certificate chain pair is required!")
    if require_client_auth and root_certificates is None:
        raise ValueError("Illegal to require client auth without providing root certificates!")
    ((private_key, certificate_chain),) = private_key_certificate_chain_pairs
    return ServerCredentials(
        private_key,
        certificate_chain,
        root_certificates if require_client_auth else None,
        {issuer: {_as_bytes(serial) for serial in serials} for issuer, serials in (revoked or {}).items()},
        list(versions),
        list(cipher_suites),
    )


def _as_bytes(serial: int) -> bytes:
    """A serial number as DER has it, without zeros before it. It should be positive, and is not everywhere."""
    if serial >= 0:
        return serial.to_bytes((serial.bit_length() + 7) // 8)
    return serial.to_bytes(serial.bit_length() // 8 + 1, signed=True)

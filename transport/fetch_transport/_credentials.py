"""TLS for secure ports, asked for as grpcio asks for it."""

from collections.abc import Sequence

from fetch_transport import _native

ServerCredentials = _native.Credentials


def ssl_server_credentials(
    private_key_certificate_chain_pairs: Sequence[tuple[bytes, bytes]],
    root_certificates: bytes | None = None,
    require_client_auth: bool = False,
) -> ServerCredentials:
    """TLS 1.2 and 1.3 with HTTP/2, with the signature of `grpc.ssl_server_credentials`.

    Args:
        private_key_certificate_chain_pairs: exactly one pair of PEM texts, key first.
        root_certificates: PEM of the authorities that sign clients' certificates; used where they are required.
        require_client_auth: whether a client must present a certificate; without, none is asked for.

    Raises:
        ValueError: for more or less than one pair, for PEM that cannot be read or does not belong together, and for
            required certificates without authorities.
    """
    if len(private_key_certificate_chain_pairs) != 1:
        raise ValueError("Exactly one private key-certificate chain pair is required!")
    if require_client_auth and root_certificates is None:
        raise ValueError("Illegal to require client auth without providing root certificates!")
    ((private_key, certificate_chain),) = private_key_certificate_chain_pairs
    return ServerCredentials(private_key, certificate_chain, root_certificates if require_client_auth else None)

"""TLS for what Python itself listens on: as on the gRPC ports, clients must have a certificate."""

import ssl
from collections.abc import Sequence


def server_context(cert_file: str, key_file: str, trusted_ca_file: str, protocols: Sequence[str]) -> ssl.SSLContext:
    """A server's context; `protocols` are offered by ALPN.

    :raises OSError: a file cannot be read, or is not what it should be
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.load_cert_chain(cert_file, key_file, password="")
    context.load_verify_locations(trusted_ca_file)
    context.verify_mode = ssl.CERT_REQUIRED
    context.set_alpn_protocols(list(protocols))
    # a resumed session does not show the certificate again, whose time may be over
    context.options |= ssl.OP_NO_TICKET | ssl.OP_NO_RENEGOTIATION
    context.num_tickets = 0
    return context

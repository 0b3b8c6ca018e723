"""TLS for what Python itself listens on: as on the gRPC ports, clients must have a certificate."""

import contextlib
import functools
import os
import ssl
from collections.abc import Iterator, Sequence

from fetch.tls.material import Material
from fetch.tls.rotation import Rotation, Take
from fetch.tls.terms import OPENSSL, Terms

_VERSIONS = {"TLS1.2": ssl.TLSVersion.TLSv1_2, "TLS1.3": ssl.TLSVersion.TLSv1_3}


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


def rotating_context(rotation: Rotation, protocols: Sequence[str], terms: Terms) -> ssl.SSLContext:
    """A server's context whose handshakes are done with what `rotation` has by then.

    Its handshakes know no revocation lists: `authorization` refuses the calls of whom those name.

    :raises OSError: what there is cannot be served with
    """
    context = current = _of(rotation.material, protocols, terms)

    def turn(connection: ssl.SSLObject, name: str | None, given: ssl.SSLContext) -> None:  # noqa: ARG001  ssl's
        # at the client's first message, whether it names a server or not: certificate and authorities are this one's
        connection.context = current

    def take(newer: ssl.SSLContext) -> None:
        nonlocal current
        current = newer

    def prepare(material: Material) -> Take:
        try:
            return functools.partial(take, _of(material, protocols, terms))
        except OSError as error:
            raise ValueError(f"the certificates cannot be served with: {error}") from error

    context.sni_callback = turn
    rotation.serve_with(prepare)
    return context


def _of(material: Material, protocols: Sequence[str], terms: Terms) -> ssl.SSLContext:
    """A context of what has been read: ssl reads files alone, which may say something else by now."""
    with _file(material.certificate) as certificate, _file(material.key) as key, _file(material.authorities) as roots:
        context = server_context(certificate, key, roots, protocols)
    context.minimum_version, context.maximum_version = (_VERSIONS[terms.versions[end]] for end in (0, -1))
    if terms.cipher_suites:
        context.set_ciphers(":".join(OPENSSL[name] for name in terms.cipher_suites))
    return context


@contextlib.contextmanager
def _file(data: bytes) -> Iterator[str]:
    """A file in memory with this in it, for as long as the context is open."""
    descriptor = os.memfd_create("tls")
    try:
        with open(descriptor, "wb", closefd=False) as file:
            file.write(data)
        yield f"/proc/self/fd/{descriptor}"
    finally:
        os.close(descriptor)

"""TLS: who gets in, and what a handler learns of who did."""

import asyncio
import ipaddress
import socket
import ssl
from dataclasses import astuple
from typing import Any
from unittest.mock import ANY

import grpc
import pytest
from certificates import DAY, Authority, Identity, context_of
from conftest import BOUND, GRPCIO, NATIVE, Kind, handlers_of, path
from cryptography import x509
from cryptography.x509.oid import NameOID

Attribute = x509.NameAttribute

SUBJECTS: dict[str, tuple[list[x509.NameAttribute[str]], list[x509.GeneralName]]] = {
    "a common name": ([Attribute(NameOID.COMMON_NAME, "alpha")], []),
    "two common names": ([Attribute(NameOID.COMMON_NAME, "one"), Attribute(NameOID.COMMON_NAME, "two")], []),
    "no name at all": ([], []),
    "what must be escaped": (
        [
            Attribute(NameOID.COUNTRY_NAME, "DE"),
            Attribute(NameOID.STATE_OR_PROVINCE_NAME, " both ends "),
            Attribute(NameOID.LOCALITY_NAME, "#sharp"),
            Attribute(NameOID.ORGANIZATION_NAME, 'Örg, "Inc"+x\\<>;='),
            Attribute(NameOID.ORGANIZATIONAL_UNIT_NAME, "units"),
            Attribute(NameOID.COMMON_NAME, "ünïcode"),
        ],
        [],
    ),
    "rare attributes": (
        [
            Attribute(NameOID.EMAIL_ADDRESS, "a@b.example"),
            Attribute(NameOID.SERIAL_NUMBER, "12"),
            Attribute(NameOID.DOMAIN_COMPONENT, "dc"),
            Attribute(NameOID.USER_ID, "uid"),
            Attribute(NameOID.STREET_ADDRESS, "street"),
            Attribute(NameOID.TITLE, "title"),
            Attribute(NameOID.SURNAME, "surname"),
            Attribute(NameOID.GIVEN_NAME, "given"),
            Attribute(NameOID.INITIALS, "i"),
            Attribute(NameOID.DN_QUALIFIER, "q"),
        ],
        [],
    ),
    "alternative names": (
        [Attribute(NameOID.COMMON_NAME, "alpha")],
        [
            x509.DNSName("a.example"),
            x509.DNSName("b.example"),
            x509.UniformResourceIdentifier("https://a.example/b"),
            x509.IPAddress(ipaddress.ip_address("10.0.0.1")),
            x509.IPAddress(ipaddress.ip_address("fe80::1")),
            x509.RFC822Name("a@b.example"),
            x509.DirectoryName(x509.Name([Attribute(NameOID.COMMON_NAME, "directory")])),
        ],
    ),
    "a SPIFFE id": ([], [x509.UniformResourceIdentifier("spiffe://trust.example/workload")]),
    "two URIs": (
        [],
        [x509.UniformResourceIdentifier("spiffe://trust.example/a"), x509.UniformResourceIdentifier("urn:b")],
    ),
}


class Secured:
    """A server that asks for certificates, and what its handler has seen."""

    def __init__(
        self, kind: Kind, authority: Authority, identity: Identity, *, required: bool = True, **options: Any
    ) -> None:
        self._kind = kind
        self._authority = authority
        self.seen: dict[str, Any] = {}
        pair = (identity.key, identity.certificate)
        self.credentials = kind.ssl_server_credentials([pair], authority.pem if required else None, required, **options)
        self._server = kind.server()
        self._server.add_generic_rpc_handlers(handlers_of({"Look": grpc.unary_unary_rpc_method_handler(self._look)}))
        self.port = self._server.add_secure_port("127.0.0.1:0", self.credentials)

    async def _look(self, request: bytes, context: grpc.aio.ServicerContext) -> bytes:
        self.seen = {
            "context": {key: list(values) for key, values in context.auth_context().items()},
            "identities": context.peer_identities() and list(context.peer_identities()),
            "key": context.peer_identity_key(),
        }
        return b"seen"

    async def __aenter__(self) -> "Secured":
        await self._server.start()
        return self

    async def __aexit__(self, *error: object) -> None:
        await self._server.stop(None)

    async def look(self, client: Identity | None, roots: bytes | None = None) -> bytes:
        pair = (None, None) if client is None else (client.key, client.certificate)
        credentials = grpc.ssl_channel_credentials(roots or self._authority.pem, *pair)
        async with grpc.aio.secure_channel(f"127.0.0.1:{self.port}", credentials) as channel:
            return await channel.unary_unary(path("Look"))(b"", timeout=BOUND)


@pytest.mark.parametrize("subject", SUBJECTS)
async def test_the_auth_context_is_grpcios(authority: Authority, server_identity: Identity, subject: str) -> None:
    attributes, names = SUBJECTS[subject]
    client = authority.identity(attributes, names)
    seen = []
    for kind in (NATIVE, GRPCIO):
        async with Secured(kind, authority, server_identity) as secured:
            assert await secured.look(client) == b"seen"
            # Each library has its own favourite.
            secured.seen["context"].pop("ssl_negotiated_key_exchange_group", None)
            seen.append(secured.seen)
    native, grpcio = seen
    assert native == grpcio


async def test_intermediates_are_in_the_auth_context_as_grpcios(
    authority: Authority, server_identity: Identity
) -> None:
    between = authority.authority("between")
    client = between.client("alpha")
    client = Identity(client.key, client.certificate + between.pem)
    seen = []
    for kind in (NATIVE, GRPCIO):
        async with Secured(kind, authority, server_identity) as secured:
            assert await secured.look(client) == b"seen"
            seen.append(secured.seen["context"]["x509_pem_cert_chain"])
    assert seen == [[between.pem]] * 2


async def test_without_required_certificates_nobody_is_named(authority: Authority, server_identity: Identity) -> None:
    seen = []
    for kind in (NATIVE, GRPCIO):
        async with Secured(kind, authority, server_identity, required=False) as secured:
            assert await secured.look(None) == b"seen"
            secured.seen["context"].pop("ssl_negotiated_key_exchange_group", None)
            seen.append(secured.seen)
    native, grpcio = seen
    assert native == grpcio
    assert (native["identities"], native["key"]) == (None, None)


async def refused(secured: Secured, client: Identity | None) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as raised:
        await secured.look(client)
    assert raised.value.code() is grpc.StatusCode.UNAVAILABLE
    assert secured.seen == {}


async def test_a_client_without_certificate_is_refused(
    kind: Kind, authority: Authority, server_identity: Identity
) -> None:
    async with Secured(kind, authority, server_identity) as secured:
        await refused(secured, None)


async def test_a_certificate_of_another_authority_is_refused(
    kind: Kind, authority: Authority, server_identity: Identity
) -> None:
    async with Secured(kind, authority, server_identity) as secured:
        await refused(secured, Authority.named("stranger").client("alpha"))


async def test_a_certificate_of_a_namesake_authority_is_refused(
    kind: Kind, authority: Authority, server_identity: Identity
) -> None:
    async with Secured(kind, authority, server_identity) as secured:
        await refused(secured, Authority.named("trusted").client("alpha"))


async def test_an_expired_certificate_is_refused(kind: Kind, authority: Authority, server_identity: Identity) -> None:
    async with Secured(kind, authority, server_identity) as secured:
        await refused(secured, authority.client("alpha", lifetime=-DAY))


async def test_a_key_that_is_not_the_certificates_is_refused(
    kind: Kind, authority: Authority, server_identity: Identity
) -> None:
    async with Secured(kind, authority, server_identity) as secured:
        stolen = Identity(authority.client("beta").key, authority.client("alpha").certificate)
        with pytest.raises((grpc.aio.AioRpcError, RuntimeError, ValueError)):
            await secured.look(stolen)
        assert secured.seen == {}


async def test_plain_text_on_a_secure_port_is_refused(
    kind: Kind, authority: Authority, server_identity: Identity
) -> None:
    async with Secured(kind, authority, server_identity) as secured:
        async with grpc.aio.insecure_channel(f"127.0.0.1:{secured.port}") as channel:
            with pytest.raises(grpc.aio.AioRpcError, match="UNAVAILABLE"):
                await channel.unary_unary(path("Look"))(b"", timeout=BOUND)
        assert await secured.look(authority.client("alpha")) == b"seen"


@pytest.mark.parametrize(
    ("version", "admitted"),
    [(ssl.TLSVersion.TLSv1_1, False), (ssl.TLSVersion.TLSv1_2, True), (ssl.TLSVersion.TLSv1_3, True)],
)
async def test_tls_is_at_least_1_2(
    kind: Kind, authority: Authority, server_identity: Identity, tmp_path: Any, version: Any, *, admitted: bool
) -> None:
    context = context_of(authority, authority.client("alpha"), tmp_path, None)
    context.minimum_version = context.maximum_version = version
    context.set_ciphers("DEFAULT@SECLEVEL=0")
    context.set_alpn_protocols(["h2"])
    async with Secured(kind, authority, server_identity) as secured:
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", secured.port, ssl=context)
        except (ssl.SSLError, ConnectionError):
            assert not admitted
            return
        assert admitted
        assert writer.get_extra_info("ssl_object").selected_alpn_protocol() == "h2"
        writer.close()


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
async def test_no_session_outlives_its_connection(
    authority: Authority, server_identity: Identity, tmp_path: Any, version: ssl.TLSVersion
) -> None:
    context = context_of(authority, authority.client("alpha"), tmp_path, None)
    context.minimum_version = context.maximum_version = version
    context.set_alpn_protocols(["h2"])

    def connect(port: int, session: ssl.SSLSession | None) -> tuple[ssl.SSLSession | None, bool | None]:
        with (
            socket.create_connection(("127.0.0.1", port), timeout=BOUND) as connection,
            context.wrap_socket(connection, server_hostname="127.0.0.1", session=session) as wrapped,
        ):
            # the server's first frame, with which its tickets would have come
            assert wrapped.recv(9)
            return wrapped.session, wrapped.session_reused

    async with Secured(NATIVE, authority, server_identity) as secured:
        session, _ = await asyncio.to_thread(connect, secured.port, None)
        assert await asyncio.to_thread(connect, secured.port, session) == (ANY, False)


@pytest.mark.parametrize("protocols", [["http/1.1"], None])
async def test_a_client_that_does_not_speak_http2_is_refused(
    kind: Kind, authority: Authority, server_identity: Identity, tmp_path: Any, protocols: list[str] | None
) -> None:
    context = context_of(authority, authority.client("alpha"), tmp_path, None)
    if protocols:
        context.set_alpn_protocols(protocols)
    async with Secured(kind, authority, server_identity) as secured:
        try:
            reader, writer = await asyncio.open_connection("127.0.0.1", secured.port, ssl=context)
            assert await asyncio.wait_for(reader.read(), BOUND) == b""
            writer.close()
        except (ssl.SSLError, ConnectionError):
            pass


def test_credentials_that_do_not_fit_are_a_valueerror(authority: Authority, server_identity: Identity) -> None:
    make = NATIVE.ssl_server_credentials
    pair = (server_identity.key, server_identity.certificate)
    for wrong in (
        lambda: make([]),
        lambda: make([pair, pair]),
        lambda: make([pair], None, True),
        lambda: make([(b"no key", server_identity.certificate)]),
        lambda: make([(server_identity.key, b"no certificate")]),
        lambda: make([(authority.client("other").key, server_identity.certificate)]),
        lambda: make([pair], b"no authority", True),
    ):
        with pytest.raises(ValueError, match=r"\w"):
            wrong()


# what is replaced, revoked and chosen: of the native one alone


async def test_new_connections_are_served_with_what_has_replaced_the_credentials(
    authority: Authority, server_identity: Identity
) -> None:
    another = Authority.named("another")
    renewed = another.server()
    async with Secured(NATIVE, authority, server_identity) as secured:
        credentials = grpc.ssl_channel_credentials(authority.pem, *astuple(authority.client("alpha")))
        async with grpc.aio.secure_channel(f"127.0.0.1:{secured.port}", credentials) as channel:
            look = channel.unary_unary(path("Look"))
            await look(b"", timeout=BOUND)
            pair = (renewed.key, renewed.certificate)
            secured.credentials.replace(NATIVE.ssl_server_credentials([pair], another.pem, True))
            assert await secured.look(another.client("beta"), another.pem) == b"seen"
            # the connection that was there goes on
            assert await look(b"", timeout=BOUND) == b"seen"
        secured.seen = {}
        await refused(secured, authority.client("alpha"))


async def test_a_revoked_certificate_is_refused_and_no_other(authority: Authority, server_identity: Identity) -> None:
    revoked, other = (x509.load_pem_x509_certificate(authority.client(name).certificate) for name in "ab")
    clients = [authority.client(name) for name in ("revoked", "other")]
    serial = x509.load_pem_x509_certificate(clients[0].certificate).serial_number
    lists = {revoked.issuer.public_bytes(): {serial}, other.subject.public_bytes(): {1}}
    async with Secured(NATIVE, authority, server_identity, revoked=lists) as secured:
        await refused(secured, clients[0])
        assert await secured.look(clients[1]) == b"seen"


async def test_whoever_presents_a_revoked_intermediate_is_refused(
    authority: Authority, server_identity: Identity
) -> None:
    between = authority.authority("between")
    client = between.client("alpha")
    issuer, serial = authority.certificate.subject.public_bytes(), between.certificate.serial_number
    async with Secured(NATIVE, authority, server_identity, revoked={issuer: {serial}}) as secured:
        await refused(secured, Identity(client.key, client.certificate + between.pem))


@pytest.mark.parametrize("serial", [1, 127, 128, 255, 256, 2**64, 2**159 - 1])
async def test_numbers_are_compared_as_numbers(authority: Authority, server_identity: Identity, serial: int) -> None:
    client = authority.client("alpha", serial=serial)
    lists = {authority.certificate.subject.public_bytes(): {serial}}
    async with Secured(NATIVE, authority, server_identity, revoked=lists) as secured:
        await refused(secured, client)


def shake_hands(port: int, context: ssl.SSLContext) -> tuple[str | None, str]:
    """The version and the cipher suite that both ends agree on."""
    context.set_alpn_protocols(["h2"])
    with (
        socket.create_connection(("127.0.0.1", port), timeout=BOUND) as connection,
        context.wrap_socket(connection, server_hostname="127.0.0.1") as secured,
    ):
        cipher = secured.cipher()
        assert cipher is not None
        return secured.version(), cipher[0]


@pytest.mark.parametrize(
    ("versions", "agreed"), [(["TLS1.2"], "TLSv1.2"), (["TLS1.3"], "TLSv1.3"), (["TLS1.2", "TLS1.3"], "TLSv1.3")]
)
async def test_the_versions_served_are_those_that_were_chosen(
    authority: Authority, server_identity: Identity, tmp_path: Any, versions: list[str], agreed: str
) -> None:
    context = context_of(authority, authority.client("alpha"), tmp_path, None)
    async with Secured(NATIVE, authority, server_identity, versions=versions) as secured:
        assert (await asyncio.to_thread(shake_hands, secured.port, context))[0] == agreed
        if len(versions) == 1:
            other = {"TLSv1.2": ssl.TLSVersion.TLSv1_3, "TLSv1.3": ssl.TLSVersion.TLSv1_2}[agreed]
            context.minimum_version = ssl.TLSVersion.TLSv1_2
            context.maximum_version = ssl.TLSVersion.TLSv1_3
            context.minimum_version = context.maximum_version = other
            with pytest.raises((ssl.SSLError, ConnectionError)):
                await asyncio.to_thread(shake_hands, secured.port, context)


async def test_the_cipher_suite_is_one_that_was_chosen(
    authority: Authority, server_identity: Identity, tmp_path: Any
) -> None:
    context = context_of(authority, authority.client("alpha"), tmp_path, None)
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    suites = ["TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256"]
    async with Secured(NATIVE, authority, server_identity, cipher_suites=suites) as secured:
        agreed = await asyncio.to_thread(shake_hands, secured.port, context)
        assert agreed == ("TLSv1.2", "ECDHE-ECDSA-CHACHA20-POLY1305")
        context.set_ciphers("ECDHE-ECDSA-AES128-GCM-SHA256")
        with pytest.raises((ssl.SSLError, ConnectionError)):
            await asyncio.to_thread(shake_hands, secured.port, context)


@pytest.mark.parametrize(
    "options",
    [{"versions": ["TLS1.1"]}, {"cipher_suites": ["TLS_RSA_WITH_AES_128_CBC_SHA"]}, {"cipher_suites": ["none"]}],
)
def test_what_is_not_served_cannot_be_chosen(server_identity: Identity, options: dict[str, list[str]]) -> None:
    with pytest.raises(ValueError, match=next(iter(options.values()))[0]):
        NATIVE.ssl_server_credentials([astuple(server_identity)], **options)


async def test_handshakes_that_fail_are_told_with_their_clients_address(
    authority: Authority, server_identity: Identity
) -> None:
    told: asyncio.Queue[tuple[list[tuple[str, str]], int]] = asyncio.Queue()
    secured = Secured(NATIVE, authority, server_identity)
    secured._server.on_refused_handshakes(lambda refusals, besides: told.put_nowait((refusals, besides)))
    async with secured:
        await refused(secured, Authority.named("stranger").client("alpha"))
        refusals, besides = await asyncio.wait_for(told.get(), BOUND)
    assert refusals[0][0].startswith("ipv4:127.0.0.1:")
    assert "invalid peer certificate" in refusals[0][1]
    assert besides == 0

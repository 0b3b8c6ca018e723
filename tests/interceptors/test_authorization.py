"""Who a caller is taken for, and for how long."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace

import grpc
import pytest
from cryptography import x509

from fetch import errors
from fetch.chain import Call, Setup
from fetch.config import Settings
from fetch.engine.memory.engine import MemoryTenants
from fetch.engine.protocol import Ended, StorageEngine
from fetch.tls import certificates, principals
from interceptors.authorization import Authorization
from tests.interceptors.calls import INSECURE, Identity, answer, call

SETTINGS = Settings(listen_client_urls=("http://127.0.0.1:2379",), anonymous_tenant="guest")
AUTHORITY = certificates.authority("tests")


def identity_of(common_name: str | None, *names: x509.GeneralName, claimed: bytes = b"claimed") -> Identity:
    """The identity of a new certificate; the auth context's own word for its name is another."""
    certificate = certificates.issue(AUTHORITY, common_name, names=names).certificate_pem
    return {"transport_security_type": [b"ssl"], "x509_common_name": [claimed], "x509_pem_cert": [certificate]}


EVERYTHING = identity_of(
    "alpha", x509.UniformResourceIdentifier("spiffe://example/beta"), x509.DNSName("gamma.example")
)
"""The identity of a certificate that has a name of each sort."""

TenantOf = Callable[[Identity, Settings], Awaitable[str]]


@pytest.fixture
def tenants() -> MemoryTenants:
    return MemoryTenants()


@pytest.fixture
def tenant_of(tenants: MemoryTenants) -> TenantOf:
    """The name of the tenant that a caller is let in as."""

    async def let_in(identity: Identity, settings: Settings) -> str:
        passed = await Authorization(Setup({}, settings, tenants)).intercept(call(identity=identity), answer)
        name: str = passed.tenant.tenant
        return name

    return let_in


@pytest.mark.parametrize(
    ("principal", "tenant"), [("cn", "alpha"), ("san-uri", "spiffe://example/beta"), ("san-dns", "gamma.example")]
)
async def test_the_setting_says_which_name_is_the_tenants(tenant_of: TenantOf, principal: str, tenant: str) -> None:
    assert await tenant_of(EVERYTHING, replace(SETTINGS, principal=principal)) == tenant


async def test_a_caller_on_an_insecure_listener_is_the_anonymous_tenant(tenant_of: TenantOf) -> None:
    assert await tenant_of(INSECURE, SETTINGS) == "guest"


@pytest.mark.parametrize("identity", [{}, {"transport_security_type": [b"ssl"]}], ids=["unknown", "secure"])
async def test_a_caller_of_whom_nothing_is_known_is_nobody(tenant_of: TenantOf, identity: Identity) -> None:
    with pytest.raises(errors.EtcdError, match="permission denied: no client certificate"):
        await tenant_of(identity, SETTINGS)


async def test_a_caller_on_an_insecure_listener_is_nobody_where_there_is_no_anonymous_tenant(
    tenants: MemoryTenants,
) -> None:
    refusing = Authorization(Setup({}, _without_anonymous(), tenants))
    with pytest.raises(errors.EtcdError, match="no client certificate"):
        await refusing.intercept(call(identity=INSECURE), answer)


def _without_anonymous() -> Settings:
    settings = replace(SETTINGS)
    object.__setattr__(settings, "anonymous_tenant", None)
    return settings


@pytest.mark.parametrize(
    ("identity", "principal"),
    [
        (identity_of("two words"), "cn"),
        (identity_of(None, x509.DNSName("somewhere")), "cn"),
        (identity_of("alpha"), "san-uri"),
        (identity_of("alpha"), "san-dns"),
        (identity_of("alpha", x509.DNSName("one"), x509.DNSName("two")), "san-dns"),
        ({**EVERYTHING, "x509_pem_cert": [b"garbage"]}, "cn"),
    ],
    ids=["two words", "no name", "no URI", "no DNS name", "two DNS names", "garbage"],
)
async def test_a_certificate_without_one_name_that_can_be_a_tenants_is_refused(
    tenant_of: TenantOf, identity: Identity, principal: str
) -> None:
    with pytest.raises(errors.EtcdError) as refused:
        await tenant_of(identity, replace(SETTINGS, principal=principal))
    assert refused.value.code == grpc.StatusCode.PERMISSION_DENIED


async def test_the_certificate_counts_and_not_what_grpc_says_of_it(tenant_of: TenantOf) -> None:
    attacker = identity_of("victim\0.attacker.example", claimed=b"victim")
    with pytest.raises(errors.EtcdError, match=r"not a valid tenant name: .*'victim\\x00.attacker.example'"):
        await tenant_of(attacker, SETTINGS)


async def test_only_tenants_of_the_list_are_let_in() -> None:
    authorization = Authorization(Setup({}, SETTINGS, MemoryTenants(allowed=["beta"])))
    with pytest.raises(errors.EtcdError, match="not a known tenant"):
        await authorization.intercept(call(identity=EVERYTHING), answer)


async def test_a_tenant_of_the_list_is_let_in() -> None:
    authorization = Authorization(Setup({}, SETTINGS, MemoryTenants(allowed=["alpha"])))
    passed = await authorization.intercept(call(identity=EVERYTHING), answer)
    assert passed.tenant.tenant == "alpha"


async def test_a_principal_of_the_list_is_an_administrator(tenants: MemoryTenants) -> None:
    authorization = Authorization(Setup({}, replace(SETTINGS, admin_principals=("alpha",)), tenants))
    assert (await authorization.intercept(call(identity=EVERYTHING), answer)).administrator


@pytest.mark.parametrize("name", ["alpha.example", "Alpha", "alph", "beta"])
async def test_nobody_else_is_an_administrator(tenants: MemoryTenants, name: str) -> None:
    authorization = Authorization(Setup({}, replace(SETTINGS, admin_principals=("alpha", "beta/")), tenants))
    assert not (await authorization.intercept(call(identity=identity_of(name)), answer)).administrator


async def test_an_administrators_name_of_another_sort_makes_no_administrator(tenants: MemoryTenants) -> None:
    settings = replace(SETTINGS, principal="san-dns", admin_principals=("alpha",))
    passed = await Authorization(Setup({}, settings, tenants)).intercept(call(identity=EVERYTHING), answer)
    assert (passed.tenant.tenant, passed.administrator) == ("gamma.example", False)


async def test_an_administrator_has_a_keyspace_of_its_own(tenants: MemoryTenants) -> None:
    authorization = Authorization(Setup({}, replace(SETTINGS, admin_principals=("alpha",)), tenants))
    assert (await authorization.intercept(call(identity=EVERYTHING), answer)).tenant.tenant == "alpha"


async def test_health_is_told_to_anyone(tenants: MemoryTenants) -> None:
    refusing = replace(SETTINGS, listen_client_urls=("http://127.0.0.1:2379",))
    authorization = Authorization(Setup({}, refusing, tenants))
    passed = await authorization.intercept(call("/grpc.health.v1.Health/Check", identity=EVERYTHING), answer)
    assert passed.tenant is None


async def test_all_calls_of_a_tenant_have_one_engine(tenants: MemoryTenants) -> None:
    authorization = Authorization(Setup({}, SETTINGS, tenants))
    first, second = [await authorization.intercept(call(identity=EVERYTHING), answer) for _ in range(2)]
    assert first.tenant is second.tenant


def test_authorization_needs_tenants() -> None:
    with pytest.raises(ValueError, match="tenants"):
        Authorization(Setup({}, SETTINGS))


async def test_a_certificate_is_read_once_for_all_its_calls(
    tenants: MemoryTenants, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[bytes] = []
    monkeypatch.setattr(principals, "principal_of", lambda pem, *rest: read.append(pem) or _principal_of(pem, *rest))
    authorization = Authorization(Setup({}, SETTINGS, tenants))
    for identity in (EVERYTHING, dict(EVERYTHING), EVERYTHING):
        await authorization.intercept(call(identity=identity), answer)
    assert len(read) == 1


_principal_of = principals.principal_of


@dataclass(slots=True)
class Trusting:
    """Trusts whom it is told to, until it is told otherwise."""

    reason: str = ""
    changed: Callable[[], None] = lambda: None
    asked: list[bytes] = field(default_factory=list)

    def refusal(self, certificates: bytes) -> str:
        self.asked.append(certificates)
        return self.reason

    def on_change(self, changed: Callable[[], None]) -> None:
        self.changed = changed

    def distrust(self, reason: str) -> None:
        self.reason = reason
        self.changed()


async def test_calls_of_a_certificate_that_is_not_trusted_any_more_are_refused(tenants: MemoryTenants) -> None:
    trust = Trusting()
    authorization = Authorization(Setup({}, SETTINGS, tenants, trust=trust))
    await authorization.intercept(call(identity=EVERYTHING), answer)
    trust.distrust("the client certificate has been revoked")
    with pytest.raises(
        errors.CertificateRefused, match="etcdserver: the client certificate has been revoked"
    ) as refused:
        await authorization.intercept(call(identity=EVERYTHING), answer)
    assert refused.value.code is grpc.StatusCode.UNAVAILABLE
    trust.distrust("")
    await authorization.intercept(call(identity=EVERYTHING), answer)


async def test_streams_of_a_certificate_that_is_not_trusted_any_more_end(tenants: MemoryTenants) -> None:
    trust, handler = Trusting(), Waiting()
    authorization = Authorization(Setup({}, SETTINGS, tenants, trust=trust))
    watching = asyncio.create_task(authorization.intercept(stream(EVERYTHING), handler))
    await handler.began.wait()
    trust.distrust("the client certificate has been revoked")
    with pytest.raises(errors.CertificateRefused, match="has been revoked"):
        await watching
    assert len(authorization._expiry) == 0


async def test_streams_go_on_whose_certificate_is_still_trusted(tenants: MemoryTenants) -> None:
    trust, handler = Trusting(), Waiting()
    authorization = Authorization(Setup({}, SETTINGS, tenants, trust=trust))
    watching = asyncio.create_task(authorization.intercept(stream(EVERYTHING), handler))
    await handler.began.wait()
    trust.distrust("")
    assert authorization._reviewing is not None
    await authorization._reviewing
    assert not watching.done()
    watching.cancel()
    with pytest.raises(asyncio.CancelledError):
        await watching


async def test_a_client_is_told_apart_by_what_it_presents_beside_its_certificate(tenants: MemoryTenants) -> None:
    trust = Trusting()
    authorization = Authorization(Setup({}, SETTINGS, tenants, trust=trust))
    other = certificates.issue(AUTHORITY, "between").certificate_pem
    for identity in (EVERYTHING, {**EVERYTHING, "x509_pem_cert_chain": [other]}):
        await authorization.intercept(call(identity=identity), answer)
    assert trust.asked == [EVERYTHING["x509_pem_cert"][0], EVERYTHING["x509_pem_cert"][0] + other]


async def test_the_certificates_that_are_known_are_bounded(
    tenants: MemoryTenants, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(principals, "_MOST_KNOWN", 3)
    authorization = Authorization(Setup({}, SETTINGS, tenants))
    for number in range(7):
        await authorization.intercept(call(identity=identity_of(f"tenant-{number}")), answer)
    assert len(authorization._principals) == 3


# what ends with the tenant


class Taken(MemoryTenants):
    """Tenants that can be taken away."""

    def when_ended(self, ended: Ended) -> None:
        self._ended = ended

    def take(self, name: str, error: type[errors.TenantClosed]) -> None:
        self._ended(self._engines.pop(name), error)


@pytest.mark.parametrize("error", [errors.TenantDisabled, errors.TenantDeleted])
@pytest.mark.parametrize("method", ["/etcdserverpb.Watch/Watch", "/v3lockpb.Lock/Lock"])
async def test_what_waits_ends_with_its_tenant(error: type[errors.TenantClosed], method: str) -> None:
    tenants, handler = Taken(), Waiting()
    authorization = Authorization(Setup({}, SETTINGS, tenants))
    opened = stream(EVERYTHING, method)
    opened.response_streaming = "Watch" in method
    watching = asyncio.create_task(authorization.intercept(opened, handler))
    await handler.began.wait()
    tenants.take("alpha", error)
    with pytest.raises(error) as ended:
        await watching
    assert ended.value.code is grpc.StatusCode.PERMISSION_DENIED


async def test_what_waits_goes_on_when_another_tenant_ends() -> None:
    tenants, handler = Taken(), Waiting()
    authorization = Authorization(Setup({}, SETTINGS, tenants))
    watching = asyncio.create_task(authorization.intercept(stream(EVERYTHING), handler))
    await handler.began.wait()
    await authorization.intercept(call(identity=identity_of("beta")), answer)
    tenants.take("beta", errors.TenantDeleted)
    await asyncio.sleep(0)
    assert not watching.done()
    watching.cancel()
    with pytest.raises(asyncio.CancelledError):
        await watching


async def test_nothing_is_kept_of_calls_that_have_ended() -> None:
    tenants, handler = Taken(), Waiting()
    authorization = Authorization(Setup({}, SETTINGS, tenants))
    watching = asyncio.create_task(authorization.intercept(stream(EVERYTHING), handler))
    await handler.began.wait()
    assert len(authorization._serving) == 1
    watching.cancel()
    await asyncio.wait([watching])
    assert len(authorization._serving) == 0


async def test_a_tenant_that_ends_while_it_is_opened_is_opened_anew() -> None:
    class Fleeting(Taken):
        opened = 0

        async def open(self, name: str) -> StorageEngine:
            engine = await super().open(name)
            self.opened += 1
            if self.opened == 1:
                self.take(name, errors.TenantDisabled)
            return engine

    tenants = Fleeting()
    passed = await Authorization(Setup({}, SETTINGS, tenants)).intercept(call(identity=EVERYTHING), answer)
    assert passed.tenant is tenants.get("alpha")
    assert tenants.opened == 2


async def test_a_tenant_that_is_closed_is_told_so() -> None:
    class Closed(MemoryTenants):
        async def open(self, name: str) -> StorageEngine:
            raise errors.TenantDisabled

    with pytest.raises(errors.TenantDisabled, match="permission denied: the tenant is disabled"):
        await Authorization(Setup({}, SETTINGS, Closed())).intercept(call(identity=EVERYTHING), answer)


# what ends with the certificate


@dataclass
class Clock:
    """A wall clock that stands until it is set, shortly before a certificate's end."""

    identity: Identity
    expires: float
    time: float

    def __call__(self) -> float:
        return self.time


@pytest.fixture
def clock() -> Clock:
    certificate = certificates.issue(AUTHORITY, "alpha")
    expires = certificate.certificate.not_valid_after_utc.timestamp()
    identity = {"transport_security_type": [b"ssl"], "x509_pem_cert": [certificate.certificate_pem]}
    return Clock(identity, expires, expires - 0.01)


class Waiting:
    """A handler that goes on until it is ended."""

    def __init__(self) -> None:
        self.began = asyncio.Event()

    async def __call__(self, passed: Call) -> None:
        self.began.set()
        await asyncio.Event().wait()


def stream(identity: Identity, method: str = "/etcdserverpb.Watch/Watch") -> Call:
    opened = call(method, identity=identity)
    opened.response_streaming = True
    return opened


async def test_calls_are_refused_from_the_end_of_the_certificate_on(tenants: MemoryTenants, clock: Clock) -> None:
    authorization = Authorization(Setup({}, SETTINGS, tenants), clock)
    await authorization.intercept(call(identity=clock.identity), answer)
    clock.time = clock.expires
    with pytest.raises(errors.CertificateExpired):
        await authorization.intercept(call(identity=clock.identity), answer)


@pytest.mark.parametrize("method", ["/etcdserverpb.KV/Range", "/grpc.health.v1.Health/Check"])
async def test_nothing_is_served_on_an_expired_certificate(tenants: MemoryTenants, clock: Clock, method: str) -> None:
    clock.time = clock.expires + 1
    with pytest.raises(errors.CertificateExpired):
        await Authorization(Setup({}, SETTINGS, tenants), clock).intercept(
            call(method, identity=clock.identity), answer
        )


async def test_streams_end_with_the_certificate_and_clients_may_try_again(tenants: MemoryTenants, clock: Clock) -> None:
    handler = Waiting()
    authorization = Authorization(Setup({}, SETTINGS, tenants), clock)
    watching = asyncio.create_task(authorization.intercept(stream(clock.identity), handler))
    await handler.began.wait()
    clock.time = clock.expires
    with pytest.raises(errors.CertificateExpired) as ended:
        await watching
    assert ended.value.code is grpc.StatusCode.UNAVAILABLE


async def test_a_stream_goes_on_while_the_wall_clock_has_been_set_back(
    tenants: MemoryTenants, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    handler = Waiting()
    looked = asyncio.Event()

    def now() -> float:
        if handler.began.is_set():
            looked.set()
        return clock.time

    authorization = Authorization(Setup({}, SETTINGS, tenants), now)
    watching = asyncio.create_task(authorization.intercept(stream(clock.identity), handler))
    await handler.began.wait()
    await looked.wait()
    assert not watching.done()
    watching.cancel()
    with pytest.raises(asyncio.CancelledError):
        await watching


async def test_all_streams_of_a_certificate_share_one_timer_which_ends_with_the_last(
    tenants: MemoryTenants, clock: Clock
) -> None:
    handlers = [Waiting() for _ in range(5)]
    authorization = Authorization(Setup({}, SETTINGS, tenants), clock)
    clock.time -= 1000
    watching = [asyncio.create_task(authorization.intercept(stream(clock.identity), handler)) for handler in handlers]
    for handler in handlers:
        await handler.began.wait()
    assert len(authorization._expiry) == 1
    for task in watching:
        task.cancel()
    await asyncio.wait(watching)
    assert len(authorization._expiry) == 0


async def test_a_stream_whose_client_hangs_up_as_the_certificate_ends_is_cancelled(
    tenants: MemoryTenants, clock: Clock
) -> None:
    handler = Waiting()
    authorization = Authorization(Setup({}, SETTINGS, tenants), clock)
    clock.time -= 1000
    watching = asyncio.create_task(authorization.intercept(stream(clock.identity), handler))
    await handler.began.wait()
    clock.time = clock.expires
    authorization._expiry._look(clock.identity["x509_pem_cert"][0])
    watching.cancel()
    with pytest.raises(asyncio.CancelledError):
        await watching


async def test_the_connection_of_an_expired_certificate_is_ended(
    tenants: MemoryTenants, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    ended: list[str] = []
    authorization = Authorization(Setup({}, SETTINGS, tenants), clock)
    monkeypatch.setattr(authorization._connections, "end_soon", ended.append)
    clock.time = clock.expires
    with pytest.raises(errors.CertificateExpired):
        await authorization.intercept(call(identity=clock.identity), answer)
    assert ended == [call().peer()]

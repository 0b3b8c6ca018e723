"""Who a caller is taken for."""

from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from pathlib import Path

import grpc
import pytest

from fetch import errors
from fetch.chain import Setup
from fetch.config import Settings
from fetch.engine.tenants import Tenants
from interceptors.authorization import Authorization
from tests.engine.engines import daemon
from tests.interceptors.calls import Identity, answer, call

SETTINGS = Settings(listen_client_urls=("http://127.0.0.1:2379",), anonymous_tenant="guest")

EVERYTHING: Identity = {
    "transport_security_type": [b"ssl"],
    "x509_common_name": [b"alpha"],
    "x509_subject_alternative_name": [b"spiffe://example/beta", b"gamma.example"],
    "peer_uri": [b"spiffe://example/beta"],
    "peer_dns": [b"gamma.example"],
}
"""The identity of a certificate that has a name of each sort."""

TenantOf = Callable[[Identity, Settings], Awaitable[str]]


@pytest.fixture
async def tenants(tmp_path: Path) -> AsyncIterator[Tenants]:
    async with daemon(tmp_path) as running:
        yield running.tenants


@pytest.fixture
def tenant_of(tenants: Tenants) -> TenantOf:
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


async def test_a_caller_without_a_certificate_is_the_anonymous_tenant(tenant_of: TenantOf) -> None:
    assert await tenant_of({}, SETTINGS) == "guest"


@pytest.mark.parametrize(
    ("identity", "principal"),
    [
        ({**EVERYTHING, "x509_common_name": []}, "cn"),
        ({**EVERYTHING, "x509_common_name": [b""]}, "cn"),
        ({**EVERYTHING, "x509_common_name": [b"two words"]}, "cn"),
        ({**EVERYTHING, "x509_common_name": [b"\xff"]}, "cn"),
        ({**EVERYTHING, "x509_common_name": [b"x" * 254]}, "cn"),
        ({"transport_security_type": [b"ssl"], "x509_common_name": [b"alpha"]}, "san-uri"),
        ({"transport_security_type": [b"ssl"], "x509_common_name": [b"alpha"]}, "san-dns"),
    ],
    ids=["no name", "an empty name", "two words", "no text", "too long", "no URI", "no DNS name"],
)
async def test_a_certificate_whose_name_cannot_be_a_tenants_is_refused(
    tenant_of: TenantOf, identity: Identity, principal: str
) -> None:
    with pytest.raises(errors.EtcdError) as refused:
        await tenant_of(identity, replace(SETTINGS, principal=principal))
    assert refused.value.code == grpc.StatusCode.PERMISSION_DENIED


async def test_a_certificate_without_a_name_is_not_the_anonymous_tenant(tenant_of: TenantOf) -> None:
    with pytest.raises(errors.EtcdError, match="permission denied"):
        await tenant_of({"transport_security_type": [b"ssl"]}, SETTINGS)


async def test_only_tenants_of_the_list_are_let_in(tmp_path: Path) -> None:
    async with daemon(tmp_path, allowed=["beta"]) as running:
        authorization = Authorization(Setup({}, SETTINGS, running.tenants))
        with pytest.raises(errors.EtcdError, match="not a known tenant"):
            await authorization.intercept(call(identity=EVERYTHING), answer)


async def test_a_tenant_of_the_list_is_let_in(tmp_path: Path) -> None:
    async with daemon(tmp_path, allowed=["alpha"]) as running:
        authorization = Authorization(Setup({}, SETTINGS, running.tenants))
        passed = await authorization.intercept(call(identity=EVERYTHING), answer)
    assert passed.tenant.tenant == "alpha"


async def test_health_is_told_to_anyone(tenants: Tenants) -> None:
    refusing = replace(SETTINGS, listen_client_urls=("http://127.0.0.1:2379",))
    authorization = Authorization(Setup({}, refusing, tenants))
    passed = await authorization.intercept(call("/grpc.health.v1.Health/Check"), answer)
    assert passed.tenant is None


async def test_all_calls_of_a_tenant_have_one_engine(tenants: Tenants) -> None:
    authorization = Authorization(Setup({}, SETTINGS, tenants))
    first, second = [await authorization.intercept(call(identity=EVERYTHING), answer) for _ in range(2)]
    assert first.tenant is second.tenant


def test_authorization_needs_tenants() -> None:
    with pytest.raises(ValueError, match="tenants"):
        Authorization(Setup({}, SETTINGS))

"""Authorization: the principal of the client's certificate names the tenant.

mTLS has verified the certificate by the time a call comes here. The principal is its common name, or by setting a
URI or a DNS name among its subject alternative names. On an http:// listener there is no certificate, and the
configured anonymous tenant is the caller's.
"""

from typing import Any

import grpc
from opentelemetry import metrics

from fetch import errors
from fetch.chain import Call, Proceed, Setup
from fetch.engine.engine import StorageEngine
from fetch.engine.tenants import UnknownTenant
from fetch.tenancy import validate_tenant_name

_COMMON_NAME = "x509_common_name"
_URI_NAME = "peer_uri"
_DNS_NAME = "peer_dns"
_SECURITY, _INSECURE = "transport_security_type", b"insecure"
_WITHOUT_TENANT = ("/grpc.health.", "/grpc.reflection.")


class Authorization:
    """Sets `call.tenant`, or refuses the call with PERMISSION_DENIED."""

    def __init__(self, setup: Setup) -> None:
        if setup.tenants is None:
            raise ValueError("authorization needs the tenants")
        self._tenants = setup.tenants
        self._anonymous = setup.settings.anonymous_tenant
        self._principal = setup.settings.principal
        self._refused = metrics.get_meter("fetch").create_counter(
            "fetch.authorization.refused", description="Calls refused before they had a tenant, by reason."
        )

    async def intercept(self, call: Call, proceed: Proceed) -> Any:
        """Lets the call pass with its tenant's engine; health and reflection pass without."""
        if call.method.startswith(_WITHOUT_TENANT):
            return await proceed(call)
        name = self._name(call)
        call.tenant = self._tenants.get(name) or await self._open(name)
        return await proceed(call)

    def _name(self, call: Call) -> str:
        certificate = call.auth_context()
        if not certificate or certificate.get(_SECURITY) == [_INSECURE]:
            if self._anonymous is None:
                raise self._refuse("no client certificate")
            return self._anonymous
        match self._principal:
            case "cn":
                names = certificate.get(_COMMON_NAME, ())
            case "san-uri":
                names = certificate.get(_URI_NAME, ())
            case _:
                names = certificate.get(_DNS_NAME, ())
        if not names or not names[0]:
            raise self._refuse("the client certificate has no principal")
        try:
            return bytes(names[0]).decode()
        except UnicodeDecodeError as error:
            raise self._refuse("the principal is not a valid tenant name") from error

    async def _open(self, name: str) -> StorageEngine:
        try:
            validate_tenant_name(name)
            return await self._tenants.open(name)
        except ValueError as error:
            raise self._refuse(f"the principal is not a valid tenant name: {error}") from error
        except UnknownTenant as error:
            raise self._refuse("the principal is not a known tenant") from error

    def _refuse(self, reason: str) -> errors.EtcdError:
        self._refused.add(1, {"reason": reason.partition(":")[0]})
        return errors.Refused(grpc.StatusCode.PERMISSION_DENIED, f"etcdserver: permission denied: {reason}")

"""Authorization: the principal of the client's certificate names the tenant.

mTLS has verified the certificate by the time a call comes here. The principal is its common name, or by
`--principal` the URI or the DNS name among its subject alternative names; a certificate with several of them has none.
On an http:// listener there is no certificate, and the configured anonymous tenant is the caller's.

A principal of `--admin-principals` is an administrator, as `call.administrator` tells. It has a keyspace as tenants
have, and looks after them by the services that ask for an administrator.

A tenant that is disabled or deleted is refused with PERMISSION_DENIED, and its open streams end so.

A connection's rights end with its certificate: when it expires, is revoked, or when its authority is not trusted any
more. From then on its calls are refused with UNAVAILABLE, its streams end so, and it is closed, so that clients connect
anew and TLS looks at the certificate that they have then.

`--principal` says what names the tenant, `--tenants` and `--unknown-tenants` which there may be, `--anonymous-tenant`
who is on http:// listeners, `--admin-principals` who are administrators.

Settings: none.
"""

import asyncio
import math
import time
from collections.abc import Callable
from typing import Any

from opentelemetry import metrics

from fetch import errors
from fetch.chain import Call, Proceed, Setup
from fetch.chain.serving import Serving
from fetch.engine.protocol import StorageEngine, UnknownTenant
from fetch.tls.connections import Connections
from fetch.tls.expiry import Expiry
from fetch.tls.principals import NOBODY, Principal, Principals

_CERTIFICATE, _INTERMEDIATES = "x509_pem_cert", "x509_pem_cert_chain"
_SECURITY, _INSECURE = "transport_security_type", b"insecure"
_WITHOUT_TENANT = ("/grpc.health.", "/grpc.reflection.")


class Authorization:
    """Sets `call.tenant` and `call.administrator`, or refuses the call: PERMISSION_DENIED, or UNAVAILABLE once the
    certificate has expired."""

    def __init__(self, setup: Setup, now: Callable[[], float] = time.time) -> None:
        if setup.tenants is None:
            raise ValueError("authorization needs the tenants")
        self._tenants = setup.tenants
        self._administrators = frozenset(setup.settings.admin_principals)
        self._principals = Principals(setup.settings, None if setup.trust is None else setup.trust.refusal)
        self._now = now
        self._expiry = Expiry(now)
        self._connections = Connections()
        self._serving = Serving(setup.tenants)
        self._trust = setup.trust
        self._reviewing: asyncio.Task[None] | None = None
        if self._trust is not None:
            self._trust.on_change(self._review)
        self._refused = metrics.get_meter("fetch").create_counter(
            "fetch.authorization.refused", description="Calls refused before they had a tenant, by reason."
        )

    async def intercept(self, call: Call, proceed: Proceed) -> Any:
        """Lets the call pass with its tenant's engine; health and reflection pass without."""
        principal = self._principal(call)
        if principal.expires <= self._now():
            raise self._expired(call)
        if principal.distrusted:
            raise self._distrusted(call, principal.distrusted)
        if not call.method.startswith(_WITHOUT_TENANT):
            # should the certificate end while its tenant is opened, the call has still begun before
            call.tenant = self._tenants.get(principal.name) or await self._open(principal)
            call.administrator = principal.name in self._administrators
        # nothing is awaited from here to where the call is noted: its tenant cannot end unnoticed
        if not call.response_streaming or principal.expires == math.inf:
            return await self._serving.serve(call, proceed)
        try:
            with self._expiry.until(principal.certificates, principal.expires):
                return await self._serving.serve(call, proceed)
        except errors.CertificateExpired:
            raise self._expired(call) from None
        except errors.CertificateRefused as refused:
            raise self._distrusted(call, refused.text.removeprefix("etcdserver: ")) from None

    def _principal(self, call: Call) -> Principal:
        identity = call.auth_context()
        certificates = identity.get(_CERTIFICATE)
        if certificates:
            presented = certificates[0]
            if intermediates := identity.get(_INTERMEDIATES):
                presented += intermediates[0]
            return self._principals.of(certificates[0], presented)
        if identity.get(_SECURITY) == [_INSECURE]:
            return self._principals.anonymous
        return NOBODY

    def _review(self) -> None:
        """Whoever was let in is looked at again: calls as they come, and the streams that are open."""
        self._principals.forget()
        if self._trust is not None:
            self._reviewing = asyncio.create_task(self._expiry.review(self._trust.refusal))

    async def _open(self, principal: Principal) -> StorageEngine:
        if principal.refusal:
            raise self._refuse(principal.refusal, "")
        try:
            return await self._serving.open(principal.name)
        except UnknownTenant as error:
            raise self._refuse("the principal is not a known tenant", principal.name) from error
        except errors.TenantClosed as error:
            self._refused.add(1, {"reason": error.text.rpartition(": ")[2]})
            raise

    def _refuse(self, reason: str, name: str) -> errors.EtcdError:
        self._refused.add(1, {"reason": reason.partition(":")[0]})
        return errors.PrincipalRefused(reason, name)

    def _expired(self, call: Call) -> errors.EtcdError:
        self._refused.add(1, {"reason": "the client certificate has expired"})
        self._connections.end_soon(call.peer())
        return errors.CertificateExpired()

    def _distrusted(self, call: Call, reason: str) -> errors.EtcdError:
        self._refused.add(1, {"reason": reason})
        self._connections.end_soon(call.peer())
        return errors.CertificateRefused(reason)

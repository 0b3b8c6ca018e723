"""Rate limit: a bound on the calls that a tenant may start in a second.

Each tenant has a bucket of `burst` calls that fills at `rate` calls a second. A call that finds it empty is refused
with RESOURCE_EXHAUSTED and etcd's "etcdserver: too many requests"; the trailing metadata `grpc-retry-pushback-ms`
(gRPC's own retry hint) says after how many milliseconds there will be room. A stream counts once, when it is opened;
health and reflection, which have no tenant, are not bounded. Bounds are each daemon's own.

Settings:
    rate: calls a second, 1000 by default
    burst: calls at once, twice the rate by default
    tenants: a table of tenants whose rate is another, such as {alpha = 50}
"""

import math
import time
from dataclasses import dataclass
from typing import Any

from fetch.chain import Call, Proceed, Setup
from fetch.chain.tables import positive, positive_by_tenant, read
from fetch.errors import TooManyRequests

_RETRY = "grpc-retry-pushback-ms"
_RATE = 1000.0


@dataclass(slots=True)
class _Bucket:
    rate: float
    burst: float
    tokens: float
    filled: float

    def take(self, now: float) -> float:
        """Takes a token; the seconds until there is one when there is none."""
        self.tokens = min(self.burst, self.tokens + (now - self.filled) * self.rate)
        self.filled = now
        if self.tokens < 1:
            return (1 - self.tokens) / self.rate
        self.tokens -= 1
        return 0.0


class RateLimit:
    """Refuses a tenant's calls beyond its rate."""

    after = ("authorization",)

    def __init__(self, setup: Setup) -> None:
        table = read(setup.table, {"rate": positive, "burst": positive, "tenants": positive_by_tenant})
        self._rate: float = table.get("rate", _RATE)
        self._burst: float | None = table.get("burst")
        self._rates: dict[str, float] = table.get("tenants", {})
        self._buckets: dict[str, _Bucket] = {}
        self._refused = setup.instruments.counter("fetch.rate_limit.refused", "Calls beyond the rate.", ("tenant",))
        self._label = setup.instruments.tenants.label

    async def intercept(self, call: Call, proceed: Proceed) -> Any:
        """A refusal costs no more than looking at the bucket."""
        if call.tenant is not None:
            tenant = call.tenant.tenant
            now = time.monotonic()
            bucket = self._buckets.get(tenant) or self._new(tenant, now)
            if wait := bucket.take(now):
                self._refused.add((self._label(tenant),))
                call.set_trailing_metadata(((_RETRY, str(math.ceil(wait * 1000))),))
                raise TooManyRequests("rate_limit")
        return await proceed(call)

    def _new(self, tenant: str, now: float) -> _Bucket:
        rate = self._rates.get(tenant, self._rate)
        burst = max(self._burst or 2 * rate, 1.0)
        bucket = self._buckets[tenant] = _Bucket(rate, burst, burst, now)
        return bucket

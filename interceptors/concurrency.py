"""Concurrency: a bound on the calls and on the streams that a tenant has open at once.

What is beyond is refused with RESOURCE_EXHAUSTED and etcd's "etcdserver: too many requests". Calls are those answered
by one message; streams are watches, lease keepalives and streamed ranges, which stay open for long, so they have a
bound of their own, under which Lock and Campaign fall, since they wait for others. Bounds are each daemon's own.

Settings:
    calls: calls at once, 512 by default
    streams: streams at once, 256 by default
"""

from collections import Counter
from typing import Any

from fetch.chain import Call, Proceed, Setup
from fetch.chain.tables import count, read
from fetch.errors import TooManyRequests

_CALLS, _STREAMS = 512, 256


class Concurrency:
    """Counts what a tenant has open, and refuses what is too much."""

    after = ("authorization",)

    def __init__(self, setup: Setup) -> None:
        table = read(setup.table, {"calls": count, "streams": count})
        self._bounds = {False: table.get("calls", _CALLS), True: table.get("streams", _STREAMS)}
        self._open: Counter[tuple[str, bool]] = Counter()
        self._refused = setup.instruments.counter("fetch.concurrency.refused", "Calls beyond the bound.", ("tenant",))
        self._label = setup.instruments.tenants.label

    async def intercept(self, call: Call, proceed: Proceed) -> Any:
        """A call that ends, however it does, makes room."""
        if call.tenant is None:
            return await proceed(call)
        streams = call.is_open_ended
        counted = call.tenant.tenant, streams
        if self._open[counted] >= self._bounds[streams]:
            self._refused.add((self._label(call.tenant.tenant),))
            raise TooManyRequests("concurrency")
        self._open[counted] += 1
        try:
            return await proceed(call)
        finally:
            self._open[counted] -= 1
            if not self._open[counted]:
                del self._open[counted]

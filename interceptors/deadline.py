"""Deadline: a bound on how long a unary call may take, whatever deadline its client has set, or none.

A call that takes longer ends with UNAVAILABLE and etcd's "etcdserver: request timed out". As in etcd, a write that
timed out may have taken place or still do so. Not bounded are streams, and Lock and Campaign, which wait for others.

Settings:
    seconds: how long a call may take, 30 by default
"""

import asyncio
from typing import Any

from fetch.chain import Call, Proceed, Setup
from fetch.chain.tables import positive, read
from fetch.errors import TimedOut

_SECONDS = 30.0


class Deadline:
    """Ends calls that take too long."""

    def __init__(self, setup: Setup) -> None:
        self._seconds: float = read(setup.table, {"seconds": positive}).get("seconds", _SECONDS)

    async def intercept(self, call: Call, proceed: Proceed) -> Any:
        """A timeout inside of the call is not mistaken for this one."""
        if call.is_open_ended:
            return await proceed(call)
        try:
            async with asyncio.timeout(self._seconds) as bound:
                return await proceed(call)
        except TimeoutError as error:
            if bound.expired():
                raise TimedOut from error
            raise

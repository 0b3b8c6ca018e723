"""Memory: a bound on the bytes that a tenant's calls hold at once.

Counted are requests until their calls have ended, and answers until the client has taken them, both from 16 KiB on. A
call of a tenant that holds all it may waits until earlier answers are taken; calls of others go on. How large an answer
will be is known when it is made, so a list and a general transaction count for an eighth of the bound until then:
no more than eight are made at once. A request that finds a quarter of the bound taken by other requests, and a
message of a stream for which there is no room, are refused with RESOURCE_EXHAUSTED and etcd's "etcdserver: too many
requests". What is smaller than counted, and what has not yet come here, is bounded by the transport. Bounds are each
daemon's own.

Settings:
    bytes: bytes that a tenant may hold, at least 16777216 (16 MiB), 268435456 (256 MiB) by default
"""

import asyncio
from collections import deque
from typing import Any

from fetch.chain import Call, Proceed, Setup
from fetch.chain.tables import count, read
from fetch.errors import TooManyRequests

_BYTES, _LEAST = 256 << 20, 16 << 20
_SHARE = 8
_SMALL = 16 << 10
"""Answers and requests below are not counted: there are no more of them than a connection may have calls."""
_LARGE = frozenset(("list", "txn", "delete_range"))
"""Kinds whose answers may be of any size."""

Waiting = deque[asyncio.Future[None]]


class _Holding:
    """What one tenant holds: all bytes, those of requests, and the shares of answers that are being made."""

    __slots__ = ("_large", "_small", "bytes", "making", "most", "requests")

    def __init__(self, most: int) -> None:
        self.most = most
        self.bytes = self.requests = self.making = 0
        self._small: Waiting = deque()
        self._large: Waiting = deque()

    def has_room(self, share: int) -> bool:
        """Whether a call may begin whose answer counts for `share` bytes until it is made."""
        # what is not counted beforehand does not wait for what is: gets go on while lists take turns
        return self.bytes + (self.making + share if share else 0) <= self.most

    async def wait(self, share: int) -> None:
        """Returns when it is the turn of a call that found no room; its share is counted then."""
        turn = asyncio.get_running_loop().create_future()
        (self._large if share else self._small).append(turn)
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self.made(share)
            raise

    def made(self, share: int) -> None:
        """Gives the share of an answer back, which is made or never will be."""
        self.making -= share
        self._go_on()

    def free(self, size: int) -> None:
        """Lets go of bytes."""
        self.bytes -= size
        self._go_on()

    def _go_on(self) -> None:
        """Lets those go on that have room now; of those without a share one, which comes here when it ends."""
        if self._small and self.bytes <= self.most:
            _wake_first(self._small)
        share = self.most // _SHARE
        while self._large and self.has_room(share):
            # a turn that is given to a call just cancelled is given back when that hears of it
            self.making += share if _wake_first(self._large) else 0


def _wake_first(waiting: Waiting) -> bool:
    """Wakes the first that still waits, if one does."""
    while waiting:
        turn = waiting.popleft()
        if not turn.done():
            turn.set_result(None)
            return True
    return False


class Memory:
    """Lets a tenant's calls wait while it holds too much, or refuses them."""

    after = ("authorization", "classification")

    def __init__(self, setup: Setup) -> None:
        self._most: int = read(setup.table, {"bytes": _bytes}).get("bytes", _BYTES)
        self._holding: dict[str, _Holding] = {}
        counter = setup.instruments.counter
        self._refused = counter("fetch.memory.refused", "Calls refused for what their tenant held.", ("tenant",))
        self._waited = counter("fetch.memory.waited", "Calls that waited for what their tenant held.", ("tenant",))
        self._label = setup.instruments.tenants.label

    async def intercept(self, call: Call, proceed: Proceed) -> Any:
        """A small call that finds room costs a few comparisons."""
        if call.tenant is None:
            return await proceed(call)
        tenant = call.tenant.tenant
        holding = self._holding.get(tenant)
        if holding is None:
            holding = self._holding[tenant] = _Holding(self._most)
        if call.response_streaming:
            return await proceed(_Bounded(call, self, holding))
        size = len(call.request)
        answer: bytes | None
        if size < _SMALL and call.kind not in _LARGE and holding.bytes <= self._most:
            # nearly every call: what it takes to count it cost a get 2 µs of 32
            answer = await proceed(call)
            if answer is not None and len(answer) >= _SMALL:
                _hold_until_taken(call, holding, len(answer))
            return answer
        if holding.requests and (holding.requests + size) * 4 > self._most:
            raise self.refuse(tenant)
        share = self._most // _SHARE if call.kind in _LARGE else 0
        holding.requests += size
        holding.bytes += size
        try:
            if holding.has_room(share):
                holding.making += share
            else:
                self._waited.add((self._label(tenant),))
                await holding.wait(share)
            try:
                answer = await proceed(call)
                # before the share is given back, whose room this takes
                if answer is not None and len(answer) >= _SMALL:
                    _hold_until_taken(call, holding, len(answer))
            finally:
                holding.made(share)
            return answer
        finally:
            holding.requests -= size
            holding.free(size)

    def refuse(self, tenant: str) -> TooManyRequests:
        """What a refused call raises, counted."""
        self._refused.add((self._label(tenant),))
        return TooManyRequests("memory")


def _hold_until_taken(call: Call, holding: _Holding, size: int) -> None:
    # a callback comes when the transport has sent everything, or the client is gone
    holding.bytes += size
    call.add_done_callback(lambda _: holding.free(size))


class _Bounded(Call):
    """A stream whose messages count while they wait for the client to take them.

    Refused and not made to wait: a stream that nobody reads may hold its message for ever.
    """

    __slots__ = ("_holding", "_memory")

    def __init__(self, call: Call, memory: Memory, holding: _Holding) -> None:
        super().__init__(call.method, call.request, call)
        self.take_over(call)
        self._memory, self._holding = memory, holding

    async def write(self, message: bytes) -> None:
        holding, size = self._holding, len(message)
        if size < _SMALL:
            await self.context.write(message)
            return
        if holding.bytes and holding.bytes + size > holding.most:
            raise self._memory.refuse("" if self.tenant is None else self.tenant.tenant)
        holding.bytes += size
        try:
            await self.context.write(message)
        finally:
            holding.free(size)


def _bytes(value: object) -> int:
    number = count(value)
    if number < _LEAST:
        raise ValueError(f"at least {_LEAST}")
    return number

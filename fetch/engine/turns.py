"""Long work of many tenants on one event loop: it runs in slices, and the tenants take turns.

Whatever may take longer than a few milliseconds (a long list, a large transaction, a replay of the log) is a `Work`:

    async with turns.work(tenant) as work:
        for row in rows:
            ...
            if work.is_spent():
                await work.give_way()

One slice of one tenant's work runs in an iteration of the event loop, between whatever else is ready; the next slice
is the next tenant's. So what one tenant asks for, in however many calls, costs another one slice for each tenant that
is busy. Work that has not begun holds nothing: how many may have begun is bounded, for a tenant and for all of them,
which bounds what they hold of the store's snapshots and of memory.

What is usually short, and of which a tenant has one at a time, begins at once instead (`Turns.short`): it takes no
place, and waits for its turn only if it turns out to be long.

Work within work does not begin anew, since it could wait for the place that it holds: it takes the `Work`
that it is part of.
"""

import asyncio
import time
from collections import Counter, deque
from types import TracebackType
from typing import Self

SLICE_SECONDS = 0.002
"""How long work runs before it gives way. Ten times less than what another tenant may wait at its worst."""

_SHORT_SECONDS = 0.00025
"""How long work that began out of turn runs before it gives way, while others run."""

_REST_SECONDS = 5 * SLICE_SECONDS

_PLACES = 128
_PLACES_OF_A_TENANT = 8


class Turns:
    """Who runs next."""

    def __init__(self, places: int = _PLACES, places_of_a_tenant: int = _PLACES_OF_A_TENANT) -> None:
        """At most `places` works have begun and not ended, at most `places_of_a_tenant` of them of one tenant."""
        self._places = places
        self._places_of_a_tenant = places_of_a_tenant
        self._begun: Counter[str] = Counter()
        # those who wait, by tenant; the first tenant's turn is next
        self._waiting: dict[str, _Waiting] = {}
        self._taken = False
        self._next_out_of_turn = 0.0

    def work(self, tenant: str) -> "Work":
        """Work of a tenant, which begins when its context is entered."""
        return Work(self, tenant)

    def short(self, tenant: str) -> "ShortWork":
        """Work of a tenant that begins with this call and needs no context. The caller bounds how many there are."""
        return ShortWork(self, tenant)

    @property
    def waiting(self) -> int:
        """The works that wait to begin, or to go on."""
        return sum(len(waiting.begun) + len(waiting.new) for waiting in self._waiting.values())

    async def begin(self, tenant: str) -> None:
        """Takes a place, as soon as there is one and it is the tenant's turn."""
        if not self._taken and not self._waiting and self._has_place(tenant):
            self._begun[tenant] += 1
            self._take()
            return
        turn = self._queue(tenant).append_new()
        self._take_if_idle()
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self.end(tenant)
            raise

    def begin_out_of_turn(self, now: float) -> float:
        """Until when work may run that has not waited for its turn. Only one in a while gets a whole slice, since any
        number may begin in one iteration of the loop. Nothing is scheduled for it: most is over after microseconds."""
        if self._taken or self._waiting or now < self._next_out_of_turn:
            return now + _SHORT_SECONDS
        self._next_out_of_turn = now + _REST_SECONDS
        return now + SLICE_SECONDS

    async def go_on(self, tenant: str) -> None:
        """Waits for the tenant's next turn."""
        turn = self._queue(tenant).append_begun()
        self._take_if_idle()
        await turn

    def end(self, tenant: str) -> None:
        """Gives a place back."""
        self._begun[tenant] -= 1
        if not self._begun[tenant]:
            del self._begun[tenant]
        if self._waiting:
            self._take_if_idle()

    def _queue(self, tenant: str) -> "_Waiting":
        waiting = self._waiting.get(tenant)
        if waiting is None:
            waiting = self._waiting[tenant] = _Waiting()
        return waiting

    def _has_place(self, tenant: str) -> bool:
        return self._begun.total() < self._places and self._begun[tenant] < self._places_of_a_tenant

    def _take(self) -> None:
        """One slice runs now: nobody else's does in this iteration of the loop."""
        self._taken = True
        asyncio.get_running_loop().call_soon(self._next)

    def _take_if_idle(self) -> None:
        if not self._taken:
            self._take()

    def _next(self) -> None:
        """Lets the next tenant's next work run. Looks at each tenant that waits at most once."""
        self._taken = False
        for tenant in list(self._waiting):
            waiting = self._waiting.pop(tenant)
            turn, is_new = waiting.pop(new=self._has_place(tenant))
            if waiting:
                self._waiting[tenant] = waiting
            if turn is not None:
                if is_new:
                    self._begun[tenant] += 1
                turn.set_result(None)
                self._take()
                return


class _Waiting:
    """Those of one tenant who wait: works that have begun, and new ones. Who was cancelled is passed over."""

    __slots__ = ("begun", "new")

    def __init__(self) -> None:
        self.begun: deque[asyncio.Future[None]] = deque()
        self.new: deque[asyncio.Future[None]] = deque()

    def __bool__(self) -> bool:
        return bool(self.begun or self.new)

    def append_new(self) -> asyncio.Future[None]:
        return _append(self.new)

    def append_begun(self) -> asyncio.Future[None]:
        return _append(self.begun)

    def pop(self, *, new: bool) -> tuple[asyncio.Future[None] | None, bool]:
        """The next, and whether it is a new work, which is only looked for if `new` is set."""
        turn = _pop(self.begun)
        if turn is not None:
            return turn, False
        return (_pop(self.new), True) if new else (None, False)


def _append(queue: deque[asyncio.Future[None]]) -> asyncio.Future[None]:
    turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    queue.append(turn)
    return turn


def _pop(queue: deque[asyncio.Future[None]]) -> asyncio.Future[None] | None:
    while queue:
        turn = queue.popleft()
        if not turn.done():
            return turn
    return None


class Work:
    """Work of one tenant that takes turns with that of others."""

    __slots__ = ("_ends", "_tenant", "_turns")

    def __init__(self, turns: Turns, tenant: str) -> None:
        self._turns = turns
        self._tenant = tenant
        self._ends = 0.0

    async def __aenter__(self) -> Self:
        await self._turns.begin(self._tenant)
        self._ends = time.perf_counter() + SLICE_SECONDS
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._turns.end(self._tenant)

    def is_spent(self) -> bool:
        """Whether the slice is over. Costs 0.1 µs; to be asked about every 50 µs of work."""
        return time.perf_counter() >= self._ends

    async def give_way(self) -> None:
        """Lets others run; returns with a new slice. Everything that was read before may have changed."""
        await self._turns.go_on(self._tenant)
        self._ends = time.perf_counter() + SLICE_SECONDS

    async def pause(self) -> None:
        """Gives way if the slice is over."""
        if time.perf_counter() >= self._ends:
            await self.give_way()


class ShortWork(Work):
    """Work that begins without waiting, and takes turns from the end of its first slice on."""

    __slots__ = ()

    def __init__(self, turns: Turns, tenant: str) -> None:
        self._turns = turns
        self._tenant = tenant
        self._ends = turns.begin_out_of_turn(time.perf_counter())

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        """It has no place to give back."""

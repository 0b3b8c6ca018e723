"""Which daemon writes for a tenant now: a claim that each batch renews, and what a daemon makes of it.

A claim is a row of the tenant: a daemon's name and the time served at which its last batch began. It is read and
written with batches alone, so it costs nothing where nobody writes, and it is as true as the batches are: whoever
finds another's fresh claim in a batch of its own contends with that one, and sends it what comes next. What a daemon
believes is:

- Nobody writes, or it does: it writes. Its batches take the claim, unless they find another's that is fresh.
- Another does: its clients' writes go there, as long as they keep coming. A second after the last it knows nothing
  again, so an idle tenant is written by whoever gets the next write.
- The other cannot be reached: it writes, and takes the claim whatever it says.

The claim moves to where the load is: a writer most of whose writes one other daemon has sent for some time tells it to
take over. Who sends a write to a daemon that is not the writer any more gets it written all the same, and is told.
"""

import asyncio
from collections import Counter
from collections.abc import Callable

from fetch.engine.layout import pack_claim, unpack_claim

FRESH_MS = 500
"""How long ago a batch may have been committed whose daemon is taken to write still."""

IDLE_SECONDS = 1.0
WINDOW_SECONDS = 2.0
"""How long the writes are counted that decide whether the claim moves."""

_LEAST_WRITES = 16
_MOST_OF_THEM = 0.8


class Writing:
    """What this daemon knows of who writes for one tenant. It is the `Claim` of the tenant's writer."""

    __slots__ = ("_now", "_own", "_taking", "_unreachable", "_until", "_window", "_writer", "_writes")

    def __init__(self, own: int, now: Callable[[], int], unreachable: Callable[[int], bool]) -> None:
        """`own` is this daemon's name, `now` the time served in milliseconds; `unreachable` tells of another daemon
        whether this one has tried to reach it in vain."""
        self._own = own
        self._now = now
        self._unreachable = unreachable
        self._writer: int | None = None
        self._until = 0.0
        self._taking = False
        self._window = 0.0
        self._writes: Counter[int] = Counter()

    @property
    def writer(self) -> int | None:
        """The other daemon that writes for the tenant, if there is one."""
        if self._writer is not None and asyncio.get_running_loop().time() > self._until:
            self._writer = None
        return self._writer

    def elsewhere(self) -> int | None:
        """The same for a write that is to go there, which keeps it known."""
        if self._writer is None:
            return None
        now = asyncio.get_running_loop().time()
        if now > self._until:
            self._writer = None
        self._until = now + IDLE_SECONDS
        return self._writer

    def count(self, origin: int | None = None) -> None:
        """Counts a write that this daemon carries out, for another daemon or for its own clients. Lets the claim go
        where most come from."""
        now = asyncio.get_running_loop().time()
        if now - self._window > 2 * WINDOW_SECONDS:  # what was counted so far is long ago
            self._window = now
            self._writes.clear()
        self._writes[self._own if origin is None else origin] += 1
        if now - self._window < WINDOW_SECONDS or (total := self._writes.total()) < _LEAST_WRITES:
            return
        [(most, writes)] = self._writes.most_common(1)
        if most != self._own and writes >= _MOST_OF_THEM * total and not self._unreachable(most):
            self._follow(most)
        self._window = now
        self._writes.clear()

    def moved_to(self, writer: int) -> None:
        """Another daemon says who writes."""
        if writer == self._own:
            self._taking, self._writer = True, None
        elif not self._unreachable(writer):
            self._follow(writer)

    def is_anothers(self, stored: bytes | None) -> bool:
        """See `Claim`."""
        if stored is None:
            return False
        holder, written = unpack_claim(stored)
        return holder != self._own and self._now() - written < FRESH_MS and not self._unreachable(holder)

    def renewed(self, stored: bytes | None) -> bytes | None:
        """See `Claim`."""
        if stored is not None and not self._taking:
            is_handed_on = self.writer is not None and unpack_claim(stored)[0] == self._own
            if is_handed_on or self.is_anothers(stored):
                return None
        return pack_claim(self._own, self._now())

    def committed(self, stored: bytes | None, written: bytes | None) -> None:
        """See `Claim`."""
        if written is not None:
            self._taking, self._writer = False, None
        elif stored is not None and (holder := unpack_claim(stored)[0]) != self._own:
            self._follow(holder)

    def _follow(self, writer: int) -> None:
        self._writer, self._taking = writer, False
        self._until = asyncio.get_running_loop().time() + IDLE_SECONDS

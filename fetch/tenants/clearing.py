"""Clears what tenants had that have been given up, in small steps with pauses, by one daemon at a time.

Each daemon has a task that waits for tenants whose time has come, and for keyspaces to be cleared. Which of them clears
stands in a row, which it moves with every step; another takes over when the row has stood still for `LOST` seconds by
its own clock. Two that both believe to be the one conflict in that row, so that no step is done twice, and nothing
would be wrong if it was.

A step removes at most `STEP` rows. How far the clearing has come is what is still there, so it goes on wherever it was
interrupted. Leases go first, for they stand in a queue that all tenants share. The row of the last revision stays for
good: it tells whoever has slept through all of this that nothing of the tenant is served (`layout.Closed`).
"""

import asyncio
import secrets
import time
from collections.abc import Callable

from fetch.engine.layout import Layout
from fetch.engine.lease import Grant
from fetch.engine.served import ServedTime
from fetch.stores.protocol import Store, TransactionTooLarge
from fetch.stores.transaction import Transaction
from fetch.tenants.register import Register

STEP = 200
LOST = 15.0
LONGEST_WAIT = 5.0
_RESTS = 4.0
"""How many times as long as a step took there is rest after it: clearing takes a fifth of one writer at most."""
_LEAST_REST_SECONDS = 0.005
_DUE_AT_ONCE = 100


class Clearing:
    """The task of one daemon."""

    def __init__(
        self, store: Store, register: Register, served: ServedTime, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self._store = store
        self._register = register
        self._served = served
        self._monotonic = monotonic
        self._own = secrets.token_bytes(16)
        self._steps = 0
        self._seen: bytes | None = None
        self._since = -LOST
        self._most = 0

    async def run(self) -> None:
        """Runs until cancelled."""
        await self._served.begin()
        while True:
            await self.give_up_due()
            while await self._is_mine() and (left := await self._next()) is not None:
                began = self._monotonic()
                await self.step(*left)
                await asyncio.sleep(max((self._monotonic() - began) * _RESTS, _LEAST_REST_SECONDS))
            await asyncio.sleep(LONGEST_WAIT)

    async def give_up_due(self) -> None:
        """Gives up the tenants whose time has come. It may be done by any daemon, and is short."""
        rows = self._register.rows
        with self._store.snapshot() as snapshot:
            found, _ = await snapshot.get_range(*rows.all_deleted(), _DUE_AT_ONCE)
        for row, keyspace in found:
            at, name = rows.unpack_deleted(row)
            if at > self._served.now():
                return
            await self._register.give_up(name, keyspace.decode(), at)

    async def step(self, keyspace: str, prefix: bytes) -> None:
        """Clears some of a keyspace, less where the store cannot commit so much; forgets it when nothing is left."""
        most = self._most or STEP

        async def clear(transaction: Transaction) -> None:
            row = self._register.rows.clears
            moved = await transaction.get_for_update(row)
            if moved is not None and moved != self._seen:
                self._notice(moved)
                return
            if not await _clear_leases(transaction, Layout(prefix, self._store.shared_prefix), most):
                if not await _clear_rows(transaction, prefix, most):
                    transaction.clear(self._register.rows.cleared(keyspace))
            self._steps += 1
            transaction.set(row, self._own + self._steps.to_bytes(8))

        try:
            await self._store.transact(clear)
        except TransactionTooLarge:
            self._most = max(1, most // 2)
            if most == 1:
                raise
            return
        self._most = min(2 * most, STEP)
        with self._store.snapshot() as snapshot:
            self._notice(await snapshot.get(self._register.rows.clears))

    async def _is_mine(self) -> bool:
        """Whether it is this daemon that clears."""
        with self._store.snapshot() as snapshot:
            self._notice(await snapshot.get(self._register.rows.clears))
        return self._seen is None or self._seen[:16] == self._own or self._monotonic() - self._since >= LOST

    def _notice(self, row: bytes | None) -> None:
        if row != self._seen or self._since < 0:
            self._seen, self._since = row, self._monotonic()

    async def _next(self) -> tuple[str, bytes] | None:
        """A keyspace that is to be cleared, and its prefix."""
        rows = self._register.rows
        with self._store.snapshot() as snapshot:
            found, _ = await snapshot.get_range(*rows.all_cleared(), 1)
        return (rows.name_in(found[0][0]), found[0][1]) if found else None


async def _clear_leases(transaction: Transaction, layout: Layout, most: int) -> bool:
    """Removes some leases, from the queue of expiries too; whether there were any. Nobody grants one any more."""
    rows, _ = await transaction.get_range(layout.leases, layout.leases_end, most)
    for row, stored in rows:
        grant = Grant.unpack(layout.unpack_lease(row), stored)
        transaction.clear(layout.expiry(grant.expires, grant.lease))
        transaction.clear(row)
    return bool(rows)


async def _clear_rows(transaction: Transaction, prefix: bytes, most: int) -> bool:
    """Removes some rows, whatever they are, but the last revision's; whether there were any."""
    revision = Layout(prefix, b"").revision
    for first, end in ((prefix, revision), (revision + b"\x00", _behind(prefix))):
        begin = first
        while begin < end:  # that a stretch has none does not mean that there are none behind it
            count, upto = await transaction.count_range(begin, end, most)
            if count:
                transaction.clear_range(begin, upto)
                return True
            begin = upto
    return False


def _behind(prefix: bytes) -> bytes:
    """What sorts behind all keys that begin with a prefix, which ends with less than 0xff in one byte at least."""
    kept = prefix.rstrip(b"\xff")
    return kept[:-1] + bytes((kept[-1] + 1,))

"""Leases: granted, renewed and revoked in the tenant's batches, expired by a reaper.

A lease's expiry is a point in wall-clock time, stored with it, so that any daemon can expire it and a restart changes
nothing. The rules are etcd's (`server/lease/lessor.go`): times to live are at least two seconds, revoking or expiring a
lease deletes its keys at one revision.
"""

import asyncio
import logging
import secrets
import struct
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from fetch import errors
from fetch.engine.batch import Batch
from fetch.engine.layout import Layout, expiries, unpack_expiry
from fetch.engine.operations import refuse_when_full
from fetch.stores.protocol import Store, StoreUnavailable
from fetch.stores.transaction import Source, all_rows

_GRANT = struct.Struct(">qQ")
_SHORTEST_TTL = 2
_LONGEST_TTL = 9_000_000_000
_LONGEST_SLEEP = 5.0
_RETRY_SECONDS = 1.0
_MOST_AT_ONCE = 100

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Grant:
    """A lease as granted: its time to live in seconds, and when it expires, in milliseconds since the Unix epoch."""

    lease: int
    ttl: int
    expires: int

    @property
    def remaining(self) -> int:
        """The whole seconds that are left; negative behind the expiry."""
        return int((self.expires - _now()) / 1000)

    def pack(self) -> bytes:
        """The stored form."""
        return _GRANT.pack(self.ttl, self.expires)

    @classmethod
    def unpack(cls, lease: int, stored: bytes) -> "Grant":
        """A grant from its stored form."""
        ttl, expires = _GRANT.unpack(stored)
        return cls(lease, ttl, expires)


async def read_grant(source: Source, layout: Layout, lease: int) -> Grant | None:
    """A lease's grant, None when there is no such lease."""
    stored = await source.get(layout.lease(lease))
    return None if stored is None else Grant.unpack(lease, stored)


async def grant(batch: Batch, tenant: str, lease: int, ttl: int) -> Grant:
    """Grants a lease of `ttl` seconds; its ID is chosen here when `lease` is 0.

    :raises LeaseTTLTooLarge: :raises LeaseExists: :raises NoSpace:
    """
    if ttl > _LONGEST_TTL:
        raise errors.LeaseTTLTooLarge
    refuse_when_full(batch)
    lease = lease or secrets.randbits(63) or 1
    if await read_grant(batch.transaction, batch.layout, lease) is not None:
        raise errors.LeaseExists
    return _store(batch, tenant, lease, max(ttl, _SHORTEST_TTL))


async def renew(batch: Batch, tenant: str, lease: int) -> Grant:
    """Starts a lease's time to live anew.

    :raises LeaseNotFound:
    """
    granted = await _require(batch, lease)
    batch.transaction.clear(batch.layout.expiry(granted.expires, lease))
    return _store(batch, tenant, lease, granted.ttl)


async def revoke(batch: Batch, lease: int) -> None:
    """Ends a lease and deletes its keys, at one revision.

    :raises LeaseNotFound:
    """
    granted = await _require(batch, lease)
    layout, transaction = batch.layout, batch.transaction
    for row in [row async for row, _ in all_rows(transaction, *layout.attachment_range(lease))]:
        key = layout.unpack_attachment(row)
        stored = await transaction.get(layout.key(key))
        if stored is not None:
            await batch.delete(key, stored)
        transaction.clear(row)
    transaction.clear(layout.lease(lease))
    transaction.clear(layout.expiry(granted.expires, lease))


async def expire(batch: Batch, lease: int, expires: int) -> bool:
    """Revokes a lease, unless it has been renewed or revoked since it was found to expire at `expires`."""
    granted = await read_grant(batch.transaction, batch.layout, lease)
    if granted is None or granted.expires != expires:
        batch.transaction.clear(batch.layout.expiry(expires, lease))
        return False
    await revoke(batch, lease)
    return True


async def attached_keys(source: Source, layout: Layout, lease: int) -> list[bytes]:
    """The keys attached to a lease, in order."""
    return [layout.unpack_attachment(row) async for row, _ in all_rows(source, *layout.attachment_range(lease))]


async def leases(source: Source, layout: Layout) -> list[int]:
    """All leases of a tenant, the one that ends first first."""
    granted = [
        Grant.unpack(layout.unpack_lease(row), stored)
        async for row, stored in all_rows(source, layout.leases, layout.leases_end)
    ]
    return [grant.lease for grant in sorted(granted, key=lambda grant: grant.expires)]


class Reaper:
    """Expires the leases of all tenants, whoever granted them: waits for the head of the one queue of expiries.

    Every daemon runs one. Two may find the same lease; the transaction lets the first expire it. A daemon wakes at the
    expiry that it knows to be the next, at a lease granted through it, and every few seconds for what others grant.
    """

    def __init__(self, store: Store, expire_lease: Callable[[str, int, int], Awaitable[None]]) -> None:
        """`expire_lease(tenant, lease, expires)` runs `expire` in the tenant's next batch."""
        self._store = store
        self._expire = expire_lease
        self._sooner = asyncio.Event()
        self._wakes = 0.0

    def granted(self, grant: Grant) -> None:
        """Tells the reaper of a lease, so that it wakes in time."""
        if grant.expires / 1000 < self._wakes:
            self._sooner.set()

    async def run(self) -> None:
        """Runs until cancelled."""
        while True:
            try:
                pause = await self._reap()
            except (StoreUnavailable, errors.TimedOut) as error:
                logger.warning("leases cannot be expired now; trying again: %s", error)
                pause = _RETRY_SECONDS
            except errors.EtcdError:
                logger.exception("expiring leases failed; trying again")
                pause = _RETRY_SECONDS
            self._wakes = time.time() + pause
            try:
                await asyncio.wait_for(self._sooner.wait(), pause)
            except TimeoutError:
                continue
            finally:
                self._sooner.clear()

    async def _reap(self) -> float:
        """Expires what is due; the seconds until there may be more to do."""
        shared = self._store.shared_prefix
        while True:
            with self._store.snapshot() as snapshot:
                rows, _ = await snapshot.get_range(*expiries(shared), _MOST_AT_ONCE)
            queue = [(*unpack_expiry(row, shared), tenant.decode()) for row, tenant in rows]
            due = [(tenant, lease, expires) for expires, lease, tenant in queue if expires <= _now()]
            if due:
                await asyncio.gather(*(self._expire(*lease) for lease in due))
            elif queue:
                return min(max((queue[0][0] - _now()) / 1000, 0.01), _LONGEST_SLEEP)
            else:
                return _LONGEST_SLEEP


async def _require(batch: Batch, lease: int) -> Grant:
    granted = await read_grant(batch.transaction, batch.layout, lease)
    if granted is None:
        raise errors.LeaseNotFound
    return granted


def _store(batch: Batch, tenant: str, lease: int, ttl: int) -> Grant:
    granted = Grant(lease, ttl, _now() + ttl * 1000)
    batch.transaction.set(batch.layout.lease(lease), granted.pack())
    batch.transaction.set(batch.layout.expiry(granted.expires, lease), tenant.encode())
    return granted


def _now() -> int:
    return time.time_ns() // 1_000_000

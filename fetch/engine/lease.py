"""Leases: granted, renewed, revoked and expired in the tenant's batches.

A lease's expiry is a point in the time that tenants are served (`served`), stored with it, so that any daemon can
expire it. The rules are etcd's (`server/lease/lessor.go`): times to live are at least two seconds, revoking or
expiring a lease deletes its keys at one revision, and after a gap in the service it has its time to live anew.

A renewal is stored for a little longer than it was asked for, `slack`. Another one that comes before that is used up
changes nothing that anyone could observe, on any daemon: the lease lives as long as it says anyhow. It is not written,
so a lease costs a few writes a second however often it is renewed. etcd too lets a lease run out up to half a second
late, since it looks that often.
"""

import secrets
import struct
import sys
from collections.abc import Sequence
from dataclasses import dataclass

from fetch import errors
from fetch.engine.batch import Batch
from fetch.engine.layout import Layout
from fetch.engine.operations import refuse_when_full
from fetch.engine.records import size_of_delete
from fetch.engine.served import ServedTime, served_since
from fetch.engine.turns import Work
from fetch.stores.transaction import Source, all_rows

_GRANT = struct.Struct(">qQ")
SHORTEST_TTL = 2
"""The seconds that a lease has at least."""

LONGEST_TTL = 9_000_000_000
_SECOND = 1000
_LONGEST_SLACK = 500
_SLACK_FRACTION = 16
# etcd keeps what remains of a longer time to live every five minutes, and gives a lease that after an election
_LONGEST_ANEW = 300
_PAGE = 1000
_VALUES_AT_ONCE = 64
_VALUE_BYTES = 1 << 20
_ROWS_BETWEEN_LOOKS = 256

Due = tuple[int, int]
"""A lease that is due, and its expiry as queued."""


def slack(ttl: int) -> int:
    """The milliseconds that a lease may live on beyond its time to live of `ttl` seconds."""
    return min(_LONGEST_SLACK, ttl * _SECOND // _SLACK_FRACTION)


@dataclass(frozen=True, slots=True)
class Grant:
    """A lease as granted: its time to live in seconds, and when it expires, in milliseconds of the time served.

    A time to live of 0 is that of a lease whose keys are being deleted in steps: nobody can renew it any more.
    """

    lease: int
    ttl: int
    expires: int

    @property
    def is_ending(self) -> bool:
        """Whether its keys are being deleted."""
        return self.ttl == 0

    def ends(self, since: int) -> int:
        """When it expires if there was no service just before `since`, so that nobody could renew it."""
        if self.is_ending:
            return self.expires
        return max(self.expires, since + min(self.ttl, _LONGEST_ANEW) * _SECOND + slack(self.ttl))

    def remaining(self, now: int, since: int) -> int:
        """The whole seconds that are left; negative behind the expiry."""
        return int(min(self.ends(since) - now, self.ttl * _SECOND - 1) / _SECOND)

    def is_renewed(self, now: int) -> bool:
        """Whether it would not live longer if it was renewed now."""
        return not self.is_ending and now + self.ttl * _SECOND <= self.expires

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
    [found] = await read_grants(source, layout, [lease])
    return found


async def read_grants(source: Source, layout: Layout, leases: Sequence[int]) -> list[Grant | None]:
    """The grants of leases, in one round trip; None for those that there are not, or not any more."""
    rows = await source.get_many([layout.lease(lease) for lease in leases])
    found = [None if row is None else Grant.unpack(lease, row) for lease, row in zip(leases, rows, strict=True)]
    return [None if grant is None or grant.is_ending else grant for grant in found]


async def grant(batch: Batch, keyspace: str, lease: int, ttl: int, now: int) -> Grant:
    """Grants a lease of `ttl` seconds from `now` on; its ID is chosen here when `lease` is 0.

    :raises LeaseTTLTooLarge: :raises LeaseExists: :raises NoSpace:
    """
    if ttl > LONGEST_TTL:
        raise errors.LeaseTTLTooLarge
    refuse_when_full(batch)
    lease = lease or secrets.randbits(63) or 1
    if await batch.transaction.get(batch.layout.lease(lease)) is not None:
        raise errors.LeaseExists
    return _store(batch, keyspace, lease, max(ttl, SHORTEST_TTL), now)


async def renew(batch: Batch, keyspace: str, leases: Sequence[int], now: int) -> list[Grant | None]:
    """Starts the times to live of leases anew; None for each that there is not.

    One that is past its expiry but still there is renewed: that its renewal has waited, or its expiry has, is not its
    holder's fault.
    """
    renewed: list[Grant | None] = []
    for granted in await read_grants(batch.transaction, batch.layout, leases):
        if granted is not None and not granted.is_renewed(now):
            batch.transaction.clear(batch.layout.expiry(granted.expires, granted.lease))
            renewed.append(_store(batch, keyspace, granted.lease, granted.ttl, now))
        else:
            renewed.append(granted)
    return renewed


async def revoke(batch: Batch, keyspace: str, lease: int, now: int, *, is_first: bool = True) -> bool:
    """Ends a lease and deletes its keys, at one revision; whether all of them, or as many as the store commits at once.

    In the latter case it is gone for whoever asks for it, and the next call, not the first, goes on; or whoever expires
    what is due.

    :raises LeaseNotFound:
    """
    stored = await batch.transaction.get(batch.layout.lease(lease))
    granted = None if stored is None else Grant.unpack(lease, stored)
    if is_first and (granted is None or granted.is_ending):
        raise errors.LeaseNotFound
    return granted is None or await _end(batch, keyspace, granted, now)


async def _end(batch: Batch, keyspace: str, granted: Grant, now: int) -> bool:
    if await _delete_keys(batch, granted.lease):
        _remove(batch, granted)
        batch.revoked += 1
        return True
    _queue(batch, keyspace, granted, Grant(granted.lease, 0, min(granted.expires, now)))
    return False


async def expire(
    batch: Batch, keyspace: str, due: Sequence[Due], served: ServedTime, most_keys: int, *, whole: bool = True
) -> int:
    """Revokes leases that are due, as many as have `most_keys` keys together; how many it is done with.

    At least one, however many keys it has: they are deleted at one revision. A store that cannot commit so much at
    once gets it in steps, with `whole` not set: `most_keys` of them at this revision, the others later.

    Leases that were renewed or revoked since they were found to be due are left as they are. Those of which nobody
    could know that there is service again are queued anew, which is a write each and counts as one key.
    """
    since = await served_since(batch.transaction, batch.layout.shared)
    now = served.now()
    done = keys = 0
    for lease, queued in due:
        if not served.is_current:  # what has waited for the store may be evaluated after a gap
            break
        stored = await batch.transaction.get(batch.layout.lease(lease))
        granted = None if stored is None else Grant.unpack(lease, stored)
        if granted is None or granted.expires != queued:
            batch.transaction.clear(batch.layout.expiry(queued, lease))
            keys += 1
        elif (ends := granted.ends(since)) > now:
            _queue(batch, keyspace, granted, Grant(lease, granted.ttl, ends))
            keys += 1
        else:
            attached = await _count(batch, lease, most_keys + 1)
            if done and keys + attached > most_keys:
                break
            keys += 1 + attached
            if (granted.is_ending or not whole) and attached > most_keys:
                await _delete_keys(batch, lease, most_keys)
                _queue(batch, keyspace, granted, Grant(lease, 0, granted.expires))
                break
            if not await _end(batch, keyspace, granted, granted.expires):
                break
        done += 1
        if keys >= most_keys:
            break
        await batch.work.pause()
    return done


async def attached_keys(source: Source, layout: Layout, lease: int, work: Work) -> list[bytes]:
    """The keys attached to a lease, in order."""
    keys: list[bytes] = []
    async for row, _ in all_rows(source, *layout.attachment_range(lease)):
        keys.append(layout.unpack_attachment(row))
        if not len(keys) % _ROWS_BETWEEN_LOOKS and work.is_spent():
            await work.give_way()  # the snapshot stays as it is
    return keys


async def leases(source: Source, layout: Layout, work: Work) -> list[int]:
    """All leases of a tenant, the one that ends first first."""
    since = await served_since(source, layout.shared)
    ends: list[tuple[int, int]] = []
    async for row, stored in all_rows(source, layout.leases, layout.leases_end):
        granted = Grant.unpack(layout.unpack_lease(row), stored)
        if not granted.is_ending:
            ends.append((granted.ends(since), granted.lease))
        if not len(ends) % _ROWS_BETWEEN_LOOKS and work.is_spent():
            await work.give_way()  # the snapshot stays as it is
    return [lease for _, lease in sorted(ends, key=lambda found: found[0])]


async def _delete_keys(batch: Batch, lease: int, most: int | None = None) -> bool:
    """Deletes a lease's keys, at most so many of them, and no more than the store commits at once; whether all."""
    layout, transaction = batch.layout, batch.transaction
    begin, end = layout.attachment_range(lease)
    left, more = most or sys.maxsize, True
    room, at_once = transaction.largest // 2, _VALUES_AT_ONCE
    while more and left > 0:
        rows, more = await transaction.get_range(begin, end, min(left, at_once))
        keys = [layout.unpack_attachment(row) for row, _ in rows]
        values = await transaction.get_many([layout.key(key) for key in keys])
        before = room
        for (row, _), key, stored in zip(rows, keys, values, strict=True):
            if room <= 0:
                return False
            if stored is not None:
                batch.deletes += 1
                room -= size_of_delete(layout.key(key), stored)
                await batch.delete(key, stored)
            transaction.clear(row)
            await batch.work.pause()
        left -= len(rows)
        at_once = max(1, min(_PAGE, 4 * at_once, _VALUE_BYTES * len(rows) // (before - room + 1)))
        if rows:
            begin = rows[-1][0] + b"\x00"
    return not more


async def _count(batch: Batch, lease: int, most: int) -> int:
    """How many keys a lease has; `most` if it has more."""
    rows, more = await batch.transaction.get_range(*batch.layout.attachment_range(lease), most)
    return most if more else len(rows)


def _remove(batch: Batch, granted: Grant) -> None:
    batch.transaction.clear(batch.layout.lease(granted.lease))
    batch.transaction.clear(batch.layout.expiry(granted.expires, granted.lease))


def _store(batch: Batch, keyspace: str, lease: int, ttl: int, now: int) -> Grant:
    granted = Grant(lease, ttl, now + ttl * _SECOND + slack(ttl))
    batch.transaction.set(batch.layout.lease(lease), granted.pack())
    batch.transaction.set(batch.layout.expiry(granted.expires, lease), keyspace.encode())
    return granted


def _queue(batch: Batch, keyspace: str, before: Grant, after: Grant) -> None:
    """Changes a grant, and with it its place in the queue."""
    _remove(batch, before)
    batch.transaction.set(batch.layout.lease(after.lease), after.pack())
    batch.transaction.set(batch.layout.expiry(after.expires, after.lease), keyspace.encode())

"""The engine in memory: the protocol's operations on a keyspace, and the leases that keys are attached to."""

import asyncio
import secrets
from collections.abc import AsyncIterator, Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Any

from fetch import errors
from fetch.api.kv_pb2 import KeyValue
from fetch.api.rpc_pb2 import DeleteRangeRequest, DeleteRangeResponse, PutRequest, PutResponse, RangeRequest, TxnRequest
from fetch.engine import alarms
from fetch.engine.alarms import NO_SPACE, Alarms
from fetch.engine.answers import Answer, Found
from fetch.engine.memory.keyspace import Change, Keyspace, framed
from fetch.engine.memory.transactions import Transactions, may_put
from fetch.engine.memory.watches import Instance, Watch
from fetch.engine.protocol import Ended, Outcome, Piece, Status, StorageEngine, UnknownTenant, WatchInstance
from fetch.engine.turns import Turns

_PIECE_BYTES = 64 << 10
_SHORTEST_TTL = 2
_LONGEST_TTL = 9_000_000_000
_OVERHEAD = 256
"""What a put is charged besides its key and value, as in etcd."""


@dataclass(slots=True)
class Lease:
    """A lease. It ends when `timer` fires, unless it is renewed."""

    lease: int
    ttl: int
    timer: asyncio.TimerHandle


class MemoryEngine:
    """The operations of one tenant. See `fetch/engine/protocol.py` for what they promise."""

    def __init__(self, tenant: str, quota: int = 0, turns: Turns | None = None) -> None:
        """`quota` in bytes, 0 for none; the `turns` are the services', whose work may be long."""
        self.tenant = tenant
        self.member_id = alarms.MEMBER_ID
        self.quota = quota
        self.turns = turns or Turns()
        self._keyspace = Keyspace(self._publish)
        self._transactions = Transactions(self._keyspace, self._require_room, self._require_lease)
        self._instances: dict[WatchInstance[Any], Instance] = {}
        self._leases: dict[int, Lease] = {}
        self._alarms: Alarms = frozenset()

    # keys

    async def create_if_absent(self, key: bytes, value: bytes, lease: int) -> Outcome:
        """Puts a key that does not exist, which is as if it was at revision 0."""
        return await self.update_at_revision(key, 0, value, lease)

    async def update_at_revision(self, key: bytes, revision: int, value: bytes, lease: int) -> Outcome:
        """Puts a key that is at a revision."""
        self._refuse_when_full()
        return self._if_at(key, revision, lambda _: self._put(PutRequest(key=key, value=value, lease=lease)))

    async def delete_key(self, key: bytes, revision: int) -> Outcome:
        """Deletes a key that is at a revision; where there is none, at revision 0, there is nothing to do."""
        return self._if_at(key, revision, lambda found: self._keyspace.delete(key) if found else None)

    def _if_at(self, key: bytes, revision: int, do: Callable[[KeyValue | None], object]) -> Outcome:
        """Does something if a key is at a revision."""
        found = self._keyspace.newest(key)
        current = None if found is None else framed(found)
        if (0 if found is None else found.mod_revision) != revision:
            return Outcome(self._keyspace.revision, False, current)
        with self._keyspace.operation():
            do(found)
        return Outcome(self._keyspace.revision, True, current)

    async def get_latest(self, key: bytes) -> Outcome:
        """The key as it is."""
        return await self.get_at_revision(key, 0)

    async def get_at_revision(self, key: bytes, revision: int) -> Outcome:
        """The key as it was."""
        frames = self._keyspace.range(RangeRequest(key=key, revision=revision)).frames
        return Outcome(self._keyspace.revision, bool(frames), frames[0] if frames else None)

    async def range_keys(self, request: RangeRequest) -> Found:
        """See `Keyspace.range`."""
        return self._keyspace.range(request)

    async def count_keys(self, key: bytes, range_end: bytes, revision: int) -> tuple[int, int]:
        """The length of a range."""
        request = RangeRequest(key=key, range_end=range_end, revision=revision, count_only=True)
        return self._keyspace.range(request).count, self._keyspace.revision

    async def stream_range(self, request: RangeRequest) -> AsyncIterator[Piece]:
        """The answer to a range, cut into pieces."""
        found = self._keyspace.range(request)
        piece: list[bytes] = []
        room = _PIECE_BYTES
        for frame in found.frames:
            if room <= 0:
                yield Piece(piece, False, found.more, found.count, found.revision)
                piece, room = [], _PIECE_BYTES
            piece.append(frame)
            room -= len(frame)
        yield Piece(piece, True, found.more, found.count, found.revision)

    async def put(self, request: PutRequest) -> PutResponse:
        """Puts a key."""
        self._refuse_when_full()
        with self._keyspace.operation():
            return self._put(request)

    def _put(self, request: PutRequest) -> PutResponse:
        self._transactions.check_put(request)
        return self._transactions.put(request)

    async def delete_range(self, request: DeleteRangeRequest) -> DeleteRangeResponse:
        """Deletes all keys of a range."""
        with self._keyspace.operation():
            return self._transactions.delete_range(request)

    async def txn(self, request: TxnRequest, size: int = 0) -> Answer:  # noqa: ARG002  nothing has to be made smaller
        """See `Transactions.txn`."""
        if may_put(request):
            self._refuse_when_full()
        with self._keyspace.operation():
            return self._transactions.txn(request)

    async def read_only_txn(self, request: TxnRequest) -> Answer:
        """The same."""
        return await self.txn(request)

    async def revision(self) -> int:
        """The newest revision."""
        return self._keyspace.revision

    async def compact(self, revision: int, *, physical: bool) -> int:  # noqa: ARG002  it is cleared at once
        """See `Keyspace.compact`."""
        self._keyspace.compact(revision)
        return self._keyspace.revision

    # watches

    def create_watch_instance(self) -> WatchInstance[Watch]:
        """A watch instance, for one stream of a client."""
        instance = Instance(self._keyspace)
        self._instances[instance] = instance
        return instance

    def delete_watch_instance(self, instance: WatchInstance[Any]) -> None:
        """Ends a watch instance with all its watches."""
        own = self._instances.pop(instance, None)
        if own is not None:
            own.cancel_all()

    def _publish(self, changes: Sequence[Change]) -> None:
        for instance in list(self._instances.values()):
            instance.publish(changes)

    # leases

    async def grant_lease(self, lease_id: int, ttl: int) -> tuple[Lease, int]:
        """Grants a lease. When it ends, it is revoked."""
        if ttl > _LONGEST_TTL:
            raise errors.LeaseTTLTooLarge
        self._refuse_when_full()
        lease_id = lease_id or secrets.randbits(63) or 1
        if lease_id in self._leases:
            raise errors.LeaseExists
        ttl = max(ttl, _SHORTEST_TTL)
        lease = self._leases[lease_id] = Lease(lease_id, ttl, self._timer(lease_id, ttl))
        return lease, self._keyspace.revision

    async def renew_leases(self, leases: Sequence[int]) -> tuple[list[Lease | None], int]:
        """Has leases live as long again."""
        found = [self._leases.get(lease_id) for lease_id in leases]
        for lease in found:
            if lease is not None:
                lease.timer.cancel()
                lease.timer = self._timer(lease.lease, lease.ttl)
        return found, self._keyspace.revision

    async def revoke_lease(self, lease_id: int) -> int:
        """Ends a lease."""
        if lease_id not in self._leases:
            raise errors.LeaseNotFound
        self._revoke(lease_id)
        return self._keyspace.revision

    async def find_lease(self, lease_id: int, *, keys: bool) -> tuple[Lease | None, int, list[bytes], int]:
        """A lease, the seconds it has left, its keys."""
        lease = self._leases.get(lease_id)
        if lease is None:
            return None, -1, [], self._keyspace.revision
        left = int(lease.timer.when() - asyncio.get_running_loop().time())
        return lease, left, self._keyspace.attached(lease_id) if keys else [], self._keyspace.revision

    async def leases(self) -> tuple[list[int], int]:
        """All leases, the one that ends first first."""
        ordered = sorted(self._leases.values(), key=lambda lease: lease.timer.when())
        return [lease.lease for lease in ordered], self._keyspace.revision

    def _timer(self, lease_id: int, ttl: int) -> asyncio.TimerHandle:
        return asyncio.get_running_loop().call_later(ttl, self._revoke, lease_id)

    def _revoke(self, lease_id: int) -> None:
        self._leases.pop(lease_id).timer.cancel()
        with self._keyspace.operation():
            for key in self._keyspace.attached(lease_id):
                self._keyspace.delete(key)

    def _require_lease(self, lease_id: int) -> None:
        if lease_id and lease_id not in self._leases:
            raise errors.LeaseNotFound

    # maintenance

    async def status(self) -> Status:
        """What there is."""
        keyspace = self._keyspace
        keys = len(keyspace.in_range(b"\x00", b"\x00", keyspace.revision))
        return Status(keyspace.revision, keyspace.size(), keys, self._alarms, keyspace.compacted)

    async def change_alarms(self, *, activate: Alarms = frozenset(), deactivate: Alarms = frozenset()) -> Alarms:
        """Raises and lowers alarms."""
        before, after = self._alarms, (self._alarms | activate) - deactivate
        if len(after) > max(len(before), alarms.MOST):
            raise errors.TooManyAlarms
        self._alarms = after
        return before

    async def hash_keys(self, revision: int) -> tuple[int, int, int]:
        """See `Keyspace.checksum`."""
        checksum, hashed = self._keyspace.checksum(revision)
        return checksum, self._keyspace.compacted, hashed

    def _refuse_when_full(self) -> None:
        if alarms.is_full(self._alarms):
            raise errors.NoSpace

    def _require_room(self, size: int) -> None:
        """The alarm stays although the put is refused."""
        if self.quota and self._keyspace.size() + _OVERHEAD + size >= self.quota:
            self._alarms |= {NO_SPACE}
            raise errors.NoSpace


class MemoryTenants:
    """Keeps an engine in memory for each tenant."""

    def __init__(self, quota: int = 0, allowed: Collection[str] | None = None) -> None:
        """`quota` in bytes for each tenant, 0 for none; `allowed` None: a tenant is created at its first use."""
        self._quota = quota
        self._allowed = allowed
        self._turns = Turns()
        self._engines: dict[str, StorageEngine] = {}

    def get(self, name: str) -> StorageEngine | None:
        """The engine of a tenant that has been opened before."""
        return self._engines.get(name)

    async def open(self, name: str) -> StorageEngine:
        """The engine of a tenant.

        :raises UnknownTenant:
        """
        if self._allowed is not None and name not in self._allowed:
            raise UnknownTenant(name)
        return self._engines.setdefault(name, MemoryEngine(name, self._quota, self._turns))

    def when_ended(self, ended: Ended) -> None:
        """Nothing: tenants are not taken away."""

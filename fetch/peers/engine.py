"""A tenant's engine where several daemons serve it: reads are this daemon's own, writes go to whoever writes for it
now.

What cannot be sent, since nobody is known to write, or is there to be reached, or because its answer may be large, is
written here. A write that was sent and not answered has an unknown result, as one whose commit has: UNAVAILABLE.
"""

from collections.abc import Callable, Sequence
from typing import TypeVar

from opentelemetry import propagate

from fetch import errors
from fetch.api.rpc_pb2 import DeleteRangeRequest, DeleteRangeResponse, PutRequest, PutResponse, TxnRequest
from fetch.engine.alarms import Alarms
from fetch.engine.answers import Answer
from fetch.engine.engine import StoredEngine
from fetch.engine.lease import Grant
from fetch.engine.protocol import Outcome
from fetch.peers import operations
from fetch.peers.claims import Writing
from fetch.peers.link import Link, NotTaken, Unanswered
from fetch.v1.peers_pb2 import Done, Write

T = TypeVar("T")


class SharedEngine:
    """The storage engine's protocol, over the engine of this daemon and those of the others."""

    def __init__(
        self,
        stored: StoredEngine,
        writing: Writing,
        link: Callable[[int], Link | None],
        report: Callable[[str], None],
        *,
        traces: bool,
    ) -> None:
        """`link(daemon)` is the way to another daemon, if it can be used now; `traces`: spans go somewhere.

        `report` is told of each write that was to be sent: it was "answered", "unanswered", or "returned" to be written
        here.
        """
        self.stored = stored
        self._writing = writing
        self._link = link
        self._report = report
        self._traces = traces
        self.tenant = stored.tenant
        self.member_id = stored.member_id
        self.turns = stored.turns
        # all that reads is as it is
        self.get_latest = stored.get_latest
        self.get_at_revision = stored.get_at_revision
        self.range_keys = stored.range_keys
        self.count_keys = stored.count_keys
        self.stream_range = stored.stream_range
        self.read_only_txn = stored.read_only_txn
        self.revision = stored.revision
        self.create_watch_instance = stored.create_watch_instance
        self.delete_watch_instance = stored.delete_watch_instance
        self.find_lease = stored.find_lease
        self.leases = stored.leases
        self.status = stored.status
        self.hash_keys = stored.hash_keys
        self.read_contents = stored.read_contents
        self.loading = stored.loading

    @property
    def quota(self) -> int:
        """See `StorageEngine`. It may change."""
        return self.stored.quota

    async def create_if_absent(self, key: bytes, value: bytes, lease: int) -> Outcome:
        """See `StorageEngine`."""
        if (link := self._elsewhere()) is not None:
            done = await self._send(link, operations.change(key, 0, value, lease))
            if done is not None:
                return operations.outcome(done)
        return await self.stored.create_if_absent(key, value, lease)

    async def update_at_revision(self, key: bytes, revision: int, value: bytes, lease: int) -> Outcome:
        """See `StorageEngine`."""
        if (link := self._elsewhere()) is not None:
            done = await self._send(link, operations.change(key, revision, value, lease))
            if done is not None:
                return operations.outcome(done)
        return await self.stored.update_at_revision(key, revision, value, lease)

    async def delete_key(self, key: bytes, revision: int) -> Outcome:
        """See `StorageEngine`."""
        if (link := self._elsewhere()) is not None:
            done = await self._send(link, operations.deletion(key, revision))
            if done is not None:
                return operations.outcome(done)
        return await self.stored.delete_key(key, revision)

    async def put(self, request: PutRequest) -> PutResponse:
        """See `StorageEngine`."""
        if (link := self._elsewhere()) is not None:
            done = await self._send(link, operations.put(request))
            if done is not None:
                return operations.put_response(done)
        return await self.stored.put(request)

    async def delete_range(self, request: DeleteRangeRequest) -> DeleteRangeResponse:
        """See `StorageEngine`."""
        if (link := self._elsewhere()) is not None and not operations.may_answer_much(request):
            done = await self._send(link, operations.delete_range(request))
            if done is not None:
                return operations.delete_range_response(done)
        return await self.stored.delete_range(request)

    async def txn(self, request: TxnRequest, size: int = 0) -> Answer:
        """See `StorageEngine`."""
        if (link := self._elsewhere()) is not None and operations.is_short(request, size):
            done = await self._send(link, operations.txn(request))
            if done is not None:
                return operations.answer(done)
        return await self.stored.txn(request, size)

    async def compact(self, revision: int, *, physical: bool) -> int:
        """See `StorageEngine`."""
        if (link := self._elsewhere()) is not None:
            done = await self._send(link, operations.compaction(revision, physical=physical))
            if done is not None:
                return done.revision
        return await self.stored.compact(revision, physical=physical)

    async def grant_lease(self, lease_id: int, ttl: int) -> tuple[Grant, int]:
        """See `StorageEngine`."""
        if (link := self._elsewhere()) is not None:
            done = await self._send(link, operations.grant(lease_id, ttl))
            if done is not None and (granted := operations.grants(done)[0]) is not None:
                return granted, done.revision
        return await self.stored.grant_lease(lease_id, ttl)

    async def renew_leases(self, leases: Sequence[int]) -> tuple[list[Grant | None], int]:
        """See `StorageEngine`."""
        if (link := self._elsewhere()) is not None:
            done = await self._send(link, operations.renewal(leases))
            if done is not None:
                return operations.grants(done), done.revision
        return await self.stored.renew_leases(leases)

    async def revoke_lease(self, lease_id: int) -> int:
        """See `StorageEngine`."""
        if (link := self._elsewhere()) is not None:
            done = await self._send(link, operations.revocation(lease_id))
            if done is not None:
                return done.revision
        return await self.stored.revoke_lease(lease_id)

    async def change_alarms(self, *, activate: Alarms = frozenset(), deactivate: Alarms = frozenset()) -> Alarms:
        """See `StorageEngine`."""
        if (link := self._elsewhere()) is not None:
            done = await self._send(link, operations.alarms(activate, deactivate))
            if done is not None:
                return operations.alarms_before(done)
        return await self.stored.change_alarms(activate=activate, deactivate=deactivate)

    def _elsewhere(self) -> Link | None:
        """The way to the daemon that writes for the tenant, if that is another and can be reached."""
        writer = self._writing.elsewhere()
        link = None if writer is None else self._link(writer)
        if link is None:
            self._writing.count()
        return link

    async def _send(self, link: Link, write: Write) -> Done | None:
        """What the other daemon's engine returned; None: it has not taken the write and never will.

        :raises EtcdError: what the other engine raised :raises TimedOut: nobody knows whether it took place
        """
        write.tenant = self.stored.keyspace
        if self._traces:
            carrier: dict[str, str] = {}
            propagate.inject(carrier)
            write.trace.update(carrier)
        try:
            result = await link.exchange(write)
        except NotTaken:
            self._report("returned")
            return None
        except Unanswered as error:
            self._report("unanswered")
            raise errors.TimedOut from error
        if result.declined:
            self._report("returned")
            return None
        self._report("answered")
        return operations.done(result)

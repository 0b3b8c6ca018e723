"""The Maintenance service, as far as it makes sense for one tenant of many.

Follows `server/etcdserver/api/v3rpc/maintenance.go`. The daemon that writes for a tenant is its leader; its size is
what the tenant has stored, not the size of the store that it shares with others.
"""

from collections.abc import Mapping

import grpc

from fetch import errors
from fetch.api.rpc_pb2 import (
    AlarmRequest,
    AlarmResponse,
    AlarmType,
    DefragmentResponse,
    HashKVRequest,
    HashKVResponse,
    HashResponse,
    SnapshotResponse,
    StatusResponse,
)
from fetch.chain import Call
from fetch.config import Settings
from fetch.engine.alarms import MEMBER_ID, Alarms
from fetch.engine.protocol import StorageEngine
from fetch.services.members import Alone, Membership
from fetch.services.sending import Sender
from fetch.services.unserved import refuse
from fetch.services.wire import RAFT_TERM, fill, tenant_of
from fetch.snapshots import schema
from fetch.snapshots.taking import Piece

# kube-apiserver asks for it to tell which features it may use; etcd 3.7 is what the answers follow
VERSION = "3.7.3"
STORAGE_VERSION = "3.7.0"
# an etcd is never empty, and etcdctl divides by its size
_LEAST_SIZE = 4096


class Maintenance:
    """The handlers of `etcdserverpb.Maintenance`, on raw bytes."""

    name = "etcdserverpb.Maintenance"

    def __init__(self, settings: Settings, membership: Membership | None = None) -> None:
        """`membership` is told where there may be other daemons."""
        self._membership = membership or Alone(settings)
        self._sender = Sender(settings)

    def handlers(self) -> Mapping[str, grpc.RpcMethodHandler]:
        """The service's methods."""
        return {
            "Alarm": grpc.unary_unary_rpc_method_handler(self.alarm),
            "Status": grpc.unary_unary_rpc_method_handler(self.status),
            "Defragment": grpc.unary_unary_rpc_method_handler(self.defragment),
            "Hash": grpc.unary_unary_rpc_method_handler(self.hash),
            "HashKV": grpc.unary_unary_rpc_method_handler(self.hash_kv),
            "Snapshot": grpc.unary_stream_rpc_method_handler(self.snapshot),
            "MoveLeader": refuse("a tenant is led by the daemon that writes for it, which its load decides"),
            "Downgrade": refuse("fetch's storage format does not follow etcd's versions"),
        }

    async def alarm(self, request: bytes, call: Call) -> bytes:
        """Alarm.

        Types and actions that etcd has no name for are refused. etcd keeps such an alarm, and dies of such an action.
        """
        message = AlarmRequest.FromString(request)
        engine = tenant_of(call)
        if message.alarm not in AlarmType.values() or message.action not in AlarmRequest.AlarmAction.values():
            raise errors.Refused(grpc.StatusCode.INVALID_ARGUMENT, "etcdserver: unknown type or action of an alarm")
        response = AlarmResponse()
        named = frozenset({(message.memberID, int(message.alarm))})
        shown: Alarms = frozenset()
        if message.action == AlarmRequest.GET:
            raised = _as_its_own((await engine.status()).alarms, engine)
            shown = frozenset(alarm for alarm in raised if message.alarm in (AlarmType.NONE, alarm[1]))
        elif message.action == AlarmRequest.ACTIVATE and message.alarm != AlarmType.NONE:
            await engine.change_alarms(activate=named)
            shown = named
        elif message.action == AlarmRequest.DEACTIVATE:
            before = await engine.change_alarms(deactivate=named | self._raised_by_itself(named))
            shown = _as_its_own(before, engine) & named
        for member, kind in sorted(shown):
            response.alarms.add(memberID=member, alarm=AlarmType.Name(kind))
        fill(response.header, engine, await engine.revision())
        return response.SerializeToString()

    async def status(self, _: bytes, call: Call) -> bytes:
        """Status."""
        engine = tenant_of(call)
        status = await engine.status()
        size = max(status.stored_bytes, _LEAST_SIZE)
        response = StatusResponse(
            version=VERSION,
            dbSize=size,
            leader=self._membership.leader(status.writer),
            raftIndex=status.revision,
            raftTerm=RAFT_TERM,
            raftAppliedIndex=status.revision,
            dbSizeInUse=size,
            storageVersion=STORAGE_VERSION,
            dbSizeQuota=engine.quota,
        )
        response.downgradeInfo.enabled = False
        for member, kind in sorted(_as_its_own(status.alarms, engine)):
            response.errors.append(f"memberID:{member} alarm:{AlarmType.Name(kind)}")
        fill(response.header, engine, status.revision)
        return response.SerializeToString()

    def _raised_by_itself(self, named: Alarms) -> Alarms:
        """What the engine has raised itself, and each member tells of as its own, where any of them is named."""
        members = {member.id for member in self._membership.living()}
        return frozenset((MEMBER_ID, kind) for member, kind in named if member in members)

    async def defragment(self, _: bytes, call: Call) -> bytes:
        """Defragment: nothing to be done, freed space is reused as it is."""
        tenant_of(call)
        return DefragmentResponse().SerializeToString()

    async def hash(self, _: bytes, call: Call) -> bytes:
        """Hash: what HashKV answers for the newest revision.

        etcd's is that of its whole file, which no other member's need be equal to, and no tenant's can be.
        """
        engine = tenant_of(call)
        checksum, _compacted, revision = await engine.hash_keys(0)
        response = HashResponse(hash=checksum)
        fill(response.header, engine, revision)
        return response.SerializeToString()

    async def hash_kv(self, request: bytes, call: Call) -> bytes:
        """HashKV: etcd's number for the same history, see `docs/hashes.md`."""
        engine = tenant_of(call)
        checksum, compacted, revision = await engine.hash_keys(HashKVRequest.FromString(request).revision)
        response = HashKVResponse(hash=checksum, compact_revision=compacted, hash_revision=revision)
        fill(response.header, engine, await engine.revision())
        return response.SerializeToString()

    async def snapshot(self, _: bytes, call: Call) -> None:
        """Snapshot: the tenant at one revision as the file that an etcd would send, with its hash behind it.

        :raises TooManyRequests: so many of the tenant's are under way :raises Refused: UNAVAILABLE, no room on the disk
        """

        async def write(piece: Piece) -> None:
            message = SnapshotResponse(remaining_bytes=piece.remaining, blob=piece.data, version=schema.STORAGE_VERSION)
            await call.write(message.SerializeToString())

        await self._sender.send(tenant_of(call), write)


def _as_its_own(alarms: Alarms, engine: StorageEngine) -> Alarms:
    """Alarms as a client is told of them: what an engine has raised itself is the answering member's."""
    return frozenset((engine.member_id if member == MEMBER_ID else member, kind) for member, kind in alarms)

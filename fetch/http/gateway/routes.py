"""Which path stands for which method: the `google.api.http` rules of etcd's definitions, all of them POST.

RangeStream has no path, in etcd neither.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from google.protobuf.descriptor import Descriptor, MethodDescriptor

from fetch.api import auth_pb2, election_pb2, lock_pb2, rpc_pb2

_KV, _WATCH, _LEASE = "etcdserverpb.KV", "etcdserverpb.Watch", "etcdserverpb.Lease"
_CLUSTER, _MAINTENANCE, _AUTH = "etcdserverpb.Cluster", "etcdserverpb.Maintenance", "etcdserverpb.Auth"
_LOCK, _ELECTION = "v3lockpb.Lock", "v3electionpb.Election"

PATHS: Mapping[str, tuple[str, str]] = {
    "/v3/kv/range": (_KV, "Range"),
    "/v3/kv/put": (_KV, "Put"),
    "/v3/kv/deleterange": (_KV, "DeleteRange"),
    "/v3/kv/txn": (_KV, "Txn"),
    "/v3/kv/compaction": (_KV, "Compact"),
    "/v3/watch": (_WATCH, "Watch"),
    "/v3/lease/grant": (_LEASE, "LeaseGrant"),
    "/v3/lease/revoke": (_LEASE, "LeaseRevoke"),
    "/v3/kv/lease/revoke": (_LEASE, "LeaseRevoke"),
    "/v3/lease/keepalive": (_LEASE, "LeaseKeepAlive"),
    "/v3/lease/timetolive": (_LEASE, "LeaseTimeToLive"),
    "/v3/kv/lease/timetolive": (_LEASE, "LeaseTimeToLive"),
    "/v3/lease/leases": (_LEASE, "LeaseLeases"),
    "/v3/kv/lease/leases": (_LEASE, "LeaseLeases"),
    "/v3/cluster/member/add": (_CLUSTER, "MemberAdd"),
    "/v3/cluster/member/remove": (_CLUSTER, "MemberRemove"),
    "/v3/cluster/member/update": (_CLUSTER, "MemberUpdate"),
    "/v3/cluster/member/list": (_CLUSTER, "MemberList"),
    "/v3/cluster/member/promote": (_CLUSTER, "MemberPromote"),
    "/v3/maintenance/alarm": (_MAINTENANCE, "Alarm"),
    "/v3/maintenance/status": (_MAINTENANCE, "Status"),
    "/v3/maintenance/defragment": (_MAINTENANCE, "Defragment"),
    "/v3/maintenance/hash": (_MAINTENANCE, "Hash"),
    "/v3/maintenance/hashkv": (_MAINTENANCE, "HashKV"),
    "/v3/maintenance/snapshot": (_MAINTENANCE, "Snapshot"),
    "/v3/maintenance/transfer-leadership": (_MAINTENANCE, "MoveLeader"),
    "/v3/maintenance/downgrade": (_MAINTENANCE, "Downgrade"),
    "/v3/auth/enable": (_AUTH, "AuthEnable"),
    "/v3/auth/disable": (_AUTH, "AuthDisable"),
    "/v3/auth/status": (_AUTH, "AuthStatus"),
    "/v3/auth/authenticate": (_AUTH, "Authenticate"),
    "/v3/auth/user/add": (_AUTH, "UserAdd"),
    "/v3/auth/user/get": (_AUTH, "UserGet"),
    "/v3/auth/user/list": (_AUTH, "UserList"),
    "/v3/auth/user/delete": (_AUTH, "UserDelete"),
    "/v3/auth/user/changepw": (_AUTH, "UserChangePassword"),
    "/v3/auth/user/grant": (_AUTH, "UserGrantRole"),
    "/v3/auth/user/revoke": (_AUTH, "UserRevokeRole"),
    "/v3/auth/role/add": (_AUTH, "RoleAdd"),
    "/v3/auth/role/get": (_AUTH, "RoleGet"),
    "/v3/auth/role/list": (_AUTH, "RoleList"),
    "/v3/auth/role/delete": (_AUTH, "RoleDelete"),
    "/v3/auth/role/grant": (_AUTH, "RoleGrantPermission"),
    "/v3/auth/role/revoke": (_AUTH, "RoleRevokePermission"),
    "/v3/lock/lock": (_LOCK, "Lock"),
    "/v3/lock/unlock": (_LOCK, "Unlock"),
    "/v3/election/campaign": (_ELECTION, "Campaign"),
    "/v3/election/proclaim": (_ELECTION, "Proclaim"),
    "/v3/election/leader": (_ELECTION, "Leader"),
    "/v3/election/observe": (_ELECTION, "Observe"),
    "/v3/election/resign": (_ELECTION, "Resign"),
}


@dataclass(frozen=True, slots=True)
class Route:
    """A method: its full name, and its messages."""

    method: str
    request: Descriptor
    response: Descriptor


def routes() -> dict[str, Route]:
    """The methods by their paths."""
    methods: dict[tuple[str, str], MethodDescriptor] = {
        (service.full_name, method.name): method
        for module in (rpc_pb2, auth_pb2, lock_pb2, election_pb2)
        for service in module.DESCRIPTOR.services_by_name.values()
        for method in service.methods
    }
    return {
        path: Route(f"/{service}/{name}", methods[service, name].input_type, methods[service, name].output_type)
        for path, (service, name) in PATHS.items()
    }

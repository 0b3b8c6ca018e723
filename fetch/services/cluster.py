"""The Cluster service: a tenant is a cluster whose members are the daemons on its store."""

from collections.abc import Mapping

import grpc

from fetch.api.rpc_pb2 import MemberListResponse
from fetch.chain import Call
from fetch.config import Settings
from fetch.services.members import Alone, Membership
from fetch.services.unserved import refuse
from fetch.services.wire import fill, tenant_of

_WHY = "daemons of fetch keep no state: add or remove them behind the endpoint's name or load balancer"


class Cluster:
    """The handlers of `etcdserverpb.Cluster`, on raw bytes."""

    name = "etcdserverpb.Cluster"

    def __init__(self, settings: Settings, membership: Membership | None = None) -> None:
        """`membership` is told where there may be other daemons."""
        self._membership = membership or Alone(settings)

    def handlers(self) -> Mapping[str, grpc.RpcMethodHandler]:
        """The service's methods."""
        changes = ("MemberAdd", "MemberRemove", "MemberUpdate", "MemberPromote")
        return {
            "MemberList": grpc.unary_unary_rpc_method_handler(self.member_list),
            **dict.fromkeys(changes, refuse(_WHY)),
        }

    async def member_list(self, _: bytes, call: Call) -> bytes:
        """MemberList."""
        engine = tenant_of(call)
        response = MemberListResponse()
        for member in self._membership.living():
            response.members.add(
                ID=member.id, name=member.label, clientURLs=member.client_urls, peerURLs=member.peer_urls
            )
        fill(response.header, engine)
        return response.SerializeToString()

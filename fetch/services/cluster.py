"""The Cluster service: a tenant is a cluster of one member, which is whatever daemon answers."""

from collections.abc import Mapping

import grpc

from fetch.api.rpc_pb2 import MemberListResponse
from fetch.chain import Call
from fetch.config import Settings
from fetch.engine.alarms import MEMBER_ID
from fetch.services.unserved import refuse
from fetch.services.wire import fill, tenant_of

_WHY = "daemons of fetch keep no state: add or remove them behind the endpoint's name or load balancer"


class Cluster:
    """The handlers of `etcdserverpb.Cluster`, on raw bytes."""

    name = "etcdserverpb.Cluster"

    def __init__(self, settings: Settings) -> None:
        self._client_urls = settings.advertise_client_urls

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
        response.members.add(ID=MEMBER_ID, name="fetch", clientURLs=self._client_urls)
        fill(response.header, engine)
        return response.SerializeToString()

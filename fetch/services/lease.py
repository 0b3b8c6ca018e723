"""The Lease service. Follows `server/etcdserver/api/v3rpc/lease.go`."""

from collections.abc import AsyncIterator, Mapping

import grpc

from fetch import errors
from fetch.api.rpc_pb2 import (
    LeaseGrantRequest,
    LeaseGrantResponse,
    LeaseKeepAliveRequest,
    LeaseKeepAliveResponse,
    LeaseLeasesResponse,
    LeaseRevokeRequest,
    LeaseRevokeResponse,
    LeaseTimeToLiveRequest,
    LeaseTimeToLiveResponse,
)
from fetch.chain import Call
from fetch.engine.engine import StorageEngine
from fetch.services.streams import Streams
from fetch.services.wire import fill, tenant_of


class Lease:
    """The handlers of `etcdserverpb.Lease`, on raw bytes."""

    name = "etcdserverpb.Lease"

    def __init__(self, streams: Streams) -> None:
        self._streams = streams

    def handlers(self) -> Mapping[str, grpc.RpcMethodHandler]:
        """The service's methods."""
        return {
            "LeaseGrant": grpc.unary_unary_rpc_method_handler(self.grant),
            "LeaseRevoke": grpc.unary_unary_rpc_method_handler(self.revoke),
            "LeaseKeepAlive": grpc.stream_stream_rpc_method_handler(self.keep_alive),
            "LeaseTimeToLive": grpc.unary_unary_rpc_method_handler(self.time_to_live),
            "LeaseLeases": grpc.unary_unary_rpc_method_handler(self.leases),
        }

    async def grant(self, request: bytes, call: Call) -> bytes:
        """LeaseGrant."""
        message = LeaseGrantRequest.FromString(request)
        engine = tenant_of(call)
        granted, revision = await engine.grant_lease(message.ID, message.TTL)
        response = LeaseGrantResponse(ID=granted.lease, TTL=granted.ttl)
        fill(response.header, engine, revision)
        return response.SerializeToString()

    async def revoke(self, request: bytes, call: Call) -> bytes:
        """LeaseRevoke."""
        engine = tenant_of(call)
        revision = await engine.revoke_lease(LeaseRevokeRequest.FromString(request).ID)
        response = LeaseRevokeResponse()
        fill(response.header, engine, revision)
        return response.SerializeToString()

    async def keep_alive(self, _: AsyncIterator[bytes], call: Call) -> None:
        """LeaseKeepAlive. A lease that there is not is answered with a time to live of 0."""
        with self._streams.serving():
            while (message := await call.read()) is not grpc.aio.EOF:
                await call.write(await _renewed(tenant_of(call), LeaseKeepAliveRequest.FromString(message).ID))

    async def time_to_live(self, request: bytes, call: Call) -> bytes:
        """LeaseTimeToLive. A lease that there is not, or that has run out, is answered with -1."""
        message = LeaseTimeToLiveRequest.FromString(request)
        engine = tenant_of(call)
        granted, keys, revision = await engine.find_lease(message.ID, keys=message.keys)
        response = LeaseTimeToLiveResponse(ID=message.ID, TTL=-1)
        if granted is not None and granted.remaining >= 0:
            response.TTL, response.grantedTTL = granted.remaining, granted.ttl
            response.keys.extend(keys)
        fill(response.header, engine, revision)
        return response.SerializeToString()

    async def leases(self, _: bytes, call: Call) -> bytes:
        """LeaseLeases."""
        engine = tenant_of(call)
        leases, revision = await engine.leases()
        response = LeaseLeasesResponse()
        for lease in leases:
            response.leases.add(ID=lease)
        fill(response.header, engine, revision)
        return response.SerializeToString()


async def _renewed(engine: StorageEngine, lease: int) -> bytes:
    """The answer to a keepalive, once the lease has been renewed."""
    response = LeaseKeepAliveResponse(ID=lease)
    # the header is from before the renewal: a lease that was revoked at its revision has not been renewed
    fill(response.header, engine, await engine.revision())
    try:
        response.TTL = (await engine.renew_lease(lease)).ttl
    except errors.LeaseNotFound:
        response.TTL = 0
    return response.SerializeToString()

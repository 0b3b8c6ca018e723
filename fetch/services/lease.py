"""The Lease service. Follows `server/etcdserver/api/v3rpc/lease.go`."""

import asyncio
from collections.abc import AsyncIterator, Mapping

import grpc

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
from fetch.engine.protocol import StorageEngine
from fetch.services.streams import Streams
from fetch.services.wire import fill, tenant_of

_MOST_AT_ONCE = 64


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
        stream = _KeepAlives(tenant_of(call), call)
        with self._streams.serving():
            await stream.serve()

    async def time_to_live(self, request: bytes, call: Call) -> bytes:
        """LeaseTimeToLive. A lease that there is not, or that has run out, is answered with -1."""
        message = LeaseTimeToLiveRequest.FromString(request)
        engine = tenant_of(call)
        granted, remaining, keys, revision = await engine.find_lease(message.ID, keys=message.keys)
        response = LeaseTimeToLiveResponse(ID=message.ID, TTL=-1)
        if granted is not None and remaining >= 0:
            response.TTL, response.grantedTTL = remaining, granted.ttl
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


class _KeepAlives:
    """A stream of keepalives. What has come by the time that the last ones are answered is renewed together."""

    __slots__ = ("_call", "_ended", "_engine", "_idle", "_read_on", "_waiting")

    def __init__(self, engine: StorageEngine, call: Call) -> None:
        self._engine = engine
        self._call = call
        self._waiting: list[int] = []
        self._ended = False
        # futures, since an idle stream costs memory: an asyncio.Event takes 760 bytes
        self._idle: asyncio.Future[None] | None = None
        self._read_on: asyncio.Future[None] | None = None

    async def serve(self) -> None:
        """Reads and answers until the client has said all, or one of it fails."""
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._read())
                await self._answer()
        except ExceptionGroup as failed:
            raise failed.exceptions[0] from None

    async def _read(self) -> None:
        """Reads ahead of what is being renewed, but not further than one more renewal of the stream takes."""
        while (message := await self._call.read()) is not grpc.aio.EOF:
            self._waiting.append(LeaseKeepAliveRequest.FromString(message).ID)
            _wake(self._idle)
            if len(self._waiting) >= _MOST_AT_ONCE:
                self._read_on = asyncio.get_running_loop().create_future()
                await self._read_on
        self._ended = True
        _wake(self._idle)

    async def _answer(self) -> None:
        while True:
            while self._waiting:
                leases, self._waiting = self._waiting, []
                _wake(self._read_on)
                for answer in await _renewed(self._engine, leases):
                    await self._call.write(answer)
            if self._ended:
                return
            self._idle = asyncio.get_running_loop().create_future()
            await self._idle


def _wake(waiter: "asyncio.Future[None] | None") -> None:
    if waiter is not None and not waiter.done():
        waiter.set_result(None)


async def _renewed(engine: StorageEngine, leases: list[int]) -> list[bytes]:
    """The answers to keepalives, once the leases have been renewed. A lease that there is not has 0 seconds."""
    granted, revision = await engine.renew_leases(leases)
    answers = []
    for lease, grant in zip(leases, granted, strict=True):
        response = LeaseKeepAliveResponse(ID=lease, TTL=0 if grant is None else grant.ttl)
        # the revision is from before the renewal: a lease that was revoked at its revision has not been renewed
        fill(response.header, engine, revision)
        answers.append(response.SerializeToString())
    return answers

"""The Election service. Follows `server/etcdserver/api/v3election` and the election of `client/v3/concurrency`."""

from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing

import grpc

from fetch import errors
from fetch.api.election_pb2 import (
    CampaignRequest,
    CampaignResponse,
    LeaderRequest,
    ProclaimRequest,
    ProclaimResponse,
    ResignRequest,
    ResignResponse,
)
from fetch.api.kv_pb2 import Event
from fetch.api.rpc_pb2 import RangeRequest, WatchResponse
from fetch.chain import Call
from fetch.engine.answers import Found
from fetch.engine.protocol import StorageEngine
from fetch.engine.records import key_of, varint
from fetch.services.candidates import Queues, refusals
from fetch.services.streams import Streams
from fetch.services.watching import Watching
from fetch.services.wire import fill, framed_header, tenant_of

_KV = b"\x12"
"""The tag of `kv` in LeaderResponse, with which a stored frame begins as well."""


class Election:
    """The handlers of `v3electionpb.Election`, on raw bytes."""

    name = "v3electionpb.Election"

    def __init__(self, streams: Streams, most_bytes: int) -> None:
        """`most_bytes` is the bound on a request."""
        self._streams = streams
        self._queues = Queues(most_bytes)

    def handlers(self) -> Mapping[str, grpc.RpcMethodHandler]:
        """The service's methods."""
        return {
            "Campaign": grpc.unary_unary_rpc_method_handler(self.campaign),
            "Proclaim": grpc.unary_unary_rpc_method_handler(self.proclaim),
            "Leader": grpc.unary_unary_rpc_method_handler(self.leader),
            "Observe": grpc.unary_stream_rpc_method_handler(self.observe),
            "Resign": grpc.unary_unary_rpc_method_handler(self.resign),
        }

    async def campaign(self, request: bytes, call: Call) -> bytes:
        """Campaign: waits until the caller leads. A caller who goes away stands for the election no longer.

        One whose lease ends while it waits is told that it leads, as in etcd; Proclaim tells it that it does not.
        """
        message = CampaignRequest.FromString(request)
        engine = tenant_of(call)
        with refusals(), self._streams.serving():
            lease = await self._queues.session(engine, message.lease)
            candidate = await self._queues.enter(engine, message.name, lease, message.value)
            try:
                if candidate.value != message.value:
                    await self._queues.change(engine, candidate.key, candidate.created, message.value, lease)
                await self._queues.wait(engine, message.name, candidate)
            except BaseException:
                await self._queues.leave(engine, candidate.key, candidate.created)
                raise
        response = CampaignResponse()
        response.leader.name, response.leader.key = message.name, candidate.key
        response.leader.rev, response.leader.lease = candidate.created, lease
        fill(response.header, engine, candidate.revision)
        return response.SerializeToString()

    async def proclaim(self, request: bytes, call: Call) -> bytes:
        """Proclaim: the leader's new value."""
        message = ProclaimRequest.FromString(request)
        engine = tenant_of(call)
        leader = message.leader
        with refusals():
            if not message.HasField("leader"):
                raise errors.MissingLeaderKey
            lease = await self._queues.session(engine, leader.lease)
            revision = await self._queues.change(engine, leader.key, leader.rev, message.value, lease)
        response = ProclaimResponse()
        fill(response.header, engine, revision)
        return response.SerializeToString()

    async def leader(self, request: bytes, call: Call) -> bytes:
        """Leader: what the one who leads has proclaimed."""
        message = LeaderRequest.FromString(request)
        engine = tenant_of(call)
        with refusals():
            found = await _first(engine, message.name)
            if not found.frames:
                raise errors.NoLeader
        return framed_header(engine, found.revision) + found.frames[0]

    async def observe(self, request: bytes, call: Call) -> None:
        """Observe: what leaders proclaim, in order, from now on; first what the one of now has proclaimed."""
        message = LeaderRequest.FromString(request)
        engine = tenant_of(call)
        with refusals(), self._streams.serving():
            while True:
                found = await _first(engine, message.name)
                if found.frames:
                    revision, frame = found.revision, found.frames[0]
                else:
                    try:
                        revision, frame = await _first_put(engine, message.name, found.revision)
                    except errors.Compacted:
                        continue
                await call.write(framed_header(engine, revision) + frame)
                async with aclosing(_proclamations(engine, key_of(frame), revision)) as proclamations:
                    async for proclaimed in proclamations:
                        await call.write(proclaimed)

    async def resign(self, request: bytes, call: Call) -> bytes:
        """Resign: the next candidate leads. Who does not lead any more, or never did, is told nothing else."""
        message = ResignRequest.FromString(request)
        engine = tenant_of(call)
        with refusals():
            if not message.HasField("leader"):
                raise errors.MissingLeaderKey
            revision = await self._queues.leave(engine, message.leader.key, message.leader.rev)
        response = ResignResponse()
        fill(response.header, engine, revision)
        return response.SerializeToString()


async def _first(engine: StorageEngine, name: bytes) -> Found:
    """The key of the one who leads."""
    return await engine.range_keys(
        RangeRequest(
            key=name + b"/",
            range_end=name + b"0",
            sort_target=RangeRequest.CREATE,
            sort_order=RangeRequest.ASCEND,
            limit=1,
        )
    )


async def _first_put(engine: StorageEngine, name: bytes, revision: int) -> tuple[int, bytes]:
    """Waits for the first candidate of an election that has none at a revision: when it comes, and its key, framed.

    :raises Compacted:
    """
    async with Watching(engine, name + b"/", name + b"0", revision + 1, deletes=False) as watching:
        delivery = await watching.next()
        event = WatchResponse.FromString(delivery.frames[0]).events[0]
        return event.kv.mod_revision, _framed(event)


async def _proclamations(engine: StorageEngine, key: bytes, revision: int) -> AsyncGenerator[bytes]:
    """What is put under the leader's key behind a revision, as LeaderResponses, until it is deleted.

    Ends as well where compaction has overtaken it: who leads is to be looked for anew.
    """
    async with Watching(engine, key, b"", revision + 1) as watching:
        while True:
            try:
                delivery = await watching.next()
            except errors.Compacted:
                return
            for event in WatchResponse.FromString(b"".join(delivery.frames)).events:
                if event.type == Event.DELETE:
                    return
                yield framed_header(engine, delivery.revision) + _framed(event)


def _framed(event: Event) -> bytes:
    encoded = event.kv.SerializeToString()
    return _KV + varint(len(encoded)) + encoded

"""The Lock service. Follows `server/etcdserver/api/v3lock` and the mutex of `client/v3/concurrency`."""

from collections.abc import Mapping

import grpc

from fetch import errors
from fetch.api.lock_pb2 import LockRequest, LockResponse, UnlockRequest, UnlockResponse
from fetch.api.rpc_pb2 import DeleteRangeRequest
from fetch.chain import Call
from fetch.engine.protocol import StorageEngine
from fetch.services.candidates import Candidate, Queues, refusals
from fetch.services.checks import check_key, check_size
from fetch.services.streams import Streams
from fetch.services.wire import fill, tenant_of


class Lock:
    """The handlers of `v3lockpb.Lock`, on raw bytes."""

    name = "v3lockpb.Lock"

    def __init__(self, streams: Streams, most_bytes: int) -> None:
        """`most_bytes` is the bound on a request."""
        self._streams = streams
        self._most_bytes = most_bytes
        self._queues = Queues(most_bytes)

    def handlers(self) -> Mapping[str, grpc.RpcMethodHandler]:
        """The service's methods."""
        return {
            "Lock": grpc.unary_unary_rpc_method_handler(self.lock),
            "Unlock": grpc.unary_unary_rpc_method_handler(self.unlock),
        }

    async def lock(self, request: bytes, call: Call) -> bytes:
        """Lock: waits until the lock is the caller's. A caller who goes away stands in the queue no longer."""
        message = LockRequest.FromString(request)
        engine = tenant_of(call)
        with refusals(), self._streams.serving():
            lease = await self._queues.session(engine, message.lease)
            candidate = await self._queues.enter(engine, message.name, lease, b"")
            try:
                revision = await self._take(engine, message.name, candidate)
            except BaseException:
                await self._queues.leave(engine, candidate.key, candidate.created)
                raise
        response = LockResponse(key=candidate.key)
        fill(response.header, engine, revision)
        return response.SerializeToString()

    async def _take(self, engine: StorageEngine, name: bytes, candidate: Candidate) -> int:
        """Waits for the lock; the revision at which it was found to be taken.

        :raises SessionExpired: the lease ended meanwhile, or somebody else has deleted the key
        """
        if not await self._queues.wait(engine, name, candidate):
            return candidate.revision
        own = await engine.get_latest(candidate.key)
        if own.current is None:
            raise errors.SessionExpired
        return own.revision

    async def unlock(self, request: bytes, call: Call) -> bytes:
        """Unlock: deletes the key, whatever it is."""
        message = UnlockRequest.FromString(request)
        engine = tenant_of(call)
        with refusals():
            check_key(message.key)
            check_size(request, message, self._most_bytes)
            deleted = await engine.delete_range(DeleteRangeRequest(key=message.key))
        response = UnlockResponse()
        fill(response.header, engine, deleted.header.revision)
        return response.SerializeToString()

"""One of the two endpoints that are compared: it carries operations out and tells what came of them."""

import queue
import threading
import time
from dataclasses import dataclass
from typing import Self

import grpc
from google.protobuf.message import Message

from fetch.api import kv_pb2, rpc_pb2
from tests.endpoints.client import DEADLINE, Client
from tests.property.operations import GRANTED, Operation, Streamed
from tests.property.revisions import FARTHEST_BACK, relative, resolve

UNARY: dict[type[Message], tuple[str, type[Message]]] = {
    rpc_pb2.RangeRequest: ("/etcdserverpb.KV/Range", rpc_pb2.RangeResponse),
    rpc_pb2.PutRequest: ("/etcdserverpb.KV/Put", rpc_pb2.PutResponse),
    rpc_pb2.DeleteRangeRequest: ("/etcdserverpb.KV/DeleteRange", rpc_pb2.DeleteRangeResponse),
    rpc_pb2.TxnRequest: ("/etcdserverpb.KV/Txn", rpc_pb2.TxnResponse),
    rpc_pb2.CompactionRequest: ("/etcdserverpb.KV/Compact", rpc_pb2.CompactionResponse),
    rpc_pb2.LeaseGrantRequest: ("/etcdserverpb.Lease/LeaseGrant", rpc_pb2.LeaseGrantResponse),
    rpc_pb2.LeaseRevokeRequest: ("/etcdserverpb.Lease/LeaseRevoke", rpc_pb2.LeaseRevokeResponse),
    rpc_pb2.LeaseTimeToLiveRequest: ("/etcdserverpb.Lease/LeaseTimeToLive", rpc_pb2.LeaseTimeToLiveResponse),
    rpc_pb2.LeaseLeasesRequest: ("/etcdserverpb.Lease/LeaseLeases", rpc_pb2.LeaseLeasesResponse),
}

PROGRESS_SECONDS = 0.02
"""How long to wait before asking a watch for its progress again: etcd does not answer while it is behind."""


@dataclass(frozen=True, slots=True)
class Refused:
    code: grpc.StatusCode
    text: str | None


Outcome = Message | Refused


class Side:
    """An endpoint's keyspace, from the moment an example begins."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._watches: list[WatchLog] = []
        for lease in GRANTED:
            client.lease_grant(1000, lease)
        while client.put(b"before").header.revision < FARTHEST_BACK:
            pass
        self._base = self._current = client.delete_range(b"before").header.revision
        # what is before the example is equally unknown on both sides
        client.compact(self._base, physical=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        for watch in self._watches:
            watch.close()

    def carry_out(self, operation: Operation) -> Outcome:
        """Sends the operation, and returns the answer in a form that is the same on both sides."""
        if isinstance(operation, rpc_pb2.WatchCreateRequest):
            self._watches.append(WatchLog(self._client, resolve(operation, self._current)))
            return rpc_pb2.WatchResponse()
        if isinstance(operation, rpc_pb2.CompactionRequest):
            # previous values of events not yet sent would be gone
            self._catch_up()
        try:
            response = self._send(operation)
        except grpc.RpcError as error:
            return Refused(error.code(), error.details())
        self._current = max(self._current, _header(response).revision)
        return self._comparable(response)

    def watched(self) -> list[list[Message]]:
        """What each watch has sent, once all of them are up to date."""
        while any(watch.start > self._current for watch in self._watches):
            self._current = self._client.put(b"end").header.revision
        self._catch_up()
        return [[relative(message, self._base) for message in watch.received] for watch in self._watches]

    def _send(self, operation: Operation) -> Message:
        if isinstance(operation, Streamed):
            request = resolve(operation.request, self._current)
            whole = rpc_pb2.RangeResponse()
            for chunk in self._client.call_stream("/etcdserverpb.KV/RangeStream", request, rpc_pb2.RangeStreamResponse):
                whole.MergeFrom(chunk.range_response)
            return whole
        method, response = UNARY[type(operation)]
        answer: Message = self._client.call(method, resolve(operation, self._current), response)
        return answer

    def _comparable(self, response: Message) -> Message:
        if isinstance(response, rpc_pb2.LeaseTimeToLiveResponse):
            # etcd lists keys in no order, and time passes
            response.keys.sort()
            response.TTL = min(response.TTL, 0)
        elif isinstance(response, rpc_pb2.LeaseLeasesResponse):
            response.leases.sort(key=lambda lease: lease.ID)
        return relative(response, self._base)

    def _catch_up(self) -> None:
        for watch in self._watches:
            watch.catch_up(self._current)


def _header(response: Message) -> rpc_pb2.ResponseHeader:
    header: rpc_pb2.ResponseHeader = getattr(response, "header")  # noqa: B009  # every response has one
    return header


class WatchLog:
    """A watch on a stream of its own, and what it has sent so far."""

    def __init__(self, client: Client, request: rpc_pb2.WatchCreateRequest) -> None:
        self.start = request.start_revision
        self.received: list[Message] = []
        """The answers that confirm or cancel, and the events, in the order they came."""
        self._cancelled = False
        self._stream = client.watch()
        self._responses: queue.SimpleQueue[rpc_pb2.WatchResponse] = queue.SimpleQueue()
        self._stream.send(rpc_pb2.WatchRequest(create_request=request))
        self._take(self._stream.receive())
        threading.Thread(target=self._read, daemon=True).start()

    def close(self) -> None:
        self._stream.__exit__()

    def catch_up(self, revision: int) -> None:
        """Returns when everything up to `revision` has been received, or the watch is cancelled."""
        deadline = time.monotonic() + DEADLINE
        progress = 0
        while progress < revision and not self._cancelled and self.start <= revision:
            assert time.monotonic() < deadline, f"no progress to revision {revision}"
            self._stream.request_progress()
            try:
                while progress < revision:
                    response = self._responses.get(timeout=PROGRESS_SECONDS)
                    if response.watch_id == -1:
                        progress = response.header.revision
                    else:
                        self._take(response)
            except queue.Empty:
                continue

    def _read(self) -> None:
        try:
            while True:
                self._responses.put(self._stream.receive())
        except (grpc.RpcError, StopIteration):
            return

    def _take(self, response: rpc_pb2.WatchResponse) -> None:
        self._cancelled |= response.canceled
        if response.created or response.canceled:
            self.received.append(response)
        else:
            self._check(response)
            self.received.extend(response.events)

    def _check(self, response: rpc_pb2.WatchResponse) -> None:
        """What holds however events are spread over responses."""
        revisions = [event.kv.mod_revision for event in response.events]
        seen = [event.kv.mod_revision for event in self.received if isinstance(event, kv_pb2.Event)]
        assert revisions == sorted(revisions), "events out of order"
        assert not seen or seen[-1] < revisions[0], "a revision came twice, or in two responses"
        assert revisions[-1] <= response.header.revision, "an event above the header's revision"

"""A client of the etcd API for tests: one method for each call, the messages' own field names, nothing cached.

It relies on the generated messages only, so it speaks to etcd and to fetch alike. Every call has a deadline, so a
test that waits for something that never comes fails by itself.
"""

import queue
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Generic, Protocol, Self, TypedDict, TypeVar, Unpack

import grpc
from google.protobuf.message import Message
from grpc_health.v1 import health_pb2

from fetch.api import election_pb2, kv_pb2, lock_pb2, rpc_pb2

DEADLINE = 90.0
"""Seconds that a call, and a whole stream, may take before its test fails."""

HEALTH = "/grpc.health.v1.Health/Check"

FROM_KEY = b"\0"
"""The range end that stands for the end of the keyspace; as key and as range end it stands for every key."""

Request = TypeVar("Request", bound=Message)
Response = TypeVar("Response", bound=Message)
Answer_co = TypeVar("Answer_co", covariant=True)


class Answers(Protocol[Answer_co]):
    """What grpcio returns from a call whose answer is a stream."""

    def __iter__(self) -> Iterator[Answer_co]: ...

    def cancel(self) -> object: ...


class Pending(Protocol[Answer_co]):
    """What grpcio returns from a call that is not waited for."""

    def result(self) -> Answer_co: ...

    def cancel(self) -> object: ...

    def done(self) -> bool: ...


class RangeOptions(TypedDict, total=False):
    limit: int
    revision: int
    sort_order: rpc_pb2.RangeRequest.SortOrder | str
    sort_target: rpc_pb2.RangeRequest.SortTarget | str
    serializable: bool
    keys_only: bool
    count_only: bool
    min_mod_revision: int
    max_mod_revision: int
    min_create_revision: int
    max_create_revision: int


class PutOptions(TypedDict, total=False):
    lease: int
    prev_kv: bool
    ignore_value: bool
    ignore_lease: bool


class WatchOptions(TypedDict, total=False):
    start_revision: int
    progress_notify: bool
    filters: Iterable[rpc_pb2.WatchCreateRequest.FilterType | str]
    prev_kv: bool
    watch_id: int
    fragment: bool


class Client:
    """One connection to an endpoint, as one tenant. Calls raise `grpc.RpcError` when they are refused."""

    def __init__(self, channel: grpc.Channel) -> None:
        self._channel = channel

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self._channel.close()

    def call(
        self,
        method: str,
        request: Message,
        response: type[Response],
        timeout: float = DEADLINE,
        metadata: Sequence[tuple[str, str]] = (),
    ) -> Response:
        """Sends `request` to the unary `method`, `/package.Service/Method`, and waits up to `timeout` seconds."""
        unary = self._channel.unary_unary(method, type(request).SerializeToString, response.FromString)
        answer: Response = unary(request, timeout=timeout, metadata=metadata)
        return answer

    def begin(
        self, method: str, request: Message, response: type[Response], timeout: float = DEADLINE
    ) -> Pending[Response]:
        """Sends `request` to the unary `method`, and does not wait for the answer."""
        unary = self._channel.unary_unary(method, type(request).SerializeToString, response.FromString)
        pending: Pending[Response] = unary.future(request, timeout=timeout)
        return pending

    def call_raw(self, method: str, request: bytes) -> bytes:
        """Sends bytes that need not be a message."""
        answer: bytes = self._channel.unary_unary(method, bytes, bytes)(request, timeout=DEADLINE)
        return answer

    @contextmanager
    def begin_stream(self, method: str, request: Message, response: type[Response]) -> Iterator[Iterator[Response]]:
        """Sends `request` to `method`, which answers with a stream; cancels that at the end of the block."""
        stream = self._channel.unary_stream(method, type(request).SerializeToString, response.FromString)
        answers: Answers[Response] = stream(request, timeout=DEADLINE)
        try:
            yield iter(answers)
        finally:
            answers.cancel()

    def call_stream(self, method: str, request: Message, response: type[Response]) -> list[Response]:
        """Sends `request` to `method`, which answers with a stream, and reads that to its end."""
        with self.begin_stream(method, request, response) as answers:
            return list(answers)

    def open_stream(
        self, method: str, request: type[Request], response: type[Response]
    ) -> "Conversation[Request, Response]":
        """Opens `method`, on which both sides stream."""
        converse = self._channel.stream_stream(method, request.SerializeToString, response.FromString)
        requests: queue.SimpleQueue[Request | None] = queue.SimpleQueue()
        answers: Answers[Response] = converse(iter(requests.get, None), timeout=DEADLINE)
        return Conversation(answers, requests)

    # KV

    def range(self, key: bytes, range_end: bytes = b"", **options: Unpack[RangeOptions]) -> rpc_pb2.RangeResponse:
        return self.call(
            "/etcdserverpb.KV/Range",
            rpc_pb2.RangeRequest(key=key, range_end=range_end, **options),
            rpc_pb2.RangeResponse,
        )

    def get(self, key: bytes, **options: Unpack[RangeOptions]) -> kv_pb2.KeyValue:
        """The KeyValue under one key; raises IndexError where there is none."""
        return self.range(key, **options).kvs[0]

    def range_stream(
        self, key: bytes, range_end: bytes = b"", **options: Unpack[RangeOptions]
    ) -> list[rpc_pb2.RangeResponse]:
        """The chunks of the answer, in order."""
        request = rpc_pb2.RangeRequest(key=key, range_end=range_end, **options)
        chunks = self.call_stream("/etcdserverpb.KV/RangeStream", request, rpc_pb2.RangeStreamResponse)
        return [chunk.range_response for chunk in chunks]

    def put(self, key: bytes, value: bytes = b"", **options: Unpack[PutOptions]) -> rpc_pb2.PutResponse:
        return self.call(
            "/etcdserverpb.KV/Put", rpc_pb2.PutRequest(key=key, value=value, **options), rpc_pb2.PutResponse
        )

    def delete_range(self, key: bytes, range_end: bytes = b"", *, prev_kv: bool = False) -> rpc_pb2.DeleteRangeResponse:
        return self.call(
            "/etcdserverpb.KV/DeleteRange",
            rpc_pb2.DeleteRangeRequest(key=key, range_end=range_end, prev_kv=prev_kv),
            rpc_pb2.DeleteRangeResponse,
        )

    def txn(
        self,
        compare: Iterable[rpc_pb2.Compare] = (),
        success: Iterable[rpc_pb2.RequestOp] = (),
        failure: Iterable[rpc_pb2.RequestOp] = (),
    ) -> rpc_pb2.TxnResponse:
        return self.call(
            "/etcdserverpb.KV/Txn",
            rpc_pb2.TxnRequest(compare=compare, success=success, failure=failure),
            rpc_pb2.TxnResponse,
        )

    def compact(self, revision: int, *, physical: bool = False) -> rpc_pb2.CompactionResponse:
        return self.call(
            "/etcdserverpb.KV/Compact",
            rpc_pb2.CompactionRequest(revision=revision, physical=physical),
            rpc_pb2.CompactionResponse,
        )

    def revision(self) -> int:
        """The revision of the last write."""
        return self.range(b"any", count_only=True).header.revision

    # Watch

    def watch(self) -> "WatchStream":
        return WatchStream(self.open_stream("/etcdserverpb.Watch/Watch", rpc_pb2.WatchRequest, rpc_pb2.WatchResponse))

    # Lease

    def lease_grant(self, ttl: int, lease_id: int = 0) -> rpc_pb2.LeaseGrantResponse:
        """Grants a lease of `ttl` seconds; the endpoint chooses an id where none is given."""
        return self.call(
            "/etcdserverpb.Lease/LeaseGrant",
            rpc_pb2.LeaseGrantRequest(TTL=ttl, ID=lease_id),
            rpc_pb2.LeaseGrantResponse,
        )

    def lease_revoke(self, lease_id: int) -> rpc_pb2.LeaseRevokeResponse:
        return self.call(
            "/etcdserverpb.Lease/LeaseRevoke", rpc_pb2.LeaseRevokeRequest(ID=lease_id), rpc_pb2.LeaseRevokeResponse
        )

    def lease_time_to_live(self, lease_id: int, *, keys: bool = False) -> rpc_pb2.LeaseTimeToLiveResponse:
        return self.call(
            "/etcdserverpb.Lease/LeaseTimeToLive",
            rpc_pb2.LeaseTimeToLiveRequest(ID=lease_id, keys=keys),
            rpc_pb2.LeaseTimeToLiveResponse,
        )

    def lease_leases(self) -> rpc_pb2.LeaseLeasesResponse:
        return self.call("/etcdserverpb.Lease/LeaseLeases", rpc_pb2.LeaseLeasesRequest(), rpc_pb2.LeaseLeasesResponse)

    def lease_keep_alive(self) -> "Conversation[rpc_pb2.LeaseKeepAliveRequest, rpc_pb2.LeaseKeepAliveResponse]":
        return self.open_stream(
            "/etcdserverpb.Lease/LeaseKeepAlive", rpc_pb2.LeaseKeepAliveRequest, rpc_pb2.LeaseKeepAliveResponse
        )

    # Lock, Election

    def lock(self, name: bytes, lease: int = 0) -> lock_pb2.LockResponse:
        return self.begin_lock(name, lease).result()

    def begin_lock(self, name: bytes, lease: int = 0, timeout: float = DEADLINE) -> Pending[lock_pb2.LockResponse]:
        request = lock_pb2.LockRequest(name=name, lease=lease)
        return self.begin("/v3lockpb.Lock/Lock", request, lock_pb2.LockResponse, timeout)

    def unlock(self, key: bytes) -> lock_pb2.UnlockResponse:
        return self.call("/v3lockpb.Lock/Unlock", lock_pb2.UnlockRequest(key=key), lock_pb2.UnlockResponse)

    def campaign(self, name: bytes, value: bytes = b"", lease: int = 0) -> election_pb2.CampaignResponse:
        return self.begin_campaign(name, value, lease).result()

    def begin_campaign(
        self, name: bytes, value: bytes = b"", lease: int = 0, timeout: float = DEADLINE
    ) -> Pending[election_pb2.CampaignResponse]:
        request = election_pb2.CampaignRequest(name=name, value=value, lease=lease)
        return self.begin("/v3electionpb.Election/Campaign", request, election_pb2.CampaignResponse, timeout)

    def proclaim(self, leader: election_pb2.LeaderKey | None, value: bytes) -> election_pb2.ProclaimResponse:
        request = election_pb2.ProclaimRequest(leader=leader, value=value)
        return self.call("/v3electionpb.Election/Proclaim", request, election_pb2.ProclaimResponse)

    def leader(self, name: bytes) -> election_pb2.LeaderResponse:
        request = election_pb2.LeaderRequest(name=name)
        return self.call("/v3electionpb.Election/Leader", request, election_pb2.LeaderResponse)

    def observe(self, name: bytes) -> AbstractContextManager[Iterator[election_pb2.LeaderResponse]]:
        request = election_pb2.LeaderRequest(name=name)
        return self.begin_stream("/v3electionpb.Election/Observe", request, election_pb2.LeaderResponse)

    def resign(self, leader: election_pb2.LeaderKey | None) -> election_pb2.ResignResponse:
        request = election_pb2.ResignRequest(leader=leader)
        return self.call("/v3electionpb.Election/Resign", request, election_pb2.ResignResponse)

    # Maintenance, Cluster, health

    def status(self) -> rpc_pb2.StatusResponse:
        return self.call("/etcdserverpb.Maintenance/Status", rpc_pb2.StatusRequest(), rpc_pb2.StatusResponse)

    def alarm(self, action: str, alarm: rpc_pb2.AlarmType | str = "NONE", member_id: int = 0) -> rpc_pb2.AlarmResponse:
        return self.call(
            "/etcdserverpb.Maintenance/Alarm",
            rpc_pb2.AlarmRequest(action=action, alarm=alarm, memberID=member_id),
            rpc_pb2.AlarmResponse,
        )

    def defragment(self) -> rpc_pb2.DefragmentResponse:
        return self.call(
            "/etcdserverpb.Maintenance/Defragment", rpc_pb2.DefragmentRequest(), rpc_pb2.DefragmentResponse
        )

    def hash(self) -> rpc_pb2.HashResponse:
        return self.call("/etcdserverpb.Maintenance/Hash", rpc_pb2.HashRequest(), rpc_pb2.HashResponse)

    def hash_kv(self, revision: int = 0) -> rpc_pb2.HashKVResponse:
        return self.call(
            "/etcdserverpb.Maintenance/HashKV", rpc_pb2.HashKVRequest(revision=revision), rpc_pb2.HashKVResponse
        )

    def snapshot(self) -> list[rpc_pb2.SnapshotResponse]:
        """The pieces of the tenant's snapshot, the last of which is its hash."""
        return self.call_stream(
            "/etcdserverpb.Maintenance/Snapshot", rpc_pb2.SnapshotRequest(), rpc_pb2.SnapshotResponse
        )

    def member_list(self) -> rpc_pb2.MemberListResponse:
        return self.call("/etcdserverpb.Cluster/MemberList", rpc_pb2.MemberListRequest(), rpc_pb2.MemberListResponse)

    def health(self, service: str = "") -> health_pb2.HealthCheckResponse:
        return self.call(HEALTH, health_pb2.HealthCheckRequest(service=service), health_pb2.HealthCheckResponse)

    def wait_for_health(self, timeout: float) -> health_pb2.HealthCheckResponse:
        """Waits up to `timeout` seconds for a connection, and asks then. DEADLINE_EXCEEDED when there is none."""
        check = self._channel.unary_unary(
            HEALTH, health_pb2.HealthCheckRequest.SerializeToString, health_pb2.HealthCheckResponse.FromString
        )
        answer: health_pb2.HealthCheckResponse = check(
            health_pb2.HealthCheckRequest(), timeout=timeout, wait_for_ready=True
        )
        return answer


class Conversation(Generic[Request, Response]):
    """A call on which both sides stream. It is cancelled when the `with` block is left."""

    def __init__(self, answers: Answers[Response], requests: queue.SimpleQueue[Request | None]) -> None:
        self._call = answers
        self._responses = iter(answers)
        self._requests = requests

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.end_requests()
        self._call.cancel()

    def __iter__(self) -> Iterator[Response]:
        return self._responses

    def send(self, request: Request) -> None:
        self._requests.put(request)

    def receive(self) -> Response:
        """The next response; fails with DEADLINE_EXCEEDED when none comes, and with StopIteration at the end."""
        return next(self._responses)

    def end_requests(self) -> None:
        """Closes the client's half."""
        self._requests.put(None)


class WatchStream:
    """One Watch call, which carries any number of watches."""

    def __init__(self, stream: Conversation[rpc_pb2.WatchRequest, rpc_pb2.WatchResponse]) -> None:
        self._stream = stream

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self._stream.__exit__(*exception)

    def send(self, request: rpc_pb2.WatchRequest) -> None:
        self._stream.send(request)

    def end_requests(self) -> None:
        """Closes the client's half of the stream."""
        self._stream.end_requests()

    def create(self, key: bytes, range_end: bytes = b"", **options: Unpack[WatchOptions]) -> rpc_pb2.WatchResponse:
        """Asks for a watch and returns the next response, which is its `created` unless others are under way."""
        create = rpc_pb2.WatchCreateRequest(key=key, range_end=range_end, **options)
        self.send(rpc_pb2.WatchRequest(create_request=create))
        return self.receive()

    def cancel(self, watch_id: int) -> None:
        self.send(rpc_pb2.WatchRequest(cancel_request=rpc_pb2.WatchCancelRequest(watch_id=watch_id)))

    def request_progress(self) -> None:
        self.send(rpc_pb2.WatchRequest(progress_request=rpc_pb2.WatchProgressRequest()))

    def receive(self) -> rpc_pb2.WatchResponse:
        return self._stream.receive()

    def events(self, count: int) -> list[kv_pb2.Event]:
        """The next events, as many as asked for or as many more as came in the last response."""
        events: list[kv_pb2.Event] = []
        while len(events) < count:
            events.extend(self.receive().events)
        return events

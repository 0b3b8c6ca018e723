"""The interceptors that come along and are off by default."""

import contextlib
import json

import grpc
import pytest

from fetch.api import rpc_pb2
from tests.endpoints.client import Client
from tests.extensions.conftest import Start, code_of

BEFORE = '"authorization", "classification", "tracing", "metrics"'


def test_calls_beyond_the_rate_are_refused_with_a_hint_when_to_retry(start: Start) -> None:
    settings = f'interceptors = [{BEFORE}, "rate_limit"]\n[interceptor.rate_limit]\nrate = 0.5\nburst = 3\n'
    with start(settings) as server, server.empty_keyspace() as client, server.empty_keyspace() as other:
        for _ in range(3):
            client.range(b"key")
        with pytest.raises(grpc.RpcError) as refusal:
            client.range(b"key")
        other.range(b"key")
    assert code_of(refusal) is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert refusal.value.details() == "etcdserver: too many requests"
    hint = dict(refusal.value.trailing_metadata())["grpc-retry-pushback-ms"]
    assert 1000 < int(hint) <= 2000


def test_streams_beyond_the_bound_are_refused_until_one_ends(start: Start) -> None:
    settings = f'interceptors = [{BEFORE}, "concurrency"]\n[interceptor.concurrency]\nstreams = 1\n'
    with start(settings) as server, server.empty_keyspace() as client:
        with watching(client):
            with pytest.raises(grpc.RpcError) as refusal, watching(client):
                pass
            client.range(b"calls have a bound of their own")
        assert code_of(refusal) is grpc.StatusCode.RESOURCE_EXHAUSTED
        for _ in range(100):  # the server learns of the end a moment later
            with contextlib.suppress(grpc.RpcError), watching(client):
                break
        else:
            pytest.fail("the stream that has ended still counts")


@contextlib.contextmanager
def watching(client: Client):
    stream = client.open_stream("/etcdserverpb.Watch/Watch", rpc_pb2.WatchRequest, rpc_pb2.WatchResponse)
    with stream:
        stream.send(rpc_pb2.WatchRequest(create_request=rpc_pb2.WatchCreateRequest(key=b"key")))
        stream.receive()
        yield stream


def test_a_read_only_tenant_is_read_and_not_written(start: Start) -> None:
    settings = f'interceptors = [{BEFORE}, "read_only"]\n[interceptor.read_only]\ntenants = ["held"]\n'
    with start(settings) as server, server.connect_as("held") as held, server.connect_as("free") as free:
        free.put(b"key", b"value")
        assert held.range(b"key").count == 0
        with pytest.raises(grpc.RpcError) as refusal:
            held.put(b"key", b"value")
        with pytest.raises(grpc.RpcError):
            held.lock(b"x")
        with pytest.raises(grpc.RpcError):
            held.call("/etcdserverpb.Lease/LeaseGrant", rpc_pb2.LeaseGrantRequest(TTL=9), rpc_pb2.LeaseGrantResponse)
        put = rpc_pb2.RequestOp(request_put=rpc_pb2.PutRequest(key=b"key"))
        get = rpc_pb2.RequestOp(request_range=rpc_pb2.RangeRequest(key=b"key"))
        nested = rpc_pb2.RequestOp(request_txn=rpc_pb2.TxnRequest(failure=[put]))
        held.call("/etcdserverpb.KV/Txn", rpc_pb2.TxnRequest(success=[get]), rpc_pb2.TxnResponse)
        with pytest.raises(grpc.RpcError):
            held.call("/etcdserverpb.KV/Txn", rpc_pb2.TxnRequest(success=[nested]), rpc_pb2.TxnResponse)
    assert code_of(refusal) is grpc.StatusCode.PERMISSION_DENIED


def test_a_call_that_takes_too_long_ends(start: Start) -> None:
    settings = f'interceptors = [{BEFORE}, "deadline"]\n[interceptor.deadline]\nseconds = 0.000001\n'
    with start(settings) as server, server.empty_keyspace() as client, pytest.raises(grpc.RpcError) as refusal:
        client.put(b"key", b"value")
    assert (code_of(refusal), refusal.value.details()) == (
        grpc.StatusCode.UNAVAILABLE,
        "etcdserver: request timed out",
    )


def test_a_call_that_waits_for_a_lock_may_take_any_time(start: Start) -> None:
    settings = f'interceptors = [{BEFORE}, "deadline"]\n[interceptor.deadline]\nseconds = 0.2\n'
    with start(settings) as server, server.empty_keyspace() as client:
        client.lock(b"x")
        with pytest.raises(grpc.RpcError) as refusal:
            client.begin_lock(b"x", timeout=0.6).result()
    assert code_of(refusal) is grpc.StatusCode.DEADLINE_EXCEEDED


def test_the_access_log_has_a_line_for_each_call_of_the_kinds(start: Start) -> None:
    settings = (
        f'log-format = "json"\ninterceptors = [{BEFORE}, "access_log"]\n[interceptor.access_log]\nkinds = ["put"]\n'
    )
    with start(settings) as server, server.connect_as("tenant") as client:
        client.put(b"key", b"value")
        client.range(b"key")
        with pytest.raises(grpc.RpcError):
            client.put(b"", b"value")
        lines = [json.loads(line) for line in server.process.log().splitlines() if "fetch.access" in line]
    assert [(line["tenant"], line["kind"], line["code"]) for line in lines] == [
        ("tenant", "put", "OK"),
        ("tenant", "put", "INVALID_ARGUMENT"),
    ]

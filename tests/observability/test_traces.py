"""A trace goes from the client's span through fetch's call to the commit."""

import secrets

import pytest

from fetch.api import rpc_pb2
from tests.endpoints.client import DEADLINE, Client
from tests.observability.conftest import Observed
from tests.observability.receiver import Received


def put_traced(client: Client, trace_id: str, flags: str = "01", key: bytes = b"key") -> None:
    """Puts a key inside a trace of the client's, which is sampled when the flags are 01."""
    put = client._channel.unary_unary(
        "/etcdserverpb.KV/Put", rpc_pb2.PutRequest.SerializeToString, rpc_pb2.PutResponse.FromString
    )
    context = (("traceparent", f"00-{trace_id}-{'b' * 16}-{flags}"),)
    put(rpc_pb2.PutRequest(key=key, value=b"value"), timeout=DEADLINE, metadata=context)


def span_of(observed: Observed, trace_id: str) -> Received:
    """The span of a put in this trace."""
    return observed.receiver.wait_for_span(
        lambda received: received.span.trace_id.hex() == trace_id and received.span.name == "etcdserverpb.KV/Put"
    )


@pytest.fixture
def trace_id() -> str:
    return secrets.token_hex(16)


def test_the_clients_trace_continues(observed: Observed, trace_id: str) -> None:
    with observed.server.empty_keyspace() as client:
        put_traced(client, trace_id)
    assert span_of(observed, trace_id).span.parent_span_id.hex() == "b" * 16


def test_a_calls_span_has_tenant_kind_and_code(observed: Observed, trace_id: str) -> None:
    tenant = observed.server.endpoint.new_tenant()
    with observed.server.connect_as(tenant) as client:
        put_traced(client, trace_id)
    attributes = span_of(observed, trace_id).attributes
    assert (attributes["fetch.tenant"], attributes["fetch.kind"], attributes["rpc.grpc.status_code"]) == (
        tenant,
        "put",
        0,
    )


def test_under_a_call_are_its_operation_and_the_commit(observed: Observed, trace_id: str) -> None:
    with observed.server.empty_keyspace() as client:
        put_traced(client, trace_id)
    call = span_of(observed, trace_id)
    under = observed.receiver.children(call, {"operation chain: put", "commit"})
    assert under["operation chain: put"].span.end_time_unix_nano <= under["commit"].span.end_time_unix_nano
    assert under["commit"].attributes == {"fetch.commit.writes": 1, "fetch.commit.retries": 0, "fetch.revision": 2}


def test_a_refusal_is_the_spans_status(observed: Observed, trace_id: str) -> None:
    with observed.server.empty_keyspace() as client, pytest.raises(Exception, match="key is not provided"):
        put_traced(client, trace_id, key=b"")
    assert span_of(observed, trace_id).span.status.message == "etcdserver: key is not provided"


def test_a_trace_that_the_client_does_not_sample_makes_no_spans(observed: Observed, trace_id: str) -> None:
    sampled = secrets.token_hex(16)
    with observed.server.empty_keyspace() as client:
        put_traced(client, trace_id, flags="00")
        put_traced(client, sampled)
    observed.receiver.children(span_of(observed, sampled), {"operation chain: put", "commit"})
    assert trace_id not in {received.span.trace_id.hex() for received in observed.receiver.spans}

"""Requests that are too large, or that are not what they should be."""

from collections.abc import Callable

import grpc
import pytest
from google.protobuf.message import Message

from fetch.api import rpc_pb2
from tests.endpoints.client import Client
from tests.endpoints.refusals import EMPTY_KEY, REQUEST_TOO_LARGE, refused
from tests.endpoints.requests import get, put

LIMIT = 1_572_864
"""The largest write, in bytes, with what etcd needs to pass it on."""

MESSAGE_LIMIT = LIMIT + 524_288
"""The largest message that etcd's gRPC server takes."""


def code_of(client: Client, method: str, request: bytes) -> grpc.StatusCode:
    """How the call is refused."""
    with pytest.raises(grpc.RpcError) as caught:
        client.call_raw(method, request)
    return caught.value.code()


ENTRY = 17
"""What etcd's log entry adds to a request of that size, where the number of the request takes nine bytes. That depends
on the member's ID, so another member's may differ by one."""


def test_the_largest_put_is_stored(client: Client) -> None:
    client.call_raw("/etcdserverpb.KV/Put", put_of(LIMIT - ENTRY - 1))
    assert client.range(b"a").count == 1


def test_the_largest_transaction_is_carried_out(client: Client) -> None:
    client.call_raw("/etcdserverpb.KV/Txn", txn_of(LIMIT - ENTRY - 1))
    assert client.range(b"a").count == 1


def test_the_largest_delete_is_carried_out(client: Client) -> None:
    client.call_raw("/etcdserverpb.KV/DeleteRange", delete_of(LIMIT - ENTRY - 1))


def test_a_put_that_is_too_large_as_a_log_entry_is_refused(client: Client) -> None:
    with refused(REQUEST_TOO_LARGE):
        client.call_raw("/etcdserverpb.KV/Put", put_of(LIMIT - ENTRY + 2))


def test_a_transaction_that_is_too_large_as_a_log_entry_is_refused(client: Client) -> None:
    with refused(REQUEST_TOO_LARGE):
        client.call_raw("/etcdserverpb.KV/Txn", txn_of(LIMIT - ENTRY + 2))


def test_a_delete_that_is_too_large_as_a_log_entry_is_refused(client: Client) -> None:
    with refused(REQUEST_TOO_LARGE):
        client.call_raw("/etcdserverpb.KV/DeleteRange", delete_of(LIMIT - ENTRY + 2))


def test_a_transaction_that_only_reads_has_no_log_entry(client: Client) -> None:
    request = rpc_pb2.TxnRequest(success=[get(b"k" * LIMIT)])
    assert rpc_pb2.TxnResponse.FromString(
        client.call_raw("/etcdserverpb.KV/Txn", request.SerializeToString())
    ).succeeded


def put_of(size: int) -> bytes:
    """A put that takes so many bytes."""
    return filled(lambda value: rpc_pb2.PutRequest(key=b"a", value=value), size)


def txn_of(size: int) -> bytes:
    """A transaction that puts a key, and takes so many bytes."""
    return filled(lambda value: rpc_pb2.TxnRequest(success=[put(b"a", value)]), size)


def delete_of(size: int) -> bytes:
    """A delete that takes so many bytes."""
    return filled(lambda value: rpc_pb2.DeleteRangeRequest(key=b"a" + value), size)


def filled(request: Callable[[bytes], Message], size: int) -> bytes:
    """A request, filled up with a value of as many bytes as make it so large."""
    excess = len(request(b"v" * size).SerializeToString()) - size
    encoded = request(b"v" * (size - excess)).SerializeToString()
    assert len(encoded) == size
    return encoded


def test_a_put_just_below_the_limit_is_stored(client: Client) -> None:
    client.put(b"a", b"v" * (LIMIT - 512))
    assert len(client.get(b"a").value) == LIMIT - 512


def test_a_put_above_the_limit_is_refused(client: Client) -> None:
    with refused(REQUEST_TOO_LARGE):
        client.put(b"a", b"v" * LIMIT)


def test_a_refused_put_leaves_nothing(client: Client) -> None:
    before = client.revision()
    with refused(REQUEST_TOO_LARGE):
        client.put(b"a", b"v" * LIMIT)
    assert (client.range(b"a").count, client.revision()) == (0, before)


def test_a_transaction_above_the_limit_is_refused(client: Client) -> None:
    with refused(REQUEST_TOO_LARGE):
        client.txn((), [put(b"a", b"v" * (LIMIT // 2)), put(b"b", b"v" * (LIMIT // 2))])


def test_a_delete_above_the_limit_is_refused(client: Client) -> None:
    with refused(REQUEST_TOO_LARGE):
        client.delete_range(b"k" * LIMIT)


def test_a_read_above_the_limit_of_writes_is_answered(client: Client) -> None:
    assert client.range(b"k" * LIMIT).count == 0


def test_a_message_above_the_limit_of_messages_is_refused(client: Client) -> None:
    request = rpc_pb2.PutRequest(key=b"a", value=b"v" * MESSAGE_LIMIT).SerializeToString()
    assert code_of(client, "/etcdserverpb.KV/Put", request) == grpc.StatusCode.RESOURCE_EXHAUSTED


def test_the_connection_survives_a_message_above_the_limit(client: Client) -> None:
    code_of(client, "/etcdserverpb.KV/Put", b"\0" * (MESSAGE_LIMIT + 1))
    client.put(b"a", b"1")
    assert client.get(b"a").value == b"1"


@pytest.mark.parametrize("method", ["KV/Range", "KV/Put", "KV/DeleteRange", "KV/Txn", "KV/Compact", "Lease/LeaseGrant"])
@pytest.mark.parametrize("garbage", [b"\xff\xff\xff\xff", b"\x0a\x7fshort", b"\x0b\x0b"])
def test_what_is_no_message_is_refused(client: Client, method: str, garbage: bytes) -> None:
    assert code_of(client, f"/etcdserverpb.{method}", garbage) == grpc.StatusCode.INTERNAL


def test_what_is_no_message_ends_a_watch(client: Client) -> None:
    # the key of a put stands where a watch request has a message
    with client.open_stream("/etcdserverpb.Watch/Watch", rpc_pb2.PutRequest, rpc_pb2.WatchResponse) as stream:
        stream.send(rpc_pb2.PutRequest(key=b"\xff\xff"))
        with pytest.raises(grpc.RpcError) as caught:
            stream.receive()
    assert caught.value.code() == grpc.StatusCode.INTERNAL


def test_an_empty_message_is_a_message(client: Client) -> None:
    with refused(EMPTY_KEY):
        client.call_raw("/etcdserverpb.KV/Put", b"")


def test_fields_that_are_not_known_are_ignored(client: Client) -> None:
    unknown = b"\xa2\x06\x03abc"
    client.call_raw("/etcdserverpb.KV/Put", rpc_pb2.PutRequest(key=b"a", value=b"1").SerializeToString() + unknown)
    assert client.get(b"a").value == b"1"


def test_the_last_of_a_repeated_single_field_counts(client: Client) -> None:
    first, last = (rpc_pb2.PutRequest(key=key).SerializeToString() for key in (b"a", b"b"))
    client.call_raw("/etcdserverpb.KV/Put", first + last)
    assert (client.range(b"a").count, client.range(b"b").count) == (0, 1)


@pytest.mark.parametrize("method", ["/etcdserverpb.KV/NoSuchMethod", "/no.such.Service/Method"])
def test_an_unknown_method_is_refused(client: Client, method: str) -> None:
    assert code_of(client, method, b"") == grpc.StatusCode.UNIMPLEMENTED

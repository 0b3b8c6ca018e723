"""JSON as it is read and written, whatever the messages: protobuf's own mapping says what is right."""

import base64
import json
import os
from collections.abc import Callable, Iterator

import pytest
from google.protobuf import json_format
from google.protobuf.message import Message
from hypothesis import given
from hypothesis import strategies as st

from fetch.api import kv_pb2, rpc_pb2
from fetch.http.gateway import reading, writing
from fetch.http.gateway.reading import NoMessage
from fetch.http.gateway.routes import routes
from fetch.http.gateway.syntax import SyntaxFailure


def never() -> bool:
    return False


def always() -> bool:
    return True


def read(text: bytes, message: type[Message], is_spent: Callable[[], bool] = never) -> tuple[Message, int]:
    """The message, and in how many slices it was read."""
    steps, slices = reading.read(text, message.DESCRIPTOR, is_spent), 1
    while True:
        try:
            next(steps)
        except StopIteration as ended:
            return message.FromString(ended.value), slices
        slices += 1


def pieces(message: Message, is_spent: Callable[[], bool] = never) -> list[bytes]:
    return list(writing.write(message.SerializeToString(), message.DESCRIPTOR, is_spent))


keys = st.binary(max_size=20)
numbers = st.integers(-(1 << 63), (1 << 63) - 1)
key_values = st.builds(
    kv_pb2.KeyValue, key=keys, value=keys, create_revision=numbers, mod_revision=numbers, version=numbers, lease=numbers
)
headers = st.builds(rpc_pb2.ResponseHeader, cluster_id=st.integers(0, (1 << 64) - 1), revision=numbers)
ranges = st.builds(
    rpc_pb2.RangeResponse,
    header=st.none() | headers,
    kvs=st.lists(key_values, max_size=3),
    more=st.booleans(),
    count=numbers,
)
answers = st.one_of(
    ranges,
    st.builds(
        rpc_pb2.TxnResponse,
        header=headers,
        succeeded=st.booleans(),
        responses=st.lists(st.builds(rpc_pb2.ResponseOp, response_range=ranges), max_size=3),
    ),
    st.builds(
        rpc_pb2.WatchResponse,
        watch_id=numbers,
        canceled=st.booleans(),
        cancel_reason=st.text(max_size=10),
        events=st.lists(
            st.builds(kv_pb2.Event, type=st.sampled_from([0, 1, 7]), kv=st.none() | key_values), max_size=3
        ),
    ),
    st.builds(rpc_pb2.HashKVResponse, hash=st.integers(0, (1 << 32) - 1), compact_revision=numbers),
    st.builds(
        rpc_pb2.Member,
        ID=st.integers(0, (1 << 64) - 1),
        peerURLs=st.lists(st.text(max_size=5), max_size=2),
        isLearner=st.booleans(),
    ),
)
range_requests = st.builds(
    rpc_pb2.RangeRequest,
    key=keys,
    range_end=keys,
    limit=numbers,
    sort_order=st.sampled_from([0, 1, 2]),
    keys_only=st.booleans(),
)
compares = st.builds(rpc_pb2.Compare, key=keys, target=st.sampled_from([0, 1, 2, 3, 4]), version=numbers) | st.builds(
    rpc_pb2.Compare, key=keys, value=keys
)
operations: st.SearchStrategy[rpc_pb2.RequestOp] = st.deferred(
    lambda: (
        st.builds(rpc_pb2.RequestOp, request_range=range_requests)
        | st.builds(rpc_pb2.RequestOp, request_put=st.builds(rpc_pb2.PutRequest, key=keys, value=keys, lease=numbers))
        | st.builds(rpc_pb2.RequestOp, request_txn=transactions)
    )
)
transactions = st.builds(
    rpc_pb2.TxnRequest,
    compare=st.lists(compares, max_size=2),
    success=st.lists(operations, max_size=2),
    failure=st.lists(operations, max_size=2),
)
watches = st.builds(
    rpc_pb2.WatchRequest,
    create_request=st.builds(
        rpc_pb2.WatchCreateRequest,
        key=keys,
        start_revision=numbers,
        filters=st.lists(st.sampled_from([0, 1]), max_size=3),
        prev_kv=st.booleans(),
    ),
)


@given(answers)
def test_an_answer_is_written_as_protobuf_has_it(message: Message) -> None:
    written = b"".join(pieces(message))
    assert json.loads(written) == json_format.MessageToDict(message, preserving_proto_field_name=True)
    assert written == b"".join(pieces(message, always))


@given(st.one_of(transactions, range_requests, watches), st.booleans(), st.sampled_from([None, 1]))
def test_a_request_is_read_as_protobuf_reads_it(message: Message, as_it_is_named: bool, indent: int | None) -> None:
    text = json_format.MessageToJson(message, preserving_proto_field_name=as_it_is_named, indent=indent).encode()
    assert read(text, type(message))[0] == message
    assert read(text, type(message), always)[0] == message


@given(st.text())
def test_whatever_is_said_is_read_or_refused(text: str) -> None:
    try:
        read(text.encode("utf-8", "surrogatepass"), rpc_pb2.TxnRequest)
    except (SyntaxFailure, NoMessage):
        with pytest.raises((ValueError, json_format.ParseError)):
            json_format.Parse(text.encode("utf-8", "surrogatepass"), rpc_pb2.TxnRequest(), ignore_unknown_fields=True)


def test_half_a_character_is_no_text() -> None:
    with pytest.raises(NoMessage, match="invalid escape code"):
        read(rb'{"name":"\ud800"}', rpc_pb2.Member)


LARGE = {
    "elements": b'{"compare":[' + b",".join([b"{}"] * 100_000) + b"]}",
    "names": b"{" + b",".join(b'"a%d":1' % number for number in range(100_000)) + b"}",
    "unknown": b'{"a":[' + b",".join([b"1"] * 100_000) + b"]}",
    "closed": b'{"a":' * 9000 + b"1" + b"}" * 9000,
    "nested": b'{"success":[{"request_txn":' * 3000 + b"{}" + b"}]}" * 3000,
    "escapes": b'{"a":"' + rb"\n" * 1_000_000 + b'"}',
    "text": b'{"a":"' + b"x" * 2_000_000 + b'"}',
    "bytes": b'{"success":[{"request_put":{"key":"YQ==","value":"' + base64.b64encode(os.urandom(1_500_000)) + b'"}}]}',
    "blanks": b" " * 2_000_000 + b"{}",
}


@pytest.mark.parametrize("name", LARGE)
def test_what_is_large_is_read_in_slices(name: str) -> None:
    """Each of which does at most so much: tokens, or bytes of one."""
    text = LARGE[name]
    steps = reading.read(text, rpc_pb2.TxnRequest.DESCRIPTOR, always)
    slices = sum(1 for _ in steps)
    tokens = sum(text.count(part) for part in (b"{", b"[", b",", b":"))
    assert slices >= max(tokens // 200, len(text) // (128 << 10))


def test_what_is_large_is_written_in_pieces() -> None:
    kvs = [kv_pb2.KeyValue(key=b"%d" % number, value=os.urandom(100)) for number in range(20_000)]
    made = pieces(rpc_pb2.RangeResponse(kvs=kvs))
    assert max(map(len, made)) < 4 * writing.PIECE
    assert len(json.loads(b"".join(made))["kvs"]) == 20_000


def test_a_large_value_is_written_in_pieces() -> None:
    value = os.urandom(2_000_000)
    made = pieces(rpc_pb2.SnapshotResponse(blob=value))
    assert max(map(len, made)) < 4 * writing.PIECE
    assert base64.b64decode(json.loads(b"".join(made))["blob"]) == value


def test_writing_gives_way_between_few_fields() -> None:
    kvs = [kv_pb2.KeyValue(key=b"%d" % number) for number in range(10_000)]
    assert len(pieces(rpc_pb2.RangeResponse(kvs=kvs), always)) > 10_000 * 2 / 64


def test_texts_are_fit_for_html_where_go_makes_them_so() -> None:
    message = rpc_pb2.WatchResponse(cancel_reason="<&>\u2028")
    plain = b"".join(pieces(message))
    fit = b"".join(writing.write(message.SerializeToString(), message.DESCRIPTOR, never, for_html=True))
    assert plain == '{"cancel_reason":"<&>\u2028"}'.encode()
    assert fit == rb'{"cancel_reason":"\u003c\u0026\u003e\u2028"}'


def _messages() -> Iterator[type[Message]]:
    seen: set[str] = set()
    waiting = [descriptor for route in routes().values() for descriptor in (route.request, route.response)]
    while waiting:
        descriptor = waiting.pop()
        if descriptor.full_name not in seen:
            seen.add(descriptor.full_name)
            yield descriptor
            waiting += [field.message_type for field in descriptor.fields if field.message_type is not None]


def test_fields_are_declared_in_the_order_of_their_numbers() -> None:
    """Go writes them as declared; here they are written as they come, which is by their numbers."""
    for descriptor in _messages():
        numbers_of_fields = [field.number for field in descriptor.fields]
        assert numbers_of_fields == sorted(numbers_of_fields), descriptor.full_name

"""RangeStream, new in etcd 3.7: a Range whose answer comes in chunks, all of one revision."""

import pytest

from fetch.api import rpc_pb2
from tests.endpoints.client import FROM_KEY, Client, RangeOptions
from tests.endpoints.refusals import (
    COMPACTED,
    EMPTY_KEY,
    FUTURE_REVISION,
    INVALID_SORT_OPTION,
    STREAM_FILTER_UNSUPPORTED,
    STREAM_SORT_UNSUPPORTED,
    refused,
)

pytestmark = pytest.mark.since(3, 7, "there is no RangeStream")

LARGE = 100
"""Values of 100 kB that are more than any chunk holds."""


def put_numbered(client: Client, count: int, size: int = 1) -> None:
    for number in range(count):
        client.put(b"%04d" % number, b"v" * size)


def merged(chunks: list[rpc_pb2.RangeResponse]) -> rpc_pb2.RangeResponse:
    """What a client makes of the chunks."""
    whole = rpc_pb2.RangeResponse()
    for chunk in chunks:
        whole.MergeFrom(chunk)
    return whole


def test_merged_chunks_are_what_range_answers(client: Client) -> None:
    put_numbered(client, 50)
    assert merged(client.range_stream(FROM_KEY, FROM_KEY)) == client.range(FROM_KEY, FROM_KEY)


def test_a_single_key_is_found(client: Client) -> None:
    put_numbered(client, 2)
    assert merged(client.range_stream(b"0001")) == client.range(b"0001")


def test_nothing_found_is_one_chunk_with_a_header(client: Client) -> None:
    revision = client.revision()
    (chunk,) = client.range_stream(b"a", b"z")
    assert (chunk.header.revision, chunk.count, len(chunk.kvs)) == (revision, 0, 0)


def test_a_large_answer_comes_in_several_chunks(client: Client) -> None:
    put_numbered(client, LARGE, 100_000)
    assert len(client.range_stream(FROM_KEY, FROM_KEY)) > 1


def test_only_the_last_chunk_has_a_header(client: Client) -> None:
    put_numbered(client, LARGE, 100_000)
    *others, last = client.range_stream(FROM_KEY, FROM_KEY)
    assert last.HasField("header")
    assert not any(chunk.HasField("header") for chunk in others)


def test_only_the_last_chunk_has_a_count(client: Client) -> None:
    put_numbered(client, LARGE, 100_000)
    *others, last = client.range_stream(FROM_KEY, FROM_KEY)
    assert last.count == LARGE
    assert not any(chunk.count for chunk in others)


def test_only_the_last_chunk_says_that_there_is_more(client: Client) -> None:
    put_numbered(client, LARGE, 100_000)
    *others, last = client.range_stream(FROM_KEY, FROM_KEY, limit=LARGE - 1)
    assert last.more
    assert not any(chunk.more for chunk in others)


def test_every_key_comes_once_and_in_order(client: Client) -> None:
    put_numbered(client, LARGE, 100_000)
    found = [kv.key for chunk in client.range_stream(FROM_KEY, FROM_KEY) for kv in chunk.kvs]
    assert found == [b"%04d" % number for number in range(LARGE)]


def test_chunks_stay_near_the_limit_of_a_request(client: Client) -> None:
    put_numbered(client, LARGE, 100_000)
    # twice 1.5 MiB, and a value
    assert max(chunk.ByteSize() for chunk in client.range_stream(FROM_KEY, FROM_KEY)) < 3_300_000


@pytest.mark.parametrize("limit", [1, 7, 10, 11, 49])
def test_a_limit_cuts_the_answer_and_the_count_ignores_it(client: Client, limit: int) -> None:
    put_numbered(client, 50)
    whole = merged(client.range_stream(FROM_KEY, FROM_KEY, limit=limit))
    assert (len(whole.kvs), whole.more, whole.count) == (limit, True, 50)


@pytest.mark.parametrize("limit", [0, 50, 51, 2**63 - 1, -1])
def test_a_limit_that_is_enough_leaves_no_more(client: Client, limit: int) -> None:
    put_numbered(client, 50)
    whole = merged(client.range_stream(FROM_KEY, FROM_KEY, limit=limit))
    assert (len(whole.kvs), whole.more, whole.count) == (50, False, 50)


def test_keys_only_leaves_out_the_values(client: Client) -> None:
    put_numbered(client, 20)
    whole = merged(client.range_stream(FROM_KEY, FROM_KEY, keys_only=True))
    assert whole == client.range(FROM_KEY, FROM_KEY, keys_only=True)


def test_count_only_is_one_chunk_without_keys(client: Client) -> None:
    put_numbered(client, 20)
    (chunk,) = client.range_stream(FROM_KEY, FROM_KEY, count_only=True)
    assert chunk == client.range(FROM_KEY, FROM_KEY, count_only=True)


def test_count_only_ignores_the_limit(client: Client) -> None:
    put_numbered(client, 20)
    (chunk,) = client.range_stream(FROM_KEY, FROM_KEY, count_only=True, limit=1)
    assert (chunk.count, chunk.more) == (20, False)


def test_a_past_revision_shows_the_past(client: Client) -> None:
    put_numbered(client, 20)
    revision = client.revision()
    client.delete_range(b"0003", b"0007")
    client.put(b"0009", b"changed")
    client.put(b"9999")
    whole = merged(client.range_stream(FROM_KEY, FROM_KEY, revision=revision))
    assert whole == client.range(FROM_KEY, FROM_KEY, revision=revision)


def test_the_header_of_a_past_read_carries_the_current_revision(client: Client) -> None:
    past = client.put(b"a").header.revision
    current = client.put(b"b").header.revision
    assert merged(client.range_stream(b"a", b"z", revision=past)).header.revision == current


def test_writes_while_the_stream_is_read_are_not_in_it(client: Client) -> None:
    put_numbered(client, LARGE, 100_000)
    request = rpc_pb2.RangeRequest(key=FROM_KEY, range_end=FROM_KEY)
    with client.begin_stream("/etcdserverpb.KV/RangeStream", request, rpc_pb2.RangeStreamResponse) as answers:
        chunks = [next(answers).range_response]
        client.delete_range(b"0090", b"0099")
        client.put(b"0099", b"changed")
        chunks += [answer.range_response for answer in answers]
    assert {kv.value for kv in merged(chunks).kvs} == {b"v" * 100_000}
    assert merged(chunks).count == LARGE


def test_a_serializable_stream_answers_the_same(client: Client) -> None:
    put_numbered(client, 20)
    whole = merged(client.range_stream(FROM_KEY, FROM_KEY, serializable=True))
    assert whole == client.range(FROM_KEY, FROM_KEY)


def test_ascending_keys_are_the_order_it_has(client: Client) -> None:
    put_numbered(client, 20)
    whole = merged(client.range_stream(FROM_KEY, FROM_KEY, sort_target="KEY", sort_order="ASCEND"))
    assert len(whole.kvs) == 20


@pytest.mark.parametrize("target", ["VERSION", "CREATE", "MOD", "VALUE"])
@pytest.mark.parametrize("keys_only", [False, True])
def test_a_target_without_an_order_sorts_ascending(client: Client, target: str, keys_only: bool) -> None:
    for number in (5, 3, 8, 3, 1, 8, 8):
        client.put(b"%04d" % number, b"%d" % (number * 7 % 10))
    options: RangeOptions = {"sort_target": target, "keys_only": keys_only}
    whole = merged(client.range_stream(FROM_KEY, FROM_KEY, **options))
    sorted_too = client.range(FROM_KEY, FROM_KEY, sort_target=target, sort_order="ASCEND", keys_only=keys_only)
    assert whole == sorted_too
    assert [kv.key for kv in whole.kvs] != sorted(kv.key for kv in whole.kvs)


def test_a_target_without_an_order_and_no_keys_is_one_chunk(client: Client) -> None:
    (chunk,) = client.range_stream(b"a", b"z", sort_target="MOD")
    assert (chunk.count, len(chunk.kvs), chunk.header.revision) == (0, 0, client.revision())


def test_descending_keys_are_refused(client: Client) -> None:
    with refused(STREAM_SORT_UNSUPPORTED):
        client.range_stream(b"a", b"z", sort_order="DESCEND")


def test_an_order_by_another_target_is_refused(client: Client) -> None:
    with refused(STREAM_SORT_UNSUPPORTED):
        client.range_stream(b"a", b"z", sort_target="MOD", sort_order="ASCEND")


@pytest.mark.parametrize(
    "bound", ["min_mod_revision", "max_mod_revision", "min_create_revision", "max_create_revision"]
)
def test_a_filter_is_refused(client: Client, bound: str) -> None:
    request = rpc_pb2.RangeRequest(key=b"a", range_end=b"z")
    setattr(request, bound, 1)
    with refused(STREAM_FILTER_UNSUPPORTED):
        client.call_stream("/etcdserverpb.KV/RangeStream", request, rpc_pb2.RangeStreamResponse)


def test_an_empty_key_is_refused(client: Client) -> None:
    with refused(EMPTY_KEY):
        client.range_stream(b"")


def test_an_unknown_sort_option_is_refused(client: Client) -> None:
    request = rpc_pb2.RangeRequest.FromString(b"\x0a\x01a\x28\x03")
    with refused(INVALID_SORT_OPTION):
        client.call_stream("/etcdserverpb.KV/RangeStream", request, rpc_pb2.RangeStreamResponse)


def test_a_future_revision_is_refused(client: Client) -> None:
    with refused(FUTURE_REVISION):
        client.range_stream(b"a", b"z", revision=client.revision() + 1)


def test_a_compacted_revision_is_refused(client: Client) -> None:
    past = client.put(b"a").header.revision
    client.compact(client.put(b"a").header.revision)
    with refused(COMPACTED):
        client.range_stream(b"a", b"z", revision=past)


def test_count_only_of_a_compacted_revision_is_refused(client: Client) -> None:
    past = client.put(b"a").header.revision
    client.compact(client.put(b"a").header.revision)
    with refused(COMPACTED):
        client.range_stream(b"a", b"z", revision=past, count_only=True)

"""Txn: what compares say, which branch runs, what its operations see of each other, and what is refused."""

from collections.abc import Iterator

import grpc
import pytest

from fetch.api import kv_pb2, rpc_pb2
from tests.endpoints import requests as op
from tests.endpoints.client import FROM_KEY, Client
from tests.endpoints.refusals import (
    COMPACTED,
    DUPLICATE_KEY,
    EMPTY_KEY,
    FUTURE_REVISION,
    INVALID_SORT_OPTION,
    KEY_NOT_FOUND,
    LEASE_NOT_FOUND,
    LEASE_PROVIDED,
    TOO_MANY_OPERATIONS,
    VALUE_PROVIDED,
    Refusal,
    refused,
)

# how a stored number compares with one that is smaller, the same, and larger
ORDER = [
    ("=", (False, True, False)),
    ("!=", (True, False, True)),
    (">", (True, False, False)),
    ("<", (False, False, True)),
]


def holds(client: Client, *compare: rpc_pb2.Compare) -> bool:
    """Whether all compares hold."""
    return client.txn(compare).succeeded


def remaining(client: Client) -> list[bytes]:
    return [found.key for found in client.range(FROM_KEY, FROM_KEY).kvs]


# compares


@pytest.mark.parametrize(("result", "expected"), ORDER)
class TestComparesOfAKey:
    def test_version(self, client: Client, result: str, expected: tuple[bool, ...]) -> None:
        client.put(b"a")
        client.put(b"a")
        assert tuple(holds(client, op.version(b"a", result, number)) for number in (1, 2, 3)) == expected

    def test_create_revision(self, client: Client, result: str, expected: tuple[bool, ...]) -> None:
        created = client.put(b"a").header.revision
        client.put(b"a")
        revisions = (created - 1, created, created + 1)
        assert tuple(holds(client, op.create_revision(b"a", result, revision)) for revision in revisions) == expected

    def test_mod_revision(self, client: Client, result: str, expected: tuple[bool, ...]) -> None:
        client.put(b"a")
        modified = client.put(b"a").header.revision
        revisions = (modified - 1, modified, modified + 1)
        assert tuple(holds(client, op.mod_revision(b"a", result, revision)) for revision in revisions) == expected

    def test_value(self, client: Client, result: str, expected: tuple[bool, ...]) -> None:
        client.put(b"a", b"m")
        assert tuple(holds(client, op.value(b"a", result, content)) for content in (b"l", b"m", b"m\0")) == expected

    def test_lease(self, client: Client, result: str, expected: tuple[bool, ...]) -> None:
        lease = client.lease_grant(600, 5000).ID
        client.put(b"a", lease=lease)
        leases = (lease - 1, lease, lease + 1)
        assert tuple(holds(client, op.lease(b"a", result, number)) for number in leases) == expected


@pytest.mark.parametrize(("result", "expected"), ORDER)
class TestComparesOfAMissingKey:
    """Its numbers are all zero."""

    def test_version(self, client: Client, result: str, expected: tuple[bool, ...]) -> None:
        assert tuple(holds(client, op.version(b"a", result, number)) for number in (-1, 0, 1)) == expected

    def test_create_revision(self, client: Client, result: str, expected: tuple[bool, ...]) -> None:
        assert tuple(holds(client, op.create_revision(b"a", result, number)) for number in (-1, 0, 1)) == expected

    def test_mod_revision(self, client: Client, result: str, expected: tuple[bool, ...]) -> None:
        assert tuple(holds(client, op.mod_revision(b"a", result, number)) for number in (-1, 0, 1)) == expected

    def test_lease(self, client: Client, result: str, expected: tuple[bool, ...]) -> None:
        assert tuple(holds(client, op.lease(b"a", result, number)) for number in (-1, 0, 1)) == expected


@pytest.mark.parametrize("result", ["=", "!=", ">", "<"])
@pytest.mark.parametrize("content", [b"", b"m"])
def test_a_value_compare_of_a_missing_key_never_holds(client: Client, result: str, content: bytes) -> None:
    assert not holds(client, op.value(b"a", result, content))


def test_a_deleted_key_compares_like_a_missing_one(client: Client) -> None:
    client.put(b"a")
    client.delete_range(b"a")
    assert holds(client, op.mod_revision(b"a", "=", 0), op.version(b"a", "=", 0))


def test_an_empty_value_equals_an_empty_value(client: Client) -> None:
    client.put(b"a", b"")
    assert holds(client, op.value(b"a", "=", b""))


def test_a_compare_without_a_number_compares_with_zero(client: Client) -> None:
    assert holds(client, rpc_pb2.Compare(key=b"a", target="MOD", result="EQUAL"))
    client.put(b"a")
    assert holds(client, rpc_pb2.Compare(key=b"a", target="MOD", result="GREATER"))


def test_a_compare_reads_only_the_number_of_its_target(client: Client) -> None:
    client.put(b"a")
    assert not holds(client, rpc_pb2.Compare(key=b"a", target="MOD", result="EQUAL", version=1))


def test_a_compare_over_a_range_holds_when_it_holds_for_every_key(client: Client) -> None:
    client.put(b"a", b"1")
    client.put(b"b", b"1")
    client.put(b"c", b"2")
    assert holds(client, op.value(b"a", "=", b"1", range_end=b"c"))
    assert not holds(client, op.value(b"a", "=", b"1", range_end=b"d"))


def test_a_compare_from_a_key_on_sees_all_keys_after_it(client: Client) -> None:
    client.put(b"a", b"1")
    client.put(b"\xff", b"2")
    assert not holds(client, op.value(b"a", "=", b"1", range_end=FROM_KEY))


def test_a_compare_over_an_empty_range_sees_zeros(client: Client) -> None:
    assert holds(client, op.create_revision(b"a", "=", 0, range_end=b"z"))
    assert not holds(client, op.create_revision(b"a", ">", 0, range_end=b"z"))


def test_a_value_compare_over_an_empty_range_does_not_hold(client: Client) -> None:
    assert not holds(client, op.value(b"a", "!=", b"x", range_end=b"z"))


def test_all_compares_must_hold(client: Client) -> None:
    client.put(b"a", b"1")
    assert holds(client, op.value(b"a", "=", b"1"), op.version(b"a", "=", 1))
    assert not holds(client, op.value(b"a", "=", b"1"), op.version(b"a", "=", 2))


def test_no_compares_hold(client: Client) -> None:
    assert holds(client)


# branches


def test_success_runs_when_the_compares_hold(client: Client) -> None:
    response = client.txn([op.version(b"a", "=", 0)], [op.put(b"a", b"then")], [op.put(b"a", b"else")])
    assert response.succeeded
    assert client.get(b"a").value == b"then"


def test_failure_runs_when_they_do_not(client: Client) -> None:
    response = client.txn([op.version(b"a", "=", 1)], [op.put(b"a", b"then")], [op.put(b"a", b"else")])
    assert not response.succeeded
    assert client.get(b"a").value == b"else"


def test_there_is_one_response_for_each_operation_in_order(client: Client) -> None:
    response = client.txn((), [op.put(b"a"), op.get(b"a"), op.delete(b"b"), op.nested()])
    assert [answer.WhichOneof("response") for answer in response.responses] == [
        "response_put",
        "response_range",
        "response_delete_range",
        "response_txn",
    ]


def test_an_empty_branch_has_no_responses(client: Client) -> None:
    response = client.txn([op.version(b"a", "=", 1)], [op.put(b"a")])
    assert (response.succeeded, len(response.responses)) == (False, 0)


# revisions


def test_all_writes_of_a_transaction_share_one_revision(client: Client) -> None:
    before = client.revision()
    response = client.txn((), [op.put(b"a"), op.put(b"b"), op.put(b"c")])
    assert response.header.revision == before + 1
    assert {found.mod_revision for found in client.range(b"a", b"z").kvs} == {before + 1}


def test_responses_inside_a_transaction_carry_its_revision(client: Client) -> None:
    response = client.txn((), [op.put(b"a"), op.get(b"a"), op.delete(b"b")])
    put, got, deleted = response.responses
    revisions = {
        put.response_put.header.revision,
        got.response_range.header.revision,
        deleted.response_delete_range.header.revision,
    }
    assert revisions == {response.header.revision}


def test_headers_inside_a_transaction_carry_nothing_but_the_revision(client: Client) -> None:
    response = client.txn((), [op.put(b"a")])
    inner = response.responses[0].response_put.header
    assert inner == rpc_pb2.ResponseHeader(revision=response.header.revision)


def test_the_header_of_a_nested_transaction_is_empty(client: Client) -> None:
    response = client.txn((), [op.nested((), (op.put(b"a"),))])
    assert response.responses[0].response_txn.header == rpc_pb2.ResponseHeader()
    assert response.responses[0].response_txn.HasField("header")


def test_a_range_before_the_first_write_carries_the_revision_before(client: Client) -> None:
    response = client.txn((), [op.get(b"a"), op.put(b"a")])
    assert response.responses[0].response_range.header.revision == response.header.revision - 1


def test_a_read_only_transaction_takes_no_revision(client: Client) -> None:
    revision = client.put(b"a").header.revision
    assert client.txn((), [op.get(b"a")]).header.revision == revision
    assert client.revision() == revision


def test_a_transaction_whose_deletes_find_nothing_takes_no_revision(client: Client) -> None:
    revision = client.put(b"a").header.revision
    assert client.txn((), [op.delete(b"b"), op.delete(b"c", b"d")]).header.revision == revision
    assert client.revision() == revision


def test_an_empty_transaction_takes_no_revision(client: Client) -> None:
    revision = client.put(b"a").header.revision
    assert client.txn().header.revision == revision


def test_a_write_in_the_branch_not_taken_takes_no_revision(client: Client) -> None:
    revision = client.put(b"a").header.revision
    assert client.txn([op.version(b"a", "=", 9)], [op.put(b"a")]).header.revision == revision


# what operations see


def test_a_range_sees_the_writes_before_it(client: Client) -> None:
    client.put(b"b", b"old")
    response = client.txn((), [op.put(b"a", b"new"), op.delete(b"b"), op.get(b"a", b"z")])
    revision = response.header.revision
    assert list(response.responses[2].response_range.kvs) == [
        kv_pb2.KeyValue(key=b"a", value=b"new", version=1, create_revision=revision, mod_revision=revision)
    ]


def test_a_range_does_not_see_the_writes_after_it(client: Client) -> None:
    response = client.txn((), [op.get(b"a"), op.put(b"a", b"new")])
    assert response.responses[0].response_range.count == 0


def test_a_range_in_a_transaction_has_all_the_options_of_a_range(client: Client) -> None:
    for name in (b"a", b"b", b"c"):
        client.put(name, name)
    (answer,) = client.txn((), [op.get(b"a", b"z", limit=1, sort_order="DESCEND", keys_only=True)]).responses
    found = answer.response_range
    assert ([(kv.key, kv.value) for kv in found.kvs], found.more, found.count) == ([(b"c", b"")], True, 3)


def test_a_range_at_a_past_revision_does_not_see_the_writes_before_it(client: Client) -> None:
    past = client.put(b"a", b"old").header.revision
    response = client.txn((), [op.put(b"a", b"new"), op.get(b"a", revision=past)])
    assert response.responses[1].response_range.kvs[0].value == b"old"


def test_a_delete_counts_the_keys_put_before_it_in_other_operations(client: Client) -> None:
    client.put(b"b")
    # only a range end of zero escapes the check for keys that are put and deleted
    response = client.txn((), [op.put(b"a", b"new"), op.delete(b"a", FROM_KEY, prev_kv=True)])
    deleted = response.responses[1].response_delete_range
    assert [found.key for found in deleted.prev_kvs] == [b"a", b"b"]
    assert remaining(client) == []


def test_a_put_after_a_delete_of_its_key_creates_it_anew(client: Client) -> None:
    client.put(b"a", b"old")
    revision = client.txn((), [op.delete(b"a", FROM_KEY), op.put(b"a", b"new")]).header.revision
    expected = kv_pb2.KeyValue(key=b"a", value=b"new", version=1, create_revision=revision, mod_revision=revision)
    assert client.get(b"a") == expected


def test_a_put_returns_the_previous_key_value(client: Client) -> None:
    client.put(b"a", b"old")
    before = client.get(b"a")
    (answer,) = client.txn((), [op.put(b"a", b"new", prev_kv=True)]).responses
    assert answer.response_put.prev_kv == before


def test_a_put_may_ignore_value_and_lease(client: Client) -> None:
    lease = client.lease_grant(600).ID
    client.put(b"a", b"1", lease=lease)
    client.put(b"b", b"1", lease=lease)
    client.txn((), [op.put(b"a", ignore_value=True), op.put(b"b", b"2", ignore_lease=True)])
    assert [(found.value, found.lease) for found in client.range(b"a", b"z").kvs] == [(b"1", 0), (b"2", lease)]


def test_two_deletes_of_a_key_delete_it_once(client: Client) -> None:
    client.put(b"a")
    first, second = client.txn((), [op.delete(b"a"), op.delete(b"a")]).responses
    assert (first.response_delete_range.deleted, second.response_delete_range.deleted) == (1, 0)


# nested transactions


def test_a_nested_transaction_takes_its_own_branch(client: Client) -> None:
    client.put(b"a", b"1")
    inner = op.nested((op.value(b"a", "=", b"2"),), (op.put(b"b", b"then"),), (op.put(b"b", b"else"),))
    response = client.txn((), [inner])
    assert not response.responses[0].response_txn.succeeded
    assert client.get(b"b").value == b"else"


def test_nested_compares_see_the_state_before_the_whole_transaction(client: Client) -> None:
    inner = op.nested((op.version(b"a", "=", 0),), (op.put(b"b", b"before"),), (op.put(b"b", b"after"),))
    client.txn((), [op.put(b"a"), inner])
    assert client.get(b"b").value == b"before"


def test_a_nested_range_sees_the_writes_before_it(client: Client) -> None:
    response = client.txn((), [op.put(b"a", b"1"), op.nested((), (op.get(b"a"),))])
    inner = response.responses[1].response_txn
    assert inner.responses[0].response_range.kvs[0].value == b"1"


def test_nested_writes_share_the_revision(client: Client) -> None:
    response = client.txn((), [op.put(b"a"), op.nested((), (op.nested((), (op.put(b"b"),)),))])
    assert {found.mod_revision for found in client.range(b"a", b"z").kvs} == {response.header.revision}


def test_a_nested_read_makes_no_write(client: Client) -> None:
    revision = client.put(b"a").header.revision
    assert client.txn((), [op.nested((), (op.get(b"a"),))]).header.revision == revision
    assert client.revision() == revision


def test_several_nested_transactions_take_their_branches_each(client: Client) -> None:
    client.put(b"a")

    def branch(key: bytes, number: int) -> rpc_pb2.RequestOp:
        return op.nested((op.version(b"a", "=", number),), (op.put(key, b"then"),), (op.put(key, b"else"),))

    client.txn((), [branch(b"b", 1), op.nested((), (branch(b"c", 0), branch(b"d", 1))), branch(b"e", 0)])
    values = [found.value for found in client.range(b"b", b"z").kvs]
    assert values == [b"then", b"else", b"then", b"else"]


# keys that are written more than once


def test_the_same_key_may_not_be_put_twice(client: Client) -> None:
    with refused(DUPLICATE_KEY):
        client.txn((), [op.put(b"a", b"1"), op.put(b"a", b"2")])


def test_a_key_may_not_be_put_and_deleted(client: Client) -> None:
    with refused(DUPLICATE_KEY):
        client.txn((), [op.put(b"a"), op.delete(b"a")])


def test_a_key_may_not_be_deleted_and_put(client: Client) -> None:
    with refused(DUPLICATE_KEY):
        client.txn((), [op.delete(b"a"), op.put(b"a")])


def test_a_key_may_not_be_put_within_a_range_that_is_deleted(client: Client) -> None:
    with refused(DUPLICATE_KEY):
        client.txn((), [op.put(b"b"), op.delete(b"a", b"c")])


def test_a_key_at_the_end_of_a_deleted_range_may_be_put(client: Client) -> None:
    assert client.txn((), [op.put(b"c"), op.delete(b"a", b"c")]).succeeded


def test_a_key_may_be_put_in_both_branches(client: Client) -> None:
    assert client.txn((), [op.put(b"a", b"then")], [op.put(b"a", b"else")]).succeeded


def test_duplicates_in_the_branch_not_taken_are_refused(client: Client) -> None:
    with refused(DUPLICATE_KEY):
        client.txn((), [op.put(b"a")], [op.put(b"b"), op.put(b"b")])


def test_a_key_may_not_be_put_in_a_transaction_and_in_one_nested_in_it(client: Client) -> None:
    with refused(DUPLICATE_KEY):
        client.txn((), [op.nested((), (op.put(b"a"),)), op.put(b"a")])


def test_a_key_may_not_be_put_in_two_nested_transactions(client: Client) -> None:
    with refused(DUPLICATE_KEY):
        client.txn((), [op.nested((), (op.put(b"a"),)), op.nested((), (), (op.put(b"a"),))])


def test_a_key_may_be_put_in_both_branches_of_a_nested_transaction(client: Client) -> None:
    assert client.txn((), [op.nested((), (op.put(b"a"),), (op.put(b"a"),))]).succeeded


def test_a_key_may_not_be_put_in_a_nested_transaction_and_deleted_around_it(client: Client) -> None:
    with refused(DUPLICATE_KEY):
        client.txn((), [op.nested((), (op.put(b"a"),)), op.delete(b"a")])


def test_a_key_may_not_be_deleted_in_a_nested_transaction_and_put_after_it(client: Client) -> None:
    with refused(DUPLICATE_KEY):
        client.txn((), [op.nested((), (op.delete(b"a"),)), op.put(b"a")])


def test_a_key_may_be_put_in_one_nested_transaction_and_deleted_in_the_next(client: Client) -> None:
    client.txn((), [op.nested((), (op.put(b"a"),)), op.nested((), (op.delete(b"a"),))])
    assert remaining(client) == []


def test_a_key_may_not_be_deleted_in_one_nested_transaction_and_put_in_the_next(client: Client) -> None:
    with refused(DUPLICATE_KEY):
        client.txn((), [op.nested((), (op.delete(b"a"),)), op.nested((), (op.put(b"a"),))])


def test_the_same_key_may_be_deleted_and_read_any_number_of_times(client: Client) -> None:
    client.put(b"a")
    assert client.txn((), [op.delete(b"a"), op.get(b"a"), op.delete(b"a", b"c"), op.get(b"a")]).succeeded


# refusals


def test_as_many_operations_as_are_allowed(client: Client) -> None:
    client.txn((), [op.put(b"%03d" % number) for number in range(128)])
    assert client.range(b"0", b"9", count_only=True).count == 128


@pytest.mark.parametrize("part", ["compare", "success", "failure"])
def test_more_operations_than_are_allowed_are_refused(client: Client, part: str) -> None:
    request = rpc_pb2.TxnRequest()
    if part == "compare":
        request.compare.extend(op.version(b"%03d" % number, "=", 0) for number in range(129))
    else:
        getattr(request, part).extend(op.put(b"%03d" % number) for number in range(129))
    with refused(TOO_MANY_OPERATIONS):
        client.call("/etcdserverpb.KV/Txn", request, rpc_pb2.TxnResponse)


def test_nested_operations_count_too(client: Client) -> None:
    operations = [op.put(b"%03d" % number) for number in range(126)]
    inner = op.nested((), (op.put(b"a"), op.put(b"b")))
    with refused(TOO_MANY_OPERATIONS):
        client.txn((), [*operations, inner])


def nested_deeply(depth: int, inner: rpc_pb2.RequestOp, branch: str = "success") -> bytes:
    """A transaction with so many others within each other, the innermost with one operation. Made as bytes, since
    protobuf's Python makes messages of that depth but does not read them."""
    field = b"\x12" if branch == "success" else b"\x1a"
    encoded = rpc_pb2.TxnRequest(success=[inner]).SerializeToString()
    for _ in range(depth):
        operation = b"\x22" + encoded_number(len(encoded)) + encoded
        encoded = field + encoded_number(len(operation)) + operation
    return encoded


@pytest.mark.parametrize("depth", [49, 50, 51, 100, 127])
def test_transactions_may_be_nested_as_deeply_as_there_may_be_operations(client: Client, depth: int) -> None:
    client.call_raw("/etcdserverpb.KV/Txn", nested_deeply(depth, op.put(b"deep", b"v" * 200)))
    assert client.get(b"deep").value == b"v" * 200


def test_the_answer_is_nested_as_deeply(client: Client) -> None:
    answer = client.call_raw("/etcdserverpb.KV/Txn", nested_deeply(127, op.put(b"deep")))
    depth = 0
    while nested := innermost(answer):
        answer, depth = nested, depth + 1
    assert depth == 127


def innermost(answer: bytes) -> bytes | None:
    """The answer of the transaction nested in this one; it alone is parsed, since all of it is too deep."""
    fields = dict(fields_of(answer))
    operation = dict(fields_of(fields[3]))  # responses
    return operation.get(4)  # response_txn


def fields_of(message: bytes) -> Iterator[tuple[int, bytes]]:
    """The numbers and contents of a message's fields that have a length."""
    at = 0
    while at < len(message):
        tag, at = number_at(message, at)
        length, at = number_at(message, at)
        if tag & 7 == 2:
            yield tag >> 3, message[at : at + length]
            at += length


def encoded_number(number: int) -> bytes:
    encoded = bytearray()
    while number > 127:
        encoded.append(number & 127 | 128)
        number >>= 7
    return bytes(encoded) + bytes([number])


def number_at(message: bytes, at: int) -> tuple[int, int]:
    number = shift = 0
    while True:
        byte = message[at]
        at, number, shift = at + 1, number | (byte & 127) << shift, shift + 7
        if byte < 128:
            return number, at


@pytest.mark.parametrize("branch", ["success", "failure"])
@pytest.mark.parametrize("depth", [128, 200, 4000])
def test_transactions_nested_more_deeply_are_refused(client: Client, depth: int, branch: str) -> None:
    with refused(TOO_MANY_OPERATIONS):
        client.call_raw("/etcdserverpb.KV/Txn", nested_deeply(depth, op.put(b"deep"), branch))


def test_transactions_nested_beyond_what_is_parsed_are_refused(client: Client) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        client.call_raw("/etcdserverpb.KV/Txn", nested_deeply(20_000, op.put(b"deep")))
    assert caught.value.code() == grpc.StatusCode.INTERNAL


def test_an_operation_in_the_depth_is_refused_as_others_are(client: Client) -> None:
    with refused(EMPTY_KEY):
        client.call_raw("/etcdserverpb.KV/Txn", nested_deeply(100, op.put(b"")))


def test_a_key_may_not_be_put_twice_in_the_depth(client: Client) -> None:
    encoded = nested_deeply(100, op.put(b"a")) + rpc_pb2.TxnRequest(success=[op.put(b"a")]).SerializeToString()
    with refused(DUPLICATE_KEY):
        client.call_raw("/etcdserverpb.KV/Txn", encoded)


def test_branches_do_not_add_up(client: Client) -> None:
    operations = [op.put(b"%03d" % number) for number in range(128)]
    assert client.txn((), operations, operations).succeeded


def test_an_operation_without_a_request_is_refused(client: Client) -> None:
    with refused(KEY_NOT_FOUND):
        client.txn((), [rpc_pb2.RequestOp()])


@pytest.mark.parametrize(
    "operation",
    [op.put(b""), op.get(b""), op.delete(b""), op.nested((), (op.put(b""),)), op.nested((op.version(b"", "=", 0),))],
)
def test_an_empty_key_is_refused_in_either_branch(client: Client, operation: rpc_pb2.RequestOp) -> None:
    with refused(EMPTY_KEY):
        client.txn((), [operation])
    with refused(EMPTY_KEY):
        client.txn((), [], [operation])


def test_an_empty_key_in_a_compare_is_refused(client: Client) -> None:
    with refused(EMPTY_KEY):
        client.txn([op.version(b"", "=", 0)])


def test_a_value_with_ignore_value_is_refused_in_either_branch(client: Client) -> None:
    with refused(VALUE_PROVIDED):
        client.txn((), [], [op.put(b"a", b"1", ignore_value=True)])


def test_a_lease_with_ignore_lease_is_refused_in_either_branch(client: Client) -> None:
    with refused(LEASE_PROVIDED):
        client.txn((), [], [op.put(b"a", lease=1, ignore_lease=True)])


@pytest.mark.since(3, 7, "an unknown sort target ends its process")
def test_an_unknown_sort_target_is_refused_in_either_branch(client: Client) -> None:
    operation = rpc_pb2.RequestOp(request_range=rpc_pb2.RangeRequest.FromString(b"\x0a\x01a\x30\x05"))
    with refused(INVALID_SORT_OPTION):
        client.txn((), [], [operation])


def test_the_first_fault_decides_what_is_answered(client: Client) -> None:
    with refused(EMPTY_KEY):
        client.txn((), [op.put(b"a"), op.put(b"a"), op.put(b"")])


@pytest.mark.parametrize(
    ("operation", "refusal"),
    [
        (op.put(b"b", lease=4711), LEASE_NOT_FOUND),
        (op.put(b"b", ignore_value=True), KEY_NOT_FOUND),
        (op.put(b"b", ignore_lease=True), KEY_NOT_FOUND),
        (op.get(b"b", revision=1 << 40), FUTURE_REVISION),
        (op.nested((), (op.put(b"b", lease=4711),)), LEASE_NOT_FOUND),
    ],
)
class TestAnOperationThatFails:
    def test_leaves_nothing_of_the_transaction(
        self, client: Client, operation: rpc_pb2.RequestOp, refusal: Refusal
    ) -> None:
        before = client.revision()
        with refused(refusal):
            client.txn((), [op.put(b"a"), operation])
        assert (remaining(client), client.revision()) == ([], before)

    def test_does_no_harm_in_the_branch_not_taken(
        self, client: Client, operation: rpc_pb2.RequestOp, refusal: Refusal
    ) -> None:
        assert client.txn((), [op.put(b"a")], [operation]).succeeded, refusal


def test_a_range_in_a_transaction_at_a_compacted_revision_is_refused(client: Client) -> None:
    past = client.put(b"a").header.revision
    client.compact(client.put(b"a").header.revision)
    with refused(COMPACTED):
        client.txn((), [op.put(b"b"), op.get(b"a", revision=past)])
    assert remaining(client) == [b"a"]


def test_a_range_at_the_revision_that_the_transaction_takes_is_refused(client: Client) -> None:
    revision = client.put(b"a").header.revision
    with refused(FUTURE_REVISION):
        client.txn((), [op.put(b"b"), op.get(b"a", revision=revision + 1)])


def test_a_range_in_a_read_only_transaction_at_a_future_revision_is_refused(client: Client) -> None:
    revision = client.put(b"a").header.revision
    with refused(FUTURE_REVISION):
        client.txn((), [op.get(b"a", revision=revision + 1)])


def test_a_range_in_a_transaction_at_a_negative_revision_is_refused_as_compacted(client: Client) -> None:
    # a range of its own takes it for the current revision
    client.compact(client.put(b"a").header.revision)
    with refused(COMPACTED):
        client.txn((), [op.get(b"a", revision=-1)])


def test_a_range_in_a_transaction_at_revision_minus_one_is_current_before_any_compaction(new_client: Client) -> None:
    new_client.put(b"a")
    assert new_client.txn((), [op.get(b"a", revision=-1)]).responses[0].response_range.count == 1
    with refused(COMPACTED):
        new_client.txn((), [op.get(b"a", revision=-2)])

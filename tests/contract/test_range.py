"""Range: which keys it finds, in which order, at which revision, and what it counts."""

import pytest

from fetch.api import kv_pb2, rpc_pb2
from tests.endpoints.client import FROM_KEY, Client
from tests.endpoints.refusals import COMPACTED, EMPTY_KEY, FUTURE_REVISION, INVALID_SORT_OPTION, refused


def keys(response: rpc_pb2.RangeResponse) -> list[bytes]:
    return [found.key for found in response.kvs]


def put_all(client: Client, *names: bytes) -> list[int]:
    """Puts the keys in this order, each with its own name as value; returns the revisions."""
    return [client.put(name, name).header.revision for name in names]


# which keys


def test_a_single_key_is_found(client: Client) -> None:
    put_all(client, b"a", b"aa", b"b")
    assert keys(client.range(b"a")) == [b"a"]


def test_a_missing_key_gives_an_empty_answer(client: Client) -> None:
    response = client.range(b"a")
    assert (keys(response), response.count, response.more) == ([], 0, False)


def test_a_range_includes_its_start_and_excludes_its_end(client: Client) -> None:
    put_all(client, b"a", b"b", b"c", b"d")
    assert keys(client.range(b"b", b"d")) == [b"b", b"c"]


def test_a_range_needs_no_key_at_its_start(client: Client) -> None:
    put_all(client, b"b", b"c")
    assert keys(client.range(b"a", b"c")) == [b"b"]


def test_keys_are_ordered_as_bytes(client: Client) -> None:
    put_all(client, b"b", b"a\xff", b"a\x00", b"a", b"a\x80", b"A", b"\xff\xff", b"aa")
    expected = [b"A", b"a", b"a\x00", b"aa", b"a\x80", b"a\xff", b"b", b"\xff\xff"]
    assert keys(client.range(FROM_KEY, FROM_KEY)) == expected


def test_a_zero_byte_as_end_means_every_key_from_the_start_on(client: Client) -> None:
    put_all(client, b"a", b"b", b"b\x00", b"\xff\xff")
    assert keys(client.range(b"b", FROM_KEY)) == [b"b", b"b\x00", b"\xff\xff"]


def test_zero_bytes_as_key_and_end_mean_every_key(client: Client) -> None:
    put_all(client, b"\x00", b"\x00\x00", b"a", b"\xff")
    assert keys(client.range(FROM_KEY, FROM_KEY)) == [b"\x00", b"\x00\x00", b"a", b"\xff"]


def test_two_zero_bytes_as_end_are_an_ordinary_end(client: Client) -> None:
    put_all(client, b"\x00", b"\x00\x00", b"a")
    assert keys(client.range(b"\x00", b"\x00\x00")) == [b"\x00"]


def test_an_end_before_the_start_gives_an_empty_answer(client: Client) -> None:
    put_all(client, b"a", b"b", b"c")
    response = client.range(b"c", b"a")
    assert (keys(response), response.count) == ([], 0)


def test_an_end_equal_to_the_start_gives_an_empty_answer(client: Client) -> None:
    put_all(client, b"a")
    assert client.range(b"a", b"a").count == 0


def test_an_empty_key_is_refused(client: Client) -> None:
    with refused(EMPTY_KEY):
        client.range(b"")


def test_an_empty_key_is_refused_with_an_end_too(client: Client) -> None:
    with refused(EMPTY_KEY):
        client.range(b"", FROM_KEY)


def test_a_prefix_of_a_key_is_another_key(client: Client) -> None:
    put_all(client, b"/registry/pods")
    assert client.range(b"/registry/pod").count == 0


# keys and values of any bytes


@pytest.mark.parametrize("key", [b"\x00", b"a\x00b", b"\x00\x00\xff", b"\xff", bytes(range(256))])
def test_a_key_may_hold_any_bytes(client: Client, key: bytes) -> None:
    client.put(key, b"1")
    assert keys(client.range(key)) == [key]


@pytest.mark.parametrize("value", [b"\x00", b"a\x00b", bytes(range(256)), b"\xff" * 100])
def test_a_value_may_hold_any_bytes(client: Client, value: bytes) -> None:
    client.put(b"a", value)
    assert client.get(b"a").value == value


@pytest.mark.parametrize("length", [255, 511, 512, 1023, 1024, 2000, 8192])
def test_a_key_may_be_long(client: Client, length: int) -> None:
    key = b"k" * length
    client.put(key, b"1")
    assert keys(client.range(key)) == [key]


def test_long_keys_that_differ_in_their_last_byte_are_in_order(client: Client) -> None:
    stem = b"k" * 1500
    put_all(client, stem + b"c", stem + b"a", stem, stem + b"b")
    assert keys(client.range(b"k", b"l")) == [stem, stem + b"a", stem + b"b", stem + b"c"]


def test_a_range_may_end_inside_long_keys(client: Client) -> None:
    stem = b"k" * 1500
    put_all(client, stem + b"a", stem + b"b", stem + b"c")
    assert keys(client.range(stem + b"b", stem + b"c")) == [stem + b"b"]


def test_short_and_long_keys_are_in_order(client: Client) -> None:
    put_all(client, b"k" * 600, b"k" * 5, b"l", b"k" * 400 + b"z", b"k" * 511)
    assert keys(client.range(FROM_KEY, FROM_KEY)) == [
        b"k" * 5,
        b"k" * 511,
        b"k" * 600,
        b"k" * 400 + b"z",
        b"l",
    ]


def test_a_value_of_a_mebibyte_comes_back(client: Client) -> None:
    value = bytes(range(256)) * 4096
    client.put(b"a", value)
    assert client.get(b"a").value == value


def test_a_list_of_large_values_comes_back(client: Client) -> None:
    for number in range(6):
        client.put(b"%d" % number, b"%d" % number * 1_000_000)
    assert [found.value[:1] for found in client.range(b"0", b"9").kvs] == [b"0", b"1", b"2", b"3", b"4", b"5"]


# limit, more, count


def test_a_limit_cuts_the_answer_and_says_that_there_is_more(client: Client) -> None:
    put_all(client, b"a", b"b", b"c")
    response = client.range(b"a", b"z", limit=2)
    assert (keys(response), response.more) == ([b"a", b"b"], True)


def test_the_count_ignores_the_limit(client: Client) -> None:
    put_all(client, b"a", b"b", b"c")
    assert client.range(b"a", b"z", limit=1).count == 3


def test_a_limit_that_is_just_enough_leaves_no_more(client: Client) -> None:
    put_all(client, b"a", b"b")
    response = client.range(b"a", b"z", limit=2)
    assert (keys(response), response.more, response.count) == ([b"a", b"b"], False, 2)


def test_a_limit_of_zero_is_no_limit(client: Client) -> None:
    put_all(client, b"a", b"b", b"c")
    response = client.range(b"a", b"z", limit=0)
    assert (len(response.kvs), response.more) == (3, False)


def test_a_negative_limit_is_no_limit(client: Client) -> None:
    put_all(client, b"a", b"b", b"c")
    response = client.range(b"a", b"z", limit=-1)
    assert (len(response.kvs), response.more, response.count) == (3, False, 3)


def test_the_largest_limit_is_no_limit(client: Client) -> None:
    put_all(client, b"a", b"b")
    response = client.range(b"a", b"z", limit=2**63 - 1)
    assert (len(response.kvs), response.more) == (2, False)


def test_pages_that_continue_after_the_last_key_give_every_key_once(client: Client) -> None:
    names = [b"%03d" % number for number in range(25)]
    put_all(client, *names)
    found: list[bytes] = []
    start = b"0"
    more = True
    while more:
        page = client.range(start, b"1", limit=10)
        found += keys(page)
        start, more = found[-1] + b"\0", page.more
    assert found == names


def test_the_count_of_a_later_page_is_what_remains(client: Client) -> None:
    put_all(client, b"a", b"b", b"c", b"d")
    assert client.range(b"b\0", b"z", limit=1).count == 2


def test_count_only_returns_no_keys(client: Client) -> None:
    put_all(client, b"a", b"b")
    response = client.range(b"a", b"z", count_only=True)
    assert (response.count, keys(response), response.more) == (2, [], False)


def test_count_only_ignores_the_limit(client: Client) -> None:
    put_all(client, b"a", b"b")
    response = client.range(b"a", b"z", count_only=True, limit=1)
    assert (response.count, response.more) == (2, False)


def test_count_only_of_a_single_key_is_one(client: Client) -> None:
    put_all(client, b"a")
    assert client.range(b"a", count_only=True).count == 1


def test_count_only_ignores_filters(client: Client) -> None:
    _, second = put_all(client, b"a", b"b")
    assert client.range(b"a", b"z", count_only=True, min_mod_revision=second).count == 2


def test_count_only_in_the_past_counts_the_past(client: Client) -> None:
    first, _ = put_all(client, b"a", b"b")
    assert client.range(b"a", b"z", count_only=True, revision=first).count == 1


def test_deleted_keys_are_not_counted(client: Client) -> None:
    put_all(client, b"a", b"b")
    client.delete_range(b"a")
    assert client.range(b"a", b"z", count_only=True).count == 1


# keys only


def test_keys_only_leaves_out_the_values(client: Client) -> None:
    created = client.put(b"a", b"1").header.revision
    modified = client.put(b"a", b"2").header.revision
    expected = kv_pb2.KeyValue(key=b"a", create_revision=created, mod_revision=modified, version=2)
    assert client.get(b"a", keys_only=True) == expected


@pytest.mark.since(3, 7, "keys_only reads values and leases, and drops the values")
def test_keys_only_leaves_out_the_leases(client: Client) -> None:
    client.put(b"a", b"1", lease=client.lease_grant(600).ID)
    assert client.get(b"a", keys_only=True).lease == 0


def test_keys_only_sorted_by_value_returns_the_leases(client: Client) -> None:
    lease = client.lease_grant(600).ID
    client.put(b"a", b"1", lease=lease)
    assert client.get(b"a", keys_only=True, sort_target="VALUE").lease == lease


def test_keys_only_counts_and_limits_like_any_range(client: Client) -> None:
    put_all(client, b"a", b"b", b"c")
    response = client.range(b"a", b"z", keys_only=True, limit=2)
    assert (keys(response), response.count, response.more) == ([b"a", b"b"], 3, True)


def test_keys_only_can_be_sorted_by_the_values_it_leaves_out(client: Client) -> None:
    client.put(b"a", b"2")
    client.put(b"b", b"1")
    response = client.range(b"a", b"z", keys_only=True, sort_target="VALUE", sort_order="ASCEND")
    assert [(found.key, found.value) for found in response.kvs] == [(b"b", b""), (b"a", b"")]


# at a revision


def test_a_past_revision_shows_the_past_value(client: Client) -> None:
    first = client.put(b"a", b"1").header.revision
    client.put(b"a", b"2")
    assert client.get(b"a", revision=first) == kv_pb2.KeyValue(
        key=b"a", value=b"1", version=1, create_revision=first, mod_revision=first
    )


def test_a_past_revision_shows_keys_deleted_since(client: Client) -> None:
    first, _ = put_all(client, b"a", b"b")
    client.delete_range(b"a")
    assert keys(client.range(b"a", b"z", revision=first)) == [b"a"]


def test_a_past_revision_leaves_out_keys_created_since(client: Client) -> None:
    first, *_ = put_all(client, b"a", b"b", b"c")
    response = client.range(b"a", b"z", revision=first)
    assert (keys(response), response.count) == ([b"a"], 1)


def test_a_past_revision_between_delete_and_recreation_leaves_out_the_key(client: Client) -> None:
    put_all(client, b"a")
    deleted = client.delete_range(b"a").header.revision
    put_all(client, b"a")
    assert client.range(b"a", revision=deleted).count == 0


def test_the_header_of_a_past_read_carries_the_current_revision(client: Client) -> None:
    first, second = put_all(client, b"a", b"b")
    assert client.range(b"a", revision=first).header.revision == second


def test_the_past_can_be_read_in_pages(client: Client) -> None:
    *_, third = put_all(client, b"a", b"b", b"c")
    put_all(client, b"a", b"aa", b"b")
    client.delete_range(b"c")
    response = client.range(b"a\0", b"z", revision=third, limit=1)
    assert (keys(response), response.count, response.more) == ([b"b"], 2, True)


def test_the_past_can_be_read_key_only(client: Client) -> None:
    first = client.put(b"a", b"1").header.revision
    client.put(b"a", b"2")
    expected = kv_pb2.KeyValue(key=b"a", create_revision=first, mod_revision=first, version=1)
    assert client.get(b"a", revision=first, keys_only=True) == expected


def test_a_past_read_shows_the_past_lease(client: Client) -> None:
    lease = client.lease_grant(600).ID
    first = client.put(b"a", b"1", lease=lease).header.revision
    client.put(b"a", b"2")
    assert client.get(b"a", revision=first).lease == lease


def test_the_current_revision_can_be_asked_for(client: Client) -> None:
    (revision,) = put_all(client, b"a")
    assert keys(client.range(b"a", revision=revision)) == [b"a"]


def test_a_negative_revision_is_the_current_one(client: Client) -> None:
    put_all(client, b"a")
    assert keys(client.range(b"a", revision=-1)) == [b"a"]


def test_a_future_revision_is_refused(client: Client) -> None:
    (revision,) = put_all(client, b"a")
    with refused(FUTURE_REVISION):
        client.range(b"a", revision=revision + 1)


def test_a_compacted_revision_is_refused(client: Client) -> None:
    first, second = put_all(client, b"a", b"a")
    client.compact(second)
    with refused(COMPACTED):
        client.range(b"a", revision=first)


@pytest.mark.parametrize("mode", ["limit", "keys_only", "count_only", "serializable"])
def test_a_future_revision_is_refused_in_every_mode(client: Client, mode: str) -> None:
    (revision,) = put_all(client, b"a")
    request = rpc_pb2.RangeRequest(key=b"a", range_end=b"z", revision=revision + 1)
    setattr(request, mode, 1 if mode == "limit" else True)
    with refused(FUTURE_REVISION):
        client.call("/etcdserverpb.KV/Range", request, rpc_pb2.RangeResponse)


def test_a_serializable_read_shows_the_last_write_of_a_lone_server(client: Client) -> None:
    (revision,) = put_all(client, b"a")
    response = client.range(b"a", serializable=True)
    assert (keys(response), response.header.revision) == ([b"a"], revision)


# sorting


@pytest.fixture
def sorted_apart(client: Client) -> Client:
    """Three keys whose order differs by each target."""
    client.put(b"c", b"8")
    client.put(b"a", b"9")
    client.put(b"b", b"0")
    client.put(b"c", b"5")
    client.put(b"c", b"5")
    client.put(b"a", b"7")
    return client


@pytest.mark.parametrize(
    ("target", "ascending"),
    [
        ("KEY", [b"a", b"b", b"c"]),
        ("VERSION", [b"b", b"a", b"c"]),
        ("CREATE", [b"c", b"a", b"b"]),
        ("MOD", [b"b", b"c", b"a"]),
        ("VALUE", [b"b", b"c", b"a"]),
    ],
)
class TestSorting:
    def test_ascending(self, sorted_apart: Client, target: str, ascending: list[bytes]) -> None:
        response = sorted_apart.range(b"a", b"z", sort_target=target, sort_order="ASCEND")
        assert keys(response) == ascending

    def test_descending(self, sorted_apart: Client, target: str, ascending: list[bytes]) -> None:
        response = sorted_apart.range(b"a", b"z", sort_target=target, sort_order="DESCEND")
        assert keys(response) == ascending[::-1]

    def test_a_target_without_an_order_is_ascending(
        self, sorted_apart: Client, target: str, ascending: list[bytes]
    ) -> None:
        assert keys(sorted_apart.range(b"a", b"z", sort_target=target)) == ascending

    def test_the_limit_applies_after_sorting(self, sorted_apart: Client, target: str, ascending: list[bytes]) -> None:
        response = sorted_apart.range(b"a", b"z", sort_target=target, sort_order="DESCEND", limit=2)
        assert (keys(response), response.more, response.count) == (ascending[::-1][:2], True, 3)


def test_without_an_order_the_limit_applies_before_sorting(client: Client) -> None:
    for number in range(5):
        client.put(b"%d" % number, b"%d" % (9 - number))
    # etcd reads one key more than the limit, sorts these, and cuts
    assert keys(client.range(b"0", b"9", sort_target="VALUE", limit=2)) == [b"2", b"1"]


def test_equal_targets_stay_in_key_order(client: Client) -> None:
    put_all(client, b"c", b"a", b"b")
    response = client.range(b"a", b"z", sort_target="VERSION", sort_order="DESCEND")
    assert keys(response) == [b"a", b"b", b"c"]


def test_the_past_can_be_sorted(sorted_apart: Client) -> None:
    revision = sorted_apart.revision() - 1
    response = sorted_apart.range(b"a", b"z", sort_target="MOD", sort_order="DESCEND", revision=revision)
    assert keys(response) == [b"c", b"b", b"a"]


@pytest.mark.since(3, 7, "an unknown sort order ends its process")
def test_an_unknown_sort_order_is_refused(client: Client) -> None:
    with refused(INVALID_SORT_OPTION):
        client.call_raw("/etcdserverpb.KV/Range", rpc_pb2.RangeRequest(key=b"a").SerializeToString() + b"\x28\x03")


@pytest.mark.since(3, 7, "an unknown sort target ends its process")
def test_an_unknown_sort_target_is_refused(client: Client) -> None:
    with refused(INVALID_SORT_OPTION):
        client.call_raw("/etcdserverpb.KV/Range", rpc_pb2.RangeRequest(key=b"a").SerializeToString() + b"\x30\x05")


# filters by revision


@pytest.fixture
def modified(client: Client) -> tuple[Client, list[int]]:
    """Keys a, b and c, of which a is modified last; and the four revisions."""
    return client, put_all(client, b"a", b"b", b"c", b"a")


def test_min_mod_revision_keeps_what_is_as_new(modified: tuple[Client, list[int]]) -> None:
    client, (_, _, third, _) = modified
    assert keys(client.range(b"a", b"z", min_mod_revision=third)) == [b"a", b"c"]


def test_max_mod_revision_keeps_what_is_as_old(modified: tuple[Client, list[int]]) -> None:
    client, (_, second, _, _) = modified
    assert keys(client.range(b"a", b"z", max_mod_revision=second)) == [b"b"]


def test_min_create_revision_keeps_what_is_as_new(modified: tuple[Client, list[int]]) -> None:
    client, (_, second, _, _) = modified
    assert keys(client.range(b"a", b"z", min_create_revision=second)) == [b"b", b"c"]


def test_max_create_revision_keeps_what_is_as_old(modified: tuple[Client, list[int]]) -> None:
    client, (_, second, _, _) = modified
    assert keys(client.range(b"a", b"z", max_create_revision=second)) == [b"a", b"b"]


def test_filters_apply_together(modified: tuple[Client, list[int]]) -> None:
    client, (_, second, third, _) = modified
    response = client.range(b"a", b"z", min_mod_revision=second, max_create_revision=third, max_mod_revision=third)
    assert keys(response) == [b"b", b"c"]


def test_the_count_ignores_filters(modified: tuple[Client, list[int]]) -> None:
    client, (_, _, _, fourth) = modified
    response = client.range(b"a", b"z", min_mod_revision=fourth)
    assert (keys(response), response.count, response.more) == ([b"a"], 3, False)


def test_the_limit_applies_to_what_the_filters_leave(modified: tuple[Client, list[int]]) -> None:
    client, (_, second, _, _) = modified
    response = client.range(b"a", b"z", min_create_revision=second, limit=1)
    assert (keys(response), response.more, response.count) == ([b"b"], True, 3)


def test_filters_work_with_keys_only(modified: tuple[Client, list[int]]) -> None:
    client, (_, _, third, _) = modified
    assert keys(client.range(b"a", b"z", min_mod_revision=third, keys_only=True)) == [b"a", b"c"]


def test_filters_look_at_the_revision_that_is_read(modified: tuple[Client, list[int]]) -> None:
    client, (first, _, third, _) = modified
    assert keys(client.range(b"a", b"z", revision=third, max_mod_revision=first)) == [b"a"]


def test_a_filter_may_be_in_the_future(modified: tuple[Client, list[int]]) -> None:
    client, (_, _, _, fourth) = modified
    assert keys(client.range(b"a", b"z", min_mod_revision=fourth + 10)) == []

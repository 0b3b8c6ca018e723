"""DeleteRange: what it deletes, what it returns, and which revision it takes."""

from tests.endpoints.client import FROM_KEY, Client
from tests.endpoints.refusals import EMPTY_KEY, refused


def put_all(client: Client, *names: bytes) -> None:
    for name in names:
        client.put(name, name)


def remaining(client: Client) -> list[bytes]:
    return [found.key for found in client.range(FROM_KEY, FROM_KEY).kvs]


def test_a_deleted_key_is_gone(client: Client) -> None:
    put_all(client, b"a", b"b")
    client.delete_range(b"a")
    assert remaining(client) == [b"b"]


def test_a_delete_takes_the_next_revision(client: Client) -> None:
    revision = client.put(b"a").header.revision
    assert client.delete_range(b"a").header.revision == revision + 1


def test_a_delete_says_how_many_keys_it_deleted(client: Client) -> None:
    put_all(client, b"a", b"b", b"c")
    assert client.delete_range(b"a", b"c").deleted == 2


def test_a_delete_of_a_missing_key_deletes_nothing(client: Client) -> None:
    assert client.delete_range(b"a").deleted == 0


def test_a_delete_that_finds_nothing_takes_no_revision(client: Client) -> None:
    revision = client.put(b"a").header.revision
    assert client.delete_range(b"b").header.revision == revision
    assert client.revision() == revision


def test_a_range_is_deleted_at_one_revision(client: Client) -> None:
    put_all(client, b"a", b"b", b"c")
    before = client.revision()
    assert client.delete_range(b"a", b"z").header.revision == before + 1


def test_a_deleted_range_excludes_its_end(client: Client) -> None:
    put_all(client, b"a", b"b", b"c")
    client.delete_range(b"a", b"c")
    assert remaining(client) == [b"c"]


def test_a_zero_byte_as_end_deletes_every_key_from_the_start_on(client: Client) -> None:
    put_all(client, b"a", b"b", b"\xff")
    client.delete_range(b"b", FROM_KEY)
    assert remaining(client) == [b"a"]


def test_zero_bytes_as_key_and_end_delete_every_key(client: Client) -> None:
    put_all(client, b"\x00", b"a", b"\xff")
    assert client.delete_range(FROM_KEY, FROM_KEY).deleted == 3
    assert remaining(client) == []


def test_an_end_before_the_start_deletes_nothing(client: Client) -> None:
    put_all(client, b"a", b"b")
    assert client.delete_range(b"b", b"a").deleted == 0


def test_a_delete_of_a_single_key_spares_keys_it_is_a_prefix_of(client: Client) -> None:
    put_all(client, b"a", b"a\x00", b"aa")
    client.delete_range(b"a")
    assert remaining(client) == [b"a\x00", b"aa"]


def test_prev_kv_returns_what_was_deleted_in_key_order(client: Client) -> None:
    put_all(client, b"b", b"a", b"c")
    before = list(client.range(b"a", b"c").kvs)
    assert list(client.delete_range(b"a", b"c", prev_kv=True).prev_kvs) == before


def test_without_prev_kv_no_key_values_are_returned(client: Client) -> None:
    put_all(client, b"a")
    assert not client.delete_range(b"a").prev_kvs


def test_prev_kv_of_a_missing_key_is_empty(client: Client) -> None:
    assert not client.delete_range(b"a", prev_kv=True).prev_kvs


def test_a_second_delete_finds_nothing(client: Client) -> None:
    put_all(client, b"a")
    client.delete_range(b"a")
    assert client.delete_range(b"a").deleted == 0


def test_an_empty_key_is_refused(client: Client) -> None:
    with refused(EMPTY_KEY):
        client.delete_range(b"")


def test_an_empty_key_is_refused_with_an_end_too(client: Client) -> None:
    with refused(EMPTY_KEY):
        client.delete_range(b"", FROM_KEY)

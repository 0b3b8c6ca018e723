"""Put: what it writes, what it returns, and what it refuses."""

from fetch.api import kv_pb2
from tests.endpoints.client import Client
from tests.endpoints.refusals import (
    EMPTY_KEY,
    KEY_NOT_FOUND,
    LEASE_NOT_FOUND,
    LEASE_PROVIDED,
    VALUE_PROVIDED,
    refused,
)


def test_a_put_stores_the_value(client: Client) -> None:
    client.put(b"a", b"1")
    assert client.get(b"a").value == b"1"


def test_a_put_returns_nothing_but_the_header(client: Client) -> None:
    client.put(b"a", b"1")
    assert not client.put(b"a", b"2").HasField("prev_kv")


def test_the_first_put_creates_version_1_at_the_revision_of_the_put(client: Client) -> None:
    revision = client.put(b"a", b"1").header.revision
    expected = kv_pb2.KeyValue(key=b"a", value=b"1", version=1, create_revision=revision, mod_revision=revision)
    assert client.get(b"a") == expected


def test_a_later_put_keeps_the_create_revision_and_counts_the_version(client: Client) -> None:
    created = client.put(b"a", b"1").header.revision
    client.put(b"a", b"2")
    modified = client.put(b"a", b"3").header.revision
    expected = kv_pb2.KeyValue(key=b"a", value=b"3", version=3, create_revision=created, mod_revision=modified)
    assert client.get(b"a") == expected


def test_every_put_takes_the_next_revision(client: Client) -> None:
    before = client.revision()
    revisions = [client.put(key).header.revision for key in (b"a", b"b", b"a")]
    assert revisions == [before + 1, before + 2, before + 3]


def test_a_put_of_the_same_value_is_a_new_version(client: Client) -> None:
    client.put(b"a", b"1")
    client.put(b"a", b"1")
    assert client.get(b"a").version == 2


def test_a_put_after_a_delete_starts_again_at_version_1(client: Client) -> None:
    client.put(b"a", b"1")
    client.delete_range(b"a")
    revision = client.put(b"a", b"2").header.revision
    expected = kv_pb2.KeyValue(key=b"a", value=b"2", version=1, create_revision=revision, mod_revision=revision)
    assert client.get(b"a") == expected


def test_an_empty_value_is_a_value(client: Client) -> None:
    client.put(b"a", b"")
    response = client.range(b"a")
    assert (response.count, response.kvs[0].value) == (1, b"")


def test_prev_kv_returns_what_was_overwritten(client: Client) -> None:
    client.put(b"a", b"1")
    before = client.get(b"a")
    assert client.put(b"a", b"2", prev_kv=True).prev_kv == before


def test_prev_kv_of_a_new_key_is_absent(client: Client) -> None:
    assert not client.put(b"a", b"1", prev_kv=True).HasField("prev_kv")


def test_ignore_value_keeps_the_value(client: Client) -> None:
    client.put(b"a", b"1")
    client.put(b"a", ignore_value=True)
    found = client.get(b"a")
    assert (found.value, found.version) == (b"1", 2)


def test_ignore_value_drops_the_lease_unless_one_is_given(client: Client) -> None:
    lease = client.lease_grant(600).ID
    client.put(b"a", b"1", lease=lease)
    client.put(b"a", ignore_value=True)
    assert client.get(b"a").lease == 0


def test_ignore_value_takes_the_lease_that_is_given(client: Client) -> None:
    lease = client.lease_grant(600).ID
    client.put(b"a", b"1")
    client.put(b"a", ignore_value=True, lease=lease)
    assert client.get(b"a").lease == lease


def test_ignore_value_with_a_value_is_refused(client: Client) -> None:
    client.put(b"a", b"1")
    with refused(VALUE_PROVIDED):
        client.put(b"a", b"2", ignore_value=True)


def test_ignore_value_of_a_missing_key_is_refused(client: Client) -> None:
    with refused(KEY_NOT_FOUND):
        client.put(b"a", ignore_value=True)


def test_ignore_lease_keeps_the_lease(client: Client) -> None:
    lease = client.lease_grant(600).ID
    client.put(b"a", b"1", lease=lease)
    client.put(b"a", b"2", ignore_lease=True)
    found = client.get(b"a")
    assert (found.value, found.lease) == (b"2", lease)


def test_ignore_lease_with_a_lease_is_refused(client: Client) -> None:
    lease = client.lease_grant(600).ID
    client.put(b"a", b"1")
    with refused(LEASE_PROVIDED):
        client.put(b"a", b"2", lease=lease, ignore_lease=True)


def test_ignore_lease_of_a_missing_key_is_refused(client: Client) -> None:
    with refused(KEY_NOT_FOUND):
        client.put(b"a", b"1", ignore_lease=True)


def test_ignoring_value_and_lease_counts_a_version(client: Client) -> None:
    lease = client.lease_grant(600).ID
    client.put(b"a", b"1", lease=lease)
    client.put(b"a", ignore_value=True, ignore_lease=True)
    found = client.get(b"a")
    assert (found.value, found.lease, found.version) == (b"1", lease, 2)


def test_ignoring_returns_the_previous_key_value_too(client: Client) -> None:
    client.put(b"a", b"1")
    before = client.get(b"a")
    assert client.put(b"a", ignore_value=True, prev_kv=True).prev_kv == before


def test_a_put_with_an_unknown_lease_is_refused(client: Client) -> None:
    with refused(LEASE_NOT_FOUND):
        client.put(b"a", b"1", lease=4711)


def test_an_empty_key_is_refused(client: Client) -> None:
    with refused(EMPTY_KEY):
        client.put(b"", b"1")


def test_a_refused_put_takes_no_revision(client: Client) -> None:
    before = client.revision()
    with refused(KEY_NOT_FOUND):
        client.put(b"a", ignore_value=True)
    assert client.revision() == before

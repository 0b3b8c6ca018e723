"""Compact: what can be read afterwards, and which revisions it takes."""

import pytest

from tests.endpoints.client import FROM_KEY, Client
from tests.endpoints.refusals import COMPACTED, FUTURE_REVISION, refused


def write(client: Client, times: int) -> list[int]:
    """Puts key a so many times, with its number as value; returns the revisions."""
    return [client.put(b"a", b"%d" % number).header.revision for number in range(times)]


def test_compact_answers_with_the_current_revision(client: Client) -> None:
    first, _, third = write(client, 3)
    assert client.compact(first).header.revision == third


def test_compact_takes_no_revision(client: Client) -> None:
    first, _, third = write(client, 3)
    client.compact(first)
    assert client.revision() == third


def test_reads_below_the_compacted_revision_are_refused(client: Client) -> None:
    first, second, _ = write(client, 3)
    client.compact(second)
    with refused(COMPACTED):
        client.range(b"a", revision=first)


def test_reads_at_the_compacted_revision_work(client: Client) -> None:
    _, second, _ = write(client, 3)
    client.compact(second, physical=True)
    assert client.get(b"a", revision=second).value == b"1"


def test_reads_above_the_compacted_revision_work(client: Client) -> None:
    first, second, _ = write(client, 3)
    client.compact(first, physical=True)
    assert client.get(b"a", revision=second).value == b"1"


def test_compacting_keeps_keys_that_have_not_changed_since(client: Client) -> None:
    client.put(b"old", b"1")
    *_, last = write(client, 3)
    client.compact(last, physical=True)
    assert [found.key for found in client.range(FROM_KEY, FROM_KEY, revision=last).kvs] == [b"a", b"old"]


def test_compacting_keeps_revisions_and_versions_of_keys(client: Client) -> None:
    *_, last = write(client, 3)
    before = client.get(b"a")
    client.compact(last, physical=True)
    assert client.get(b"a") == before


def test_a_key_deleted_before_the_compacted_revision_is_missing_there(client: Client) -> None:
    write(client, 1)
    client.delete_range(b"a")
    last = client.put(b"b").header.revision
    client.compact(last, physical=True)
    assert client.range(b"a", revision=last).count == 0


def test_a_key_deleted_at_the_compacted_revision_is_missing_there(client: Client) -> None:
    write(client, 1)
    deleted = client.delete_range(b"a").header.revision
    client.compact(deleted, physical=True)
    assert client.range(b"a", revision=deleted).count == 0


def test_a_key_recreated_after_a_compacted_delete_starts_at_version_1(client: Client) -> None:
    write(client, 2)
    deleted = client.delete_range(b"a").header.revision
    client.compact(deleted, physical=True)
    client.put(b"a")
    assert client.get(b"a").version == 1


def test_the_current_revision_can_be_compacted(client: Client) -> None:
    *_, last = write(client, 2)
    client.compact(last)
    assert client.get(b"a").value == b"1"


def test_a_physical_compaction_answers_like_another(client: Client) -> None:
    first, second = write(client, 2)
    assert client.compact(first, physical=True).header.revision == second


def test_compacting_the_same_revision_again_is_refused(client: Client) -> None:
    first, _ = write(client, 2)
    client.compact(first)
    with refused(COMPACTED):
        client.compact(first)


def test_compacting_an_earlier_revision_is_refused(client: Client) -> None:
    first, second, _ = write(client, 3)
    client.compact(second)
    with refused(COMPACTED):
        client.compact(first)


def test_compacting_a_physically_compacted_revision_is_refused(client: Client) -> None:
    first, _ = write(client, 2)
    client.compact(first, physical=True)
    with refused(COMPACTED):
        client.compact(first, physical=True)


def test_compacting_a_future_revision_is_refused(client: Client) -> None:
    *_, last = write(client, 2)
    with refused(FUTURE_REVISION):
        client.compact(last + 1)


def test_a_refused_compaction_changes_nothing(client: Client) -> None:
    first, second = write(client, 2)
    with refused(FUTURE_REVISION):
        client.compact(second + 1)
    assert client.get(b"a", revision=first).value == b"0"


@pytest.mark.parametrize("revision", [0, -1])
def test_compacting_no_revision_after_a_compaction_is_refused(client: Client, revision: int) -> None:
    first, _ = write(client, 2)
    client.compact(first)
    with refused(COMPACTED):
        client.compact(revision)


def test_compacting_revision_zero_of_a_new_keyspace_succeeds_once(new_client: Client) -> None:
    assert new_client.compact(0).header.revision == 1
    with refused(COMPACTED):
        new_client.compact(0)


def test_compacting_a_negative_revision_of_a_new_keyspace_is_refused(new_client: Client) -> None:
    with refused(COMPACTED):
        new_client.compact(-1)


def test_compactions_may_follow_one_another(client: Client) -> None:
    first, second, third = write(client, 3)
    client.compact(first)
    client.compact(second)
    with refused(COMPACTED):
        client.range(b"a", revision=first)
    assert client.get(b"a", revision=third).value == b"2"


def test_many_revisions_are_compacted_at_once(client: Client) -> None:
    revisions = write(client, 300)
    client.compact(revisions[250], physical=True)
    with refused(COMPACTED):
        client.range(b"a", revision=revisions[249])
    assert client.get(b"a", revision=revisions[251]).value == b"251"

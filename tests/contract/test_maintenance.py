"""Maintenance: status, alarms, hashes and defragmentation."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.endpoints.client import FROM_KEY, Client
from tests.endpoints.refusals import COMPACTED, FUTURE_REVISION, NO_SPACE, refused
from tests.endpoints.requests import delete, get, nested, put, version
from tests.endpoints.server import Endpoint

# status


def test_status_names_a_release(client: Client) -> None:
    major, minor, patch = client.status().version.split(".")
    assert (int(major), int(minor) >= 5, patch.isdigit()) == (3, True, True)


def test_status_carries_the_current_revision(client: Client) -> None:
    revision = client.put(b"a").header.revision
    assert client.status().header.revision == revision


def test_status_names_a_leader_which_is_this_member(client: Client) -> None:
    status = client.status()
    assert status.leader == status.header.member_id
    assert not status.isLearner


def test_status_tells_raft_positions(client: Client) -> None:
    status = client.status()
    assert status.raftTerm == status.header.raft_term > 0
    assert status.raftIndex >= status.raftAppliedIndex > 0


def test_status_tells_the_size_and_how_much_of_it_is_in_use(client: Client) -> None:
    client.put(b"a", b"v" * 100_000)
    status = client.status()
    assert status.dbSize >= status.dbSizeInUse > 0


@pytest.mark.since(3, 6, "status has no quota")
def test_status_tells_the_quota(client: Client) -> None:
    assert client.status().dbSizeQuota == 2 * 1024 * 1024 * 1024


@pytest.mark.since(3, 6, "status has no storage version")
def test_status_tells_the_release_of_the_storage(client: Client) -> None:
    status = client.status()
    assert status.storageVersion == ".".join([*status.version.split(".")[:2], "0"])


@pytest.mark.since(3, 6, "status has no downgrade")
def test_status_tells_that_no_downgrade_is_under_way(client: Client) -> None:
    status = client.status()
    assert status.HasField("downgradeInfo")
    assert (status.downgradeInfo.enabled, status.downgradeInfo.targetVersion) == (False, "")


def test_status_of_a_healthy_member_has_no_errors(client: Client) -> None:
    assert not client.status().errors


# alarms


def alarms(client: Client) -> list[tuple[int, int]]:
    return [(raised.memberID, raised.alarm) for raised in client.alarm("GET").alarms]


@pytest.fixture
def member(client: Client) -> int:
    """The id of the one member there is."""
    return client.member_list().members[0].ID


def test_there_is_no_alarm_at_first(client: Client) -> None:
    assert alarms(client) == []


def test_an_alarm_can_be_raised(client: Client, member: int) -> None:
    answer = client.alarm("ACTIVATE", "NOSPACE", member)
    assert [(raised.memberID, raised.alarm) for raised in answer.alarms] == [(member, 1)]
    assert alarms(client) == [(member, 1)]


def test_an_alarm_can_be_asked_for_by_kind(client: Client, member: int) -> None:
    client.alarm("ACTIVATE", "NOSPACE", member)
    assert len(client.alarm("GET", "NOSPACE").alarms) == 1
    assert len(client.alarm("GET", "CORRUPT").alarms) == 0


def test_raising_an_alarm_again_changes_nothing(client: Client, member: int) -> None:
    client.alarm("ACTIVATE", "NOSPACE", member)
    client.alarm("ACTIVATE", "NOSPACE", member)
    assert alarms(client) == [(member, 1)]


def test_raising_no_alarm_raises_none(client: Client, member: int) -> None:
    assert not client.alarm("ACTIVATE", "NONE", member).alarms
    assert alarms(client) == []


def test_an_alarm_can_be_dropped(client: Client, member: int) -> None:
    client.alarm("ACTIVATE", "NOSPACE", member)
    answer = client.alarm("DEACTIVATE", "NOSPACE", member)
    assert [(raised.memberID, raised.alarm) for raised in answer.alarms] == [(member, 1)]
    assert alarms(client) == []


def test_dropping_an_alarm_that_is_not_raised_answers_with_none(client: Client, member: int) -> None:
    assert not client.alarm("DEACTIVATE", "NOSPACE", member).alarms


def test_dropping_the_alarm_of_another_member_drops_none(client: Client, member: int) -> None:
    client.alarm("ACTIVATE", "NOSPACE", member)
    client.alarm("DEACTIVATE", "NOSPACE", 42)
    assert alarms(client) == [(member, 1)]


def test_an_alarm_may_be_of_another_member(client: Client) -> None:
    client.alarm("ACTIVATE", "NOSPACE", 42)
    assert alarms(client) == [(42, 1)]


def test_alarms_carry_the_current_revision(client: Client) -> None:
    revision = client.put(b"a").header.revision
    assert client.alarm("GET").header.revision == revision


def test_status_tells_of_alarms(client: Client, member: int) -> None:
    client.alarm("ACTIVATE", "NOSPACE", member)
    (error,) = client.status().errors
    # Go varies the space between fields on purpose
    assert error.split() == [f"memberID:{member}", "alarm:NOSPACE"]


# the alarm that says there is no space


@pytest.fixture
def full(client: Client, member: int) -> Client:
    """A keyspace with one key and the alarm."""
    client.put(b"a", b"1")
    client.alarm("ACTIVATE", "NOSPACE", member)
    return client


def test_without_space_puts_are_refused(full: Client) -> None:
    with refused(NO_SPACE):
        full.put(b"b")


def test_without_space_transactions_that_put_are_refused(full: Client) -> None:
    with refused(NO_SPACE):
        full.txn([version(b"a", "=", 1)], [put(b"a")])


def test_without_space_transactions_that_might_put_are_refused(full: Client) -> None:
    with refused(NO_SPACE):
        full.txn([version(b"a", "=", 1)], [], [put(b"a", b"v" * 1000)])


@pytest.mark.since(3, 6, "the cost of a transaction leaves out what is nested in it")
def test_without_space_transactions_that_put_in_a_nested_one_are_refused(full: Client) -> None:
    with refused(NO_SPACE):
        full.txn((), [nested((), (), (put(b"b"),))])


def test_without_space_leases_are_refused(full: Client) -> None:
    with refused(NO_SPACE):
        full.lease_grant(600)


def test_without_space_reads_work(full: Client) -> None:
    assert full.get(b"a").value == b"1"


def test_without_space_deletes_work(full: Client) -> None:
    assert full.delete_range(b"a").deleted == 1


def test_without_space_transactions_that_delete_work(full: Client) -> None:
    assert full.txn([version(b"a", "=", 1)], [delete(b"a")], [get(b"a")]).succeeded


def test_without_space_leases_can_be_revoked(client: Client, member: int) -> None:
    lease = client.lease_grant(600).ID
    client.put(b"a", lease=lease)
    client.alarm("ACTIVATE", "NOSPACE", member)
    client.lease_revoke(lease)
    assert client.range(b"a").count == 0


def test_without_space_compaction_works(full: Client) -> None:
    revision = full.revision()
    assert full.compact(revision, physical=True).header.revision == revision


def test_with_the_alarm_dropped_puts_work_again(full: Client, member: int) -> None:
    full.alarm("DEACTIVATE", "NOSPACE", member)
    full.put(b"b")
    assert full.range(b"b").count == 1


# quota


@pytest.fixture
def tiny(endpoint: Endpoint, tmp_path: Path) -> Iterator[Client]:
    """A keyspace with a quota of a mebibyte."""
    with endpoint.start(tmp_path, ["--quota-backend-bytes=1048576"]) as server, server.connect() as connection:
        yield connection


def fill(client: Client) -> int:
    """Puts 50 kB after 50 kB until one is refused; returns how many were not."""
    with refused(NO_SPACE):
        # etcd notices some time after the fact, when it has committed to its file
        for number in range(5000):
            client.put(b"%04d" % number, b"v" * 50_000)
    return number


def test_a_full_keyspace_refuses_writes_and_raises_the_alarm(tiny: Client) -> None:
    fill(tiny)
    member = tiny.status().header.member_id
    assert alarms(tiny) == [(member, 1)]


def test_a_full_keyspace_holds_most_of_what_its_quota_allows(tiny: Client) -> None:
    assert fill(tiny) >= 10


def test_a_full_keyspace_works_again_after_compaction_defragmentation_and_dropping_the_alarm(tiny: Client) -> None:
    fill(tiny)
    revision = tiny.delete_range(FROM_KEY, FROM_KEY).header.revision
    tiny.compact(revision, physical=True)
    tiny.defragment()
    for raised in tiny.alarm("GET").alarms:
        tiny.alarm("DEACTIVATE", raised.alarm, raised.memberID)
    tiny.put(b"a", b"v" * 50_000)
    assert tiny.range(b"a").count == 1


# hashes

NOTHING = 0x40A4756D
"""The hash of no records: that of the bucket's name."""


def test_the_hash_of_an_unchanged_keyspace_is_the_same(client: Client) -> None:
    client.put(b"a")
    assert client.hash_kv().hash == client.hash_kv().hash


def test_the_hash_of_a_changed_keyspace_differs(client: Client) -> None:
    client.put(b"a", b"1")
    before = client.hash_kv().hash
    client.put(b"a", b"2")
    assert client.hash_kv().hash != before


def test_the_hash_at_a_past_revision_stays_the_same(client: Client) -> None:
    revision = client.put(b"a", b"1").header.revision
    before = client.hash_kv(revision).hash
    client.put(b"a", b"2")
    assert client.hash_kv(revision).hash == before


def test_the_hash_carries_the_current_revision(client: Client) -> None:
    past = client.put(b"a").header.revision
    current = client.put(b"b").header.revision
    assert client.hash_kv(past).header.revision == current
    assert client.hash().header.revision == current


@pytest.mark.since(3, 6, "the answer has no hash_revision")
def test_the_hash_tells_the_revision_it_is_of(client: Client) -> None:
    past = client.put(b"a").header.revision
    current = client.put(b"b").header.revision
    assert (client.hash_kv(past).hash_revision, client.hash_kv().hash_revision) == (past, current)


def test_the_hash_tells_the_compacted_revision(client: Client) -> None:
    revision = client.put(b"a").header.revision
    client.put(b"a")
    client.compact(revision, physical=True)
    assert client.hash_kv().compact_revision == revision


def test_the_hash_of_a_keyspace_never_compacted_tells_minus_one(new_client: Client) -> None:
    assert new_client.hash_kv().compact_revision == -1


def test_the_hash_at_a_future_revision_is_refused(client: Client) -> None:
    with refused(FUTURE_REVISION):
        client.hash_kv(client.revision() + 1)


def test_the_hash_of_a_keyspace_that_nobody_has_written_to(new_client: Client) -> None:
    answer = new_client.hash_kv()
    assert (answer.hash, answer.header.revision) == (NOTHING, 1)


def test_the_hash_of_a_key(new_client: Client) -> None:
    new_client.put(b"a", b"1")
    assert new_client.hash_kv().hash == 0x9A396DD7


def test_the_hash_of_a_key_that_was_deleted_and_compacted_is_that_of_nothing(new_client: Client) -> None:
    new_client.put(b"a", b"1")
    revision = new_client.delete_range(b"a").header.revision
    assert new_client.hash_kv().hash != NOTHING
    new_client.compact(revision, physical=True)
    assert new_client.hash_kv().hash == NOTHING


@pytest.mark.since(3, 6, "the answer has no hash_revision")
def test_before_all_revisions_there_is_nothing_to_hash(client: Client) -> None:
    client.put(b"a")
    answer = client.hash_kv(-5)
    assert (answer.hash, answer.hash_revision) == (NOTHING, -5)


def test_the_hash_at_a_compacted_revision_is_refused(client: Client) -> None:
    past = client.put(b"a").header.revision
    client.compact(client.put(b"a").header.revision, physical=True)
    with refused(COMPACTED):
        client.hash_kv(past)


# defragmentation


def test_defragmentation_keeps_the_keys(client: Client) -> None:
    client.put(b"a", b"1")
    before = client.get(b"a")
    client.defragment()
    assert client.get(b"a") == before


def test_defragmentation_answers_with_nothing(client: Client) -> None:
    assert client.defragment().ByteSize() == 0

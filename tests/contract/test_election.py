"""The Election service: who leads is whoever's key was created first, and what it proclaims is the key's value."""

from collections.abc import Iterator

import grpc
import pytest

from fetch.api import election_pb2, kv_pb2
from tests.contract.test_requests import LIMIT
from tests.endpoints.client import Client, WatchStream
from tests.endpoints.refusals import (
    EMPTY_KEY,
    LEASE_NOT_FOUND,
    MISSING_LEADER,
    NO_LEADER,
    NOT_LEADER,
    REQUEST_TOO_LARGE,
    refused,
    without_code,
)

NAME = b"e"


@pytest.fixture
def queue(client: Client) -> Iterator[WatchStream]:
    """What happens to those who want to lead."""
    with client.watch() as watch:
        watch.create(NAME + b"/", NAME + b"0")
        yield watch


def granted(client: Client, ttl: int = 600) -> int:
    return client.lease_grant(ttl).ID


def elected(client: Client, value: bytes = b"") -> election_pb2.LeaderKey:
    return client.campaign(NAME, value, granted(client)).leader


def key_of(lease: int) -> bytes:
    return NAME + b"/%x" % lease


def wait_for(queue: WatchStream, type_: int, key: bytes) -> kv_pb2.KeyValue:
    """The next event, which is of this type and key."""
    (event,) = queue.events(1)
    assert (event.type, event.kv.key) == (type_, key)
    return event.kv


# campaign


def test_the_first_candidate_leads(client: Client) -> None:
    lease = granted(client)
    answer = client.campaign(NAME, b"one", lease)
    stored = client.get(key_of(lease))
    assert (stored.value, stored.lease) == (b"one", lease)
    assert answer.leader == election_pb2.LeaderKey(
        name=NAME, key=stored.key, rev=stored.create_revision, lease=stored.lease
    )
    assert answer.header.revision == stored.create_revision


def test_a_candidate_without_a_lease_is_granted_one_of_a_minute(client: Client) -> None:
    leader = client.campaign(NAME).leader
    assert client.get(leader.key).lease == leader.lease
    assert client.lease_time_to_live(leader.lease).grantedTTL == 60


def test_a_candidate_with_a_lease_that_there_is_not_is_refused(client: Client) -> None:
    with refused(without_code(LEASE_NOT_FOUND)):
        client.campaign(NAME, b"", 4242)


def test_a_candidate_that_is_too_large_is_refused(client: Client) -> None:
    with refused(without_code(REQUEST_TOO_LARGE)):
        client.campaign(NAME, b"v" * LIMIT, granted(client))


def test_the_leader_that_stands_again_leads_and_proclaims_its_new_value(client: Client) -> None:
    leader = elected(client, b"one")
    again = client.campaign(NAME, b"two", leader.lease)
    assert (again.leader, client.leader(NAME).kv.value) == (leader, b"two")
    assert again.header.revision == leader.rev


def test_the_leader_that_stands_again_with_the_same_value_writes_nothing(client: Client) -> None:
    leader = elected(client, b"one")
    before = client.revision()
    assert client.campaign(NAME, b"one", leader.lease).leader == leader
    assert client.revision() == before


def test_the_next_candidate_leads_once_the_leader_resigns(client: Client, queue: WatchStream) -> None:
    leader = elected(client)
    wait_for(queue, 0, leader.key)
    lease = granted(client)
    waiting = client.begin_campaign(NAME, b"next", lease)
    entered = wait_for(queue, 0, key_of(lease)).create_revision
    assert not waiting.done()
    client.resign(leader)
    answer = waiting.result()
    assert (answer.leader.key, answer.leader.rev, answer.header.revision) == (key_of(lease), entered, entered)


def test_the_next_candidate_leads_once_the_lease_of_the_leader_has_run_out(client: Client) -> None:
    client.campaign(NAME, b"", granted(client, 2))
    lease = granted(client)
    assert client.campaign(NAME, b"", lease).leader.key == key_of(lease)


def test_a_candidate_that_hangs_up_stands_no_longer(client: Client, queue: WatchStream) -> None:
    leader = elected(client)
    wait_for(queue, 0, leader.key)
    lease = granted(client)
    waiting = client.begin_campaign(NAME, b"", lease)
    wait_for(queue, 0, key_of(lease))
    waiting.cancel()
    wait_for(queue, 1, key_of(lease))


def test_a_candidate_whose_deadline_comes_stands_no_longer(client: Client, queue: WatchStream) -> None:
    leader = elected(client)
    wait_for(queue, 0, leader.key)
    lease = granted(client)
    with pytest.raises(grpc.RpcError) as caught:
        client.begin_campaign(NAME, b"", lease, timeout=0.5).result()
    assert caught.value.code() == grpc.StatusCode.DEADLINE_EXCEEDED
    wait_for(queue, 0, key_of(lease))
    wait_for(queue, 1, key_of(lease))


def test_a_candidate_that_loses_its_lease_learns_it_when_it_proclaims(client: Client, queue: WatchStream) -> None:
    leader = elected(client)
    wait_for(queue, 0, leader.key)
    lease = granted(client)
    waiting = client.begin_campaign(NAME, b"", lease)
    wait_for(queue, 0, key_of(lease))
    client.lease_revoke(lease)
    client.resign(leader)
    lost = waiting.result().leader
    with refused(NOT_LEADER):
        client.proclaim(lost, b"lost")


# proclaim, resign


def test_the_leader_proclaims_a_new_value(client: Client) -> None:
    leader = elected(client, b"one")
    revision = client.proclaim(leader, b"two").header.revision
    stored = client.get(leader.key)
    assert (stored.value, stored.mod_revision, stored.lease) == (b"two", revision, leader.lease)


def test_who_leads_no_longer_cannot_proclaim(client: Client) -> None:
    leader = elected(client)
    client.resign(leader)
    with refused(NOT_LEADER):
        client.proclaim(leader, b"two")


def test_who_names_another_revision_does_not_lead(client: Client) -> None:
    leader = elected(client, b"one")
    leader.rev += 1
    with refused(NOT_LEADER):
        client.proclaim(leader, b"two")


def test_a_leader_with_a_lease_that_there_is_not_cannot_proclaim(client: Client) -> None:
    leader = elected(client)
    leader.lease = 4242
    with refused(without_code(LEASE_NOT_FOUND)):
        client.proclaim(leader, b"two")


def test_a_leader_that_names_no_lease_is_granted_a_new_one(client: Client) -> None:
    leader = elected(client)
    before = leader.lease
    leader.lease = 0
    client.proclaim(leader, b"two")
    lease = client.get(leader.key).lease
    assert lease != before
    assert client.lease_time_to_live(lease).grantedTTL == 60


def test_nobody_cannot_proclaim_and_cannot_resign(client: Client) -> None:
    with refused(MISSING_LEADER):
        client.proclaim(None, b"two")
    with refused(MISSING_LEADER):
        client.resign(None)


def test_a_leader_without_a_key_is_refused(client: Client) -> None:
    nobody = election_pb2.LeaderKey()
    with refused(without_code(EMPTY_KEY)):
        client.proclaim(nobody, b"two")
    with refused(without_code(EMPTY_KEY)):
        client.resign(nobody)


def test_a_leader_that_resigns_leaves_no_key(client: Client) -> None:
    leader = elected(client)
    revision = client.resign(leader).header.revision
    assert revision == client.revision() == leader.rev + 1
    assert client.range(leader.key).count == 0


def test_resigning_with_another_revision_changes_nothing_and_is_no_error(client: Client) -> None:
    leader = elected(client)
    before = client.revision()
    leader.rev += 1
    assert client.resign(leader).header.revision == before
    assert client.range(leader.key).count == 1


def test_resigning_does_not_take_the_lease(client: Client) -> None:
    leader = elected(client)
    leader.lease = 4242
    client.resign(leader)
    assert client.range(leader.key).count == 0


# leader, observe


def test_the_leader_is_told_with_its_key(client: Client) -> None:
    leader = elected(client, b"one")
    revision = client.put(b"a").header.revision
    answer = client.leader(NAME)
    assert answer.kv == client.get(leader.key)
    assert answer.header.revision == revision


def test_without_candidates_there_is_no_leader(client: Client) -> None:
    client.campaign(b"another")
    with refused(NO_LEADER):
        client.leader(NAME)


def test_an_observer_is_told_who_leads_now(client: Client) -> None:
    leader = elected(client, b"one")
    revision = client.put(b"a").header.revision
    with client.observe(NAME) as observed:
        first = next(observed)
    assert (first.kv, first.header.revision) == (client.get(leader.key), revision)


def test_an_observer_hears_what_is_proclaimed_in_order(client: Client) -> None:
    leader = elected(client, b"0")
    with client.observe(NAME) as observed:
        assert next(observed).kv.value == b"0"
        for number in range(1, 50):
            client.proclaim(leader, b"%d" % number)
        heard = [next(observed).kv for _ in range(1, 50)]
    assert [kv.value for kv in heard] == [b"%d" % number for number in range(1, 50)]
    assert heard[-1].mod_revision == client.revision()


def test_an_observer_hears_of_the_first_leader_that_there_is(client: Client) -> None:
    with client.observe(NAME) as observed:
        leader = elected(client, b"one")
        first = next(observed)
    assert first.kv.value == b"one"
    assert first.header.revision >= leader.rev == first.kv.mod_revision


def test_an_observer_hears_of_the_next_leader_and_not_of_candidates(client: Client, queue: WatchStream) -> None:
    leader = elected(client, b"one")
    wait_for(queue, 0, leader.key)
    lease = granted(client)
    with client.observe(NAME) as observed:
        assert next(observed).kv.value == b"one"
        waiting = client.begin_campaign(NAME, b"two", lease)
        wait_for(queue, 0, key_of(lease))
        client.proclaim(leader, b"still one")
        assert next(observed).kv.value == b"still one"
        resigned = client.resign(leader).header.revision
        after = next(observed)
        assert (after.kv.value, after.header.revision) == (b"two", resigned)
        assert waiting.result().leader.key == key_of(lease)

"""Lease: granting, keeping alive, revoking and expiring, and what becomes of the keys."""

import contextlib

import pytest

from fetch.api import rpc_pb2
from tests.endpoints.client import FROM_KEY, Client
from tests.endpoints.refusals import LEASE_EXISTS, LEASE_NOT_FOUND, LEASE_TTL_TOO_LARGE, refused

UNKNOWN = 4711


def attached(client: Client, lease: int) -> list[bytes]:
    """The keys of a lease; in which order etcd lists them is left to chance."""
    return sorted(client.lease_time_to_live(lease, keys=True).keys)


def leases(client: Client) -> list[int]:
    return [status.ID for status in client.lease_leases().leases]


def keep_alive(client: Client, lease: int) -> rpc_pb2.LeaseKeepAliveResponse:
    with client.lease_keep_alive() as stream:
        stream.send(rpc_pb2.LeaseKeepAliveRequest(ID=lease))
        return stream.receive()


# grant


def test_a_grant_answers_with_the_lease(client: Client) -> None:
    revision = client.revision()
    granted = client.lease_grant(600, 77)
    assert (granted.ID, granted.TTL, granted.error, granted.header.revision) == (77, 600, "", revision)


def test_a_grant_takes_no_revision(client: Client) -> None:
    before = client.revision()
    client.lease_grant(600)
    assert client.revision() == before


def test_a_grant_without_an_id_is_given_a_positive_one(client: Client) -> None:
    assert client.lease_grant(600).ID > 0


def test_grants_without_an_id_are_given_different_ones(client: Client) -> None:
    assert len({client.lease_grant(600).ID for _ in range(10)}) == 10


def test_an_id_that_is_in_use_is_refused(client: Client) -> None:
    client.lease_grant(600, 77)
    with refused(LEASE_EXISTS):
        client.lease_grant(600, 77)


def test_a_refused_grant_leaves_the_lease_as_it_is(client: Client) -> None:
    client.lease_grant(600, 77)
    with refused(LEASE_EXISTS):
        client.lease_grant(900, 77)
    assert client.lease_time_to_live(77).grantedTTL == 600


def test_an_id_is_free_again_after_revoking(client: Client) -> None:
    client.lease_grant(600, 77)
    client.lease_revoke(77)
    assert client.lease_grant(600, 77).ID == 77


@pytest.mark.parametrize("lease", [-1, 2**63 - 1, -(2**63)])
def test_any_number_but_zero_is_an_id(client: Client, lease: int) -> None:
    client.lease_grant(600, lease)
    answer = client.lease_time_to_live(lease)
    assert (answer.ID, answer.grantedTTL) == (lease, 600)


def test_the_largest_time_to_live_is_granted(client: Client) -> None:
    assert client.lease_grant(9_000_000_000).TTL == 9_000_000_000


def test_a_larger_time_to_live_is_refused(client: Client) -> None:
    with refused(LEASE_TTL_TOO_LARGE):
        client.lease_grant(9_000_000_001)


@pytest.mark.parametrize("seconds", [1, 0, -1])
def test_a_time_to_live_that_is_too_short_is_made_two_seconds(client: Client, seconds: int) -> None:
    assert client.lease_grant(seconds).TTL == 2


# time to live


def test_time_to_live_tells_what_was_granted_and_what_remains(client: Client) -> None:
    client.lease_grant(600, 77)
    answer = client.lease_time_to_live(77)
    assert (answer.ID, answer.grantedTTL) == (77, 600)
    assert 570 <= answer.TTL < 600


def test_time_to_live_of_an_unknown_lease_is_minus_one(client: Client) -> None:
    answer = client.lease_time_to_live(UNKNOWN)
    assert (answer.ID, answer.TTL, answer.grantedTTL) == (UNKNOWN, -1, 0)


def test_time_to_live_lists_the_keys_when_asked(client: Client) -> None:
    lease = client.lease_grant(600).ID
    client.put(b"a", lease=lease)
    client.put(b"b", lease=lease)
    assert attached(client, lease) == [b"a", b"b"]


def test_time_to_live_lists_no_keys_unless_asked(client: Client) -> None:
    lease = client.lease_grant(600).ID
    client.put(b"a", lease=lease)
    assert not client.lease_time_to_live(lease).keys


# list


def test_the_list_names_every_lease(client: Client) -> None:
    granted = {client.lease_grant(600).ID for _ in range(3)}
    assert set(leases(client)) == granted


def test_the_list_names_the_lease_that_ends_first_first(client: Client) -> None:
    client.lease_grant(900, 1)
    client.lease_grant(300, 2)
    client.lease_grant(600, 3)
    assert leases(client) == [2, 3, 1]


def test_the_list_names_no_revoked_lease(client: Client) -> None:
    client.lease_grant(600, 77)
    client.lease_revoke(77)
    assert leases(client) == []


# keys


def test_a_put_attaches_its_key(client: Client) -> None:
    lease = client.lease_grant(600).ID
    client.put(b"a", lease=lease)
    assert client.get(b"a").lease == lease


def test_a_put_with_another_lease_moves_the_key(client: Client) -> None:
    one, other = client.lease_grant(600).ID, client.lease_grant(600).ID
    client.put(b"a", lease=one)
    client.put(b"a", lease=other)
    assert (attached(client, one), attached(client, other)) == ([], [b"a"])


def test_a_put_without_a_lease_detaches_the_key(client: Client) -> None:
    lease = client.lease_grant(600).ID
    client.put(b"a", lease=lease)
    client.put(b"a")
    assert (attached(client, lease), client.get(b"a").lease) == ([], 0)


def test_a_delete_detaches_the_key(client: Client) -> None:
    lease = client.lease_grant(600).ID
    client.put(b"a", lease=lease)
    client.delete_range(b"a")
    assert attached(client, lease) == []


def test_a_put_with_the_same_lease_keeps_the_key_attached(client: Client) -> None:
    lease = client.lease_grant(600).ID
    client.put(b"a", lease=lease)
    client.put(b"a", lease=lease)
    assert attached(client, lease) == [b"a"]


# revoke


def test_a_revoke_deletes_the_keys(client: Client) -> None:
    lease = client.lease_grant(600).ID
    client.put(b"a", lease=lease)
    client.put(b"b")
    client.lease_revoke(lease)
    assert [found.key for found in client.range(FROM_KEY, FROM_KEY).kvs] == [b"b"]


def test_a_revoke_of_a_lease_with_keys_takes_one_revision(client: Client) -> None:
    lease = client.lease_grant(600).ID
    client.put(b"a", lease=lease)
    revision = client.put(b"b", lease=lease).header.revision
    assert client.lease_revoke(lease).header.revision == revision + 1
    assert client.revision() == revision + 1


def test_a_revoke_of_a_lease_without_keys_takes_no_revision(client: Client) -> None:
    lease = client.lease_grant(600).ID
    revision = client.put(b"a").header.revision
    assert client.lease_revoke(lease).header.revision == revision
    assert client.revision() == revision


def test_a_revoke_spares_keys_that_were_detached(client: Client) -> None:
    lease = client.lease_grant(600).ID
    client.put(b"a", lease=lease)
    client.put(b"a")
    client.lease_revoke(lease)
    assert client.range(b"a").count == 1


def test_a_revoke_spares_keys_that_were_moved(client: Client) -> None:
    one, other = client.lease_grant(600).ID, client.lease_grant(600).ID
    client.put(b"a", lease=one)
    client.put(b"a", lease=other)
    client.lease_revoke(one)
    assert client.get(b"a").lease == other


def test_a_revoked_lease_is_unknown(client: Client) -> None:
    lease = client.lease_grant(600).ID
    client.lease_revoke(lease)
    assert client.lease_time_to_live(lease).TTL == -1


def test_a_put_with_a_revoked_lease_is_refused(client: Client) -> None:
    lease = client.lease_grant(600).ID
    client.lease_revoke(lease)
    with refused(LEASE_NOT_FOUND):
        client.put(b"a", lease=lease)


def test_a_revoke_of_an_unknown_lease_is_refused(client: Client) -> None:
    with refused(LEASE_NOT_FOUND):
        client.lease_revoke(UNKNOWN)


def test_a_lease_with_many_keys_is_revoked_at_one_revision(client: Client) -> None:
    lease = client.lease_grant(600).ID
    for number in range(300):
        client.put(b"%03d" % number, lease=lease)
    before = client.revision()
    client.lease_revoke(lease)
    assert (client.range(FROM_KEY, FROM_KEY).count, client.revision()) == (0, before + 1)


# keep alive


def test_keep_alive_answers_with_the_granted_time_to_live(client: Client) -> None:
    revision = client.put(b"a").header.revision
    client.lease_grant(600, 77)
    answer = keep_alive(client, 77)
    assert (answer.ID, answer.TTL, answer.header.revision) == (77, 600, revision)


def test_keep_alive_of_an_unknown_lease_answers_with_zero(client: Client) -> None:
    answer = keep_alive(client, UNKNOWN)
    assert (answer.ID, answer.TTL) == (UNKNOWN, 0)


def test_keep_alive_of_a_revoked_lease_answers_with_zero(client: Client) -> None:
    lease = client.lease_grant(600).ID
    client.lease_revoke(lease)
    assert keep_alive(client, lease).TTL == 0


def test_one_stream_keeps_several_leases_alive(client: Client) -> None:
    client.lease_grant(600, 1)
    client.lease_grant(900, 2)
    with client.lease_keep_alive() as stream:
        for lease in (1, 2, UNKNOWN, 1):
            stream.send(rpc_pb2.LeaseKeepAliveRequest(ID=lease))
        answers = [stream.receive() for _ in range(4)]
    assert [(answer.ID, answer.TTL) for answer in answers] == [(1, 600), (2, 900), (UNKNOWN, 0), (1, 600)]


def test_keepalives_that_are_sent_at_once_are_answered_in_their_order(client: Client) -> None:
    for lease in range(1, 8):
        client.lease_grant(600 + lease, lease)
    sent = [lease for _ in range(50) for lease in (3, 1, UNKNOWN, 7, 7, 2)]
    with client.lease_keep_alive() as stream:
        for lease in sent:
            stream.send(rpc_pb2.LeaseKeepAliveRequest(ID=lease))
        answers = [stream.receive() for _ in sent]
    assert [(answer.ID, answer.TTL) for answer in answers] == [
        (lease, 0 if lease == UNKNOWN else 600 + lease) for lease in sent
    ]


def test_a_client_that_has_said_all_gets_all_its_answers(client: Client) -> None:
    client.lease_grant(600, 77)
    with client.lease_keep_alive() as stream:
        for _ in range(200):
            stream.send(rpc_pb2.LeaseKeepAliveRequest(ID=77))
        stream.end_requests()
        assert [answer.TTL for answer in stream] == [600] * 200


def test_keepalives_on_many_streams_are_all_answered(client: Client) -> None:
    with contextlib.ExitStack() as stack:
        streams = [stack.enter_context(client.lease_keep_alive()) for _ in range(20)]
        for lease, stream in enumerate(streams, 1):
            client.lease_grant(600, lease)
            for _ in range(10):
                stream.send(rpc_pb2.LeaseKeepAliveRequest(ID=lease))
        answers = [[stream.receive().ID for _ in range(10)] for stream in streams]
    assert answers == [[lease] * 10 for lease in range(1, 21)]


def test_a_keepalive_answered_with_zero_ends_no_stream(client: Client) -> None:
    client.lease_grant(600, 77)
    with client.lease_keep_alive() as stream:
        for lease, ttl in ((0, 0), (UNKNOWN, 0), (77, 600)):
            stream.send(rpc_pb2.LeaseKeepAliveRequest(ID=lease))
            assert ttl == stream.receive().TTL


def test_the_stream_ends_when_the_client_has_said_all(client: Client) -> None:
    client.lease_grant(600, 77)
    with client.lease_keep_alive() as stream:
        stream.send(rpc_pb2.LeaseKeepAliveRequest(ID=77))
        stream.end_requests()
        assert [answer.ID for answer in stream] == [77]


def test_a_lease_that_is_kept_alive_outlives_its_time(client: Client) -> None:
    client.lease_grant(2, 1)
    client.lease_grant(2, 2)
    client.put(b"kept", lease=1)
    client.put(b"left", lease=2)
    with client.watch() as watch, client.lease_keep_alive() as stream:
        watch.create(b"left")
        watch.create(b"ticks", progress_notify=True)
        expired = False
        while not expired:
            stream.send(rpc_pb2.LeaseKeepAliveRequest(ID=1))
            assert stream.receive().TTL == 2
            # notifications of progress pace the keeping alive
            expired = bool(watch.receive().events)
    assert client.range(b"kept").count == 1


# expiry


def test_an_expired_lease_takes_its_keys_and_itself_away(client: Client) -> None:
    lease = client.lease_grant(1).ID
    client.put(b"a", lease=lease)
    client.put(b"b", lease=lease)
    client.put(b"c")
    before = client.revision()
    with client.watch() as watch:
        watch.create(b"a", b"z")
        events = watch.events(2)
    assert {event.kv.mod_revision for event in events} == {before + 1}
    assert [found.key for found in client.range(FROM_KEY, FROM_KEY).kvs] == [b"c"]
    assert leases(client) == []

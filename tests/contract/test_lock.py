"""The Lock service: a lock is had by whoever's key was created first."""

from collections.abc import Iterator

import grpc
import pytest

from fetch.api import kv_pb2
from tests.endpoints.client import Client, WatchStream
from tests.endpoints.refusals import EMPTY_KEY, LEASE_NOT_FOUND, NO_SPACE, SESSION_EXPIRED, refused, without_code
from tests.endpoints.requests import put

NAME = b"x"


@pytest.fixture
def queue(client: Client) -> Iterator[WatchStream]:
    """What happens to those who want the lock."""
    with client.watch() as watch:
        watch.create(NAME + b"/", NAME + b"0")
        yield watch


def granted(client: Client, ttl: int = 600) -> int:
    return client.lease_grant(ttl).ID


def key_of(lease: int) -> bytes:
    return NAME + b"/%x" % lease


def wait_for(queue: WatchStream, type_: int, key: bytes) -> kv_pb2.KeyValue:
    """The next event, which is of this type and key."""
    (event,) = queue.events(1)
    assert (event.type, event.kv.key) == (type_, key)
    return event.kv


def test_a_free_lock_is_taken(client: Client) -> None:
    lease = granted(client)
    taken = client.lock(NAME, lease)
    held = client.get(key_of(lease))
    assert (taken.key, held.lease, held.value) == (held.key, lease, b"")
    assert taken.header.revision == held.create_revision


def test_a_lock_without_a_lease_is_granted_one_of_a_minute(client: Client) -> None:
    held = client.get(client.lock(NAME).key)
    assert held.key == key_of(held.lease)
    assert client.lease_time_to_live(held.lease).grantedTTL == 60


def test_a_lock_may_have_no_name(client: Client) -> None:
    lease = granted(client)
    assert client.lock(b"", lease).key == b"/%x" % lease


def test_taking_a_lock_again_with_the_same_lease_changes_nothing(client: Client) -> None:
    lease = granted(client)
    client.lock(NAME, lease)
    before = client.revision()
    assert client.lock(NAME, lease).key == key_of(lease)
    assert client.revision() == before


@pytest.mark.parametrize("lease", [4242, -1])
def test_a_lock_with_a_lease_that_there_is_not_is_refused(client: Client, lease: int) -> None:
    with refused(without_code(LEASE_NOT_FOUND)):
        client.lock(NAME, lease)


def test_without_space_a_lock_is_refused(client: Client) -> None:
    lease = granted(client)
    client.alarm("ACTIVATE", "NOSPACE", client.member_list().members[0].ID)
    with refused(without_code(NO_SPACE)):
        client.lock(NAME, lease)
    with refused(without_code(NO_SPACE)):
        client.lock(NAME)


def test_who_waits_has_the_lock_once_it_is_unlocked(client: Client, queue: WatchStream) -> None:
    first, second = granted(client), granted(client)
    client.lock(NAME, first)
    waiting = client.begin_lock(NAME, second)
    wait_for(queue, 0, key_of(first))
    wait_for(queue, 0, key_of(second))
    client.put(b"something else")
    assert not waiting.done()
    unlocked = client.unlock(key_of(first)).header.revision
    assert waiting.result().key == key_of(second)
    assert waiting.result().header.revision == unlocked


def test_those_who_wait_have_the_lock_in_the_order_in_which_they_came(client: Client, queue: WatchStream) -> None:
    leases = [granted(client) for _ in range(4)]
    calls = []
    for lease in leases:
        calls.append(client.begin_lock(NAME, lease))
        wait_for(queue, 0, key_of(lease))
    for position, lease in enumerate(leases):
        assert calls[position].result().key == key_of(lease)
        assert not any(call.done() for call in calls[position + 1 :])
        client.unlock(key_of(lease))


def test_who_waits_has_the_lock_once_the_lease_of_its_holder_has_run_out(client: Client) -> None:
    client.lock(NAME, granted(client, 2))
    lease = granted(client)
    assert client.lock(NAME, lease).key == key_of(lease)


def test_one_in_the_middle_that_gives_up_lets_nobody_pass(client: Client, queue: WatchStream) -> None:
    leases = [granted(client) for _ in range(3)]
    calls = []
    for lease in leases:
        calls.append(client.begin_lock(NAME, lease))
        wait_for(queue, 0, key_of(lease))
    calls[1].cancel()
    wait_for(queue, 1, key_of(leases[1]))
    assert calls[0].result().key == key_of(leases[0])
    assert not calls[2].done()
    client.unlock(key_of(leases[0]))
    assert calls[2].result().key == key_of(leases[2])


def test_the_key_of_one_who_waits_and_hangs_up_is_deleted(client: Client, queue: WatchStream) -> None:
    client.put(NAME + b"/held")
    wait_for(queue, 0, NAME + b"/held")
    lease = granted(client)
    waiting = client.begin_lock(NAME, lease)
    wait_for(queue, 0, key_of(lease))
    waiting.cancel()
    wait_for(queue, 1, key_of(lease))


def test_the_key_of_one_whose_deadline_comes_is_deleted_and_its_lease_stays(client: Client, queue: WatchStream) -> None:
    client.put(NAME + b"/held")
    wait_for(queue, 0, NAME + b"/held")
    lease = granted(client)
    with pytest.raises(grpc.RpcError) as caught:
        client.begin_lock(NAME, lease, timeout=0.5).result()
    assert caught.value.code() == grpc.StatusCode.DEADLINE_EXCEEDED
    wait_for(queue, 0, key_of(lease))
    wait_for(queue, 1, key_of(lease))
    assert client.lease_time_to_live(lease).TTL > 0


def test_who_loses_its_lease_while_it_waits_is_told_when_its_turn_comes(client: Client, queue: WatchStream) -> None:
    first, second = granted(client), granted(client)
    client.lock(NAME, first)
    waiting = client.begin_lock(NAME, second)
    wait_for(queue, 0, key_of(first))
    wait_for(queue, 0, key_of(second))
    client.lease_revoke(second)
    client.unlock(key_of(first))
    with refused(SESSION_EXPIRED):
        waiting.result()


def test_what_a_client_has_put_into_the_queue_by_itself_is_waited_for(client: Client, queue: WatchStream) -> None:
    client.put(NAME + b"/mine")
    wait_for(queue, 0, NAME + b"/mine")
    lease = granted(client)
    waiting = client.begin_lock(NAME, lease)
    wait_for(queue, 0, key_of(lease))
    client.put(NAME + b"/mine", b"changed")
    client.put(NAME + b"/later")
    assert not waiting.done()
    client.delete_range(NAME + b"/mine")
    assert waiting.result().key == key_of(lease)


def test_who_stands_in_the_queue_by_the_same_revision_is_not_waited_for(client: Client) -> None:
    lease = granted(client)
    client.txn((), [put(key_of(lease), lease=lease), put(NAME + b"/0")])
    assert client.lock(NAME, lease).key == key_of(lease)


def test_locks_of_other_names_are_not_waited_for(client: Client) -> None:
    for name in (b"w", b"xx", b"x/y", b""):
        client.lock(name)
    lease = granted(client)
    client.delete_range(b"x/y/", b"x/y0")
    assert client.lock(NAME, lease).key == key_of(lease)


def test_unlocking_what_is_not_locked_is_no_error(client: Client) -> None:
    before = client.revision()
    assert client.unlock(b"no such key").header.revision == before


def test_unlocking_without_a_key_is_refused(client: Client) -> None:
    with refused(without_code(EMPTY_KEY)):
        client.unlock(b"")


def test_what_is_no_message_is_refused(client: Client) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        client.call_raw("/v3lockpb.Lock/Lock", b"\xff\xff")
    assert caught.value.code() == grpc.StatusCode.INTERNAL

"""Tenants: one server, and nothing of one is seen by another."""

from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from tests.endpoints.client import FROM_KEY, Client
from tests.endpoints.fetch import FetchServer
from tests.endpoints.refusals import LEASE_NOT_FOUND, NO_SPACE, refused


@pytest.fixture
def two(fetch: FetchServer) -> Iterator[tuple[Client, Client]]:
    """Two tenants' connections."""
    with fetch.empty_keyspace() as one, fetch.empty_keyspace() as other:
        yield one, other


def test_a_key_of_one_is_not_the_key_of_another(two: tuple[Client, Client]) -> None:
    one, other = two
    one.put(b"a", b"one")
    other.put(b"a", b"other")
    assert (one.get(b"a").value, other.get(b"a").value) == (b"one", b"other")


def test_a_tenant_lists_only_its_own_keys(two: tuple[Client, Client]) -> None:
    one, other = two
    one.put(b"a")
    assert other.range(FROM_KEY, FROM_KEY).count == 0


def test_each_has_revisions_of_its_own(two: tuple[Client, Client]) -> None:
    one, other = two
    for _ in range(5):
        one.put(b"a")
    assert (one.revision(), other.revision()) == (6, 1)


def test_a_delete_of_everything_spares_others(two: tuple[Client, Client]) -> None:
    one, other = two
    one.put(b"a")
    other.put(b"a")
    assert one.delete_range(FROM_KEY, FROM_KEY).deleted == 1
    assert other.range(b"a").count == 1


def test_a_watch_of_everything_sees_nothing_of_others(two: tuple[Client, Client]) -> None:
    one, other = two
    with one.watch() as watch:
        watch.create(FROM_KEY, FROM_KEY)
        other.put(b"other")
        one.put(b"own")
        assert [event.kv.key for event in watch.receive().events] == [b"own"]


def test_a_lease_of_one_is_unknown_to_another(two: tuple[Client, Client]) -> None:
    one, other = two
    one.lease_grant(600, 77)
    assert other.lease_time_to_live(77).TTL == -1
    assert not other.lease_leases().leases
    with refused(LEASE_NOT_FOUND):
        other.lease_revoke(77)


def test_both_may_have_a_lease_of_the_same_id(two: tuple[Client, Client]) -> None:
    one, other = two
    for tenant in two:
        tenant.lease_grant(600, 77)
        tenant.put(b"a", lease=77)
    one.lease_revoke(77)
    assert (one.range(b"a").count, other.range(b"a").count) == (0, 1)


def test_a_compaction_of_one_leaves_the_past_of_another(two: tuple[Client, Client]) -> None:
    one, other = two
    for tenant in two:
        tenant.put(b"a", b"1")
        tenant.put(b"a", b"2")
    one.compact(3, physical=True)
    assert other.get(b"a", revision=2).value == b"1"


def test_an_alarm_of_one_does_not_stop_another(two: tuple[Client, Client]) -> None:
    one, other = two
    one.alarm("ACTIVATE", "NOSPACE", one.status().header.member_id)
    other.put(b"a")
    assert not other.alarm("GET").alarms
    with refused(NO_SPACE):
        one.put(b"a")


def test_each_is_a_cluster_of_its_own(two: tuple[Client, Client]) -> None:
    one, other = two
    assert one.put(b"a").header.cluster_id != other.put(b"a").header.cluster_id


def test_two_connections_of_one_certificate_share_a_tenant(fetch: FetchServer) -> None:
    name = fetch.endpoint.new_tenant()
    with fetch.connect_as(name) as one, fetch.connect_as(name) as other:
        one.put(b"a", b"1")
        assert other.get(b"a").value == b"1"


def test_names_that_begin_alike_are_different_tenants(fetch: FetchServer) -> None:
    name = f"{fetch.endpoint.new_tenant()}-name"
    with fetch.connect_as(name) as one, fetch.connect_as(f"{name}s") as other, fetch.connect_as(name[:-1]) as less:
        one.put(b"a")
        assert (other.range(FROM_KEY, FROM_KEY).count, less.range(FROM_KEY, FROM_KEY).count) == (0, 0)


def test_many_tenants_are_served_side_by_side(fetch: FetchServer) -> None:
    with ExitStack() as stack:
        tenants = [stack.enter_context(fetch.empty_keyspace()) for _ in range(50)]
        for number, tenant in enumerate(tenants):
            tenant.put(b"a", b"%d" % number)
        assert [tenant.get(b"a").value for tenant in tenants] == [b"%d" % number for number in range(50)]

"""Headers: who answered, and at which revision."""

from collections.abc import Callable

import pytest

from fetch.api import rpc_pb2
from tests.endpoints import requests as op
from tests.endpoints.client import Client

Call = Callable[[Client], rpc_pb2.ResponseHeader]


def watch(client: Client) -> rpc_pb2.ResponseHeader:
    with client.watch() as stream:
        return stream.create(b"a").header


def keep_alive(client: Client) -> rpc_pb2.ResponseHeader:
    with client.lease_keep_alive() as stream:
        stream.send(rpc_pb2.LeaseKeepAliveRequest(ID=1))
        return stream.receive().header


READS: dict[str, Call] = {
    "range": lambda client: client.range(b"a").header,
    "missing": lambda client: client.range(b"zz").header,
    "count": lambda client: client.range(b"a", b"z", count_only=True).header,
    "serializable": lambda client: client.range(b"a", serializable=True).header,
    "read-only txn": lambda client: client.txn((), [op.get(b"a")]).header,
    "failed txn": lambda client: client.txn([op.version(b"a", "=", 99)], [op.put(b"a")]).header,
    "delete of nothing": lambda client: client.delete_range(b"zz").header,
    "watch": watch,
    "grant": lambda client: client.lease_grant(600).header,
    "keep alive": keep_alive,
    "time to live": lambda client: client.lease_time_to_live(1).header,
    "leases": lambda client: client.lease_leases().header,
    "status": lambda client: client.status().header,
    "alarm": lambda client: client.alarm("GET").header,
    "hash": lambda client: client.hash().header,
    "hash of keys": lambda client: client.hash_kv().header,
}

WRITES: dict[str, Call] = {
    "put": lambda client: client.put(b"a").header,
    "delete": lambda client: client.delete_range(b"b").header,
    "txn": lambda client: client.txn((), [op.put(b"a"), op.put(b"c")]).header,
    "revoke": lambda client: client.lease_revoke(1).header,
}


@pytest.fixture
def filled(client: Client) -> Client:
    """Keys a and b, and c with lease 1."""
    client.lease_grant(600, 1)
    client.put(b"a")
    client.put(b"b")
    client.put(b"c", lease=1)
    return client


@pytest.mark.parametrize("call", READS.values(), ids=READS.keys())
def test_what_writes_nothing_carries_the_revision_of_the_last_write(filled: Client, call: Call) -> None:
    last = filled.put(b"a").header.revision
    assert call(filled).revision == last


@pytest.mark.parametrize("call", WRITES.values(), ids=WRITES.keys())
def test_what_writes_carries_the_next_revision(filled: Client, call: Call) -> None:
    last = filled.put(b"a").header.revision
    assert call(filled).revision == last + 1


@pytest.mark.parametrize("call", WRITES.values(), ids=WRITES.keys())
def test_a_read_after_a_write_carries_its_revision(filled: Client, call: Call) -> None:
    written = call(filled).revision
    assert filled.range(b"a").header.revision == written


EVERY = {**READS, **WRITES, "members": lambda client: client.member_list().header}


@pytest.mark.parametrize("call", EVERY.values(), ids=EVERY.keys())
def test_every_answer_names_the_same_cluster_and_member(filled: Client, call: Call) -> None:
    expected = filled.put(b"a").header
    header = call(filled)
    assert (header.cluster_id, header.member_id) == (expected.cluster_id, expected.member_id)
    assert header.cluster_id
    assert header.member_id


@pytest.mark.parametrize("call", EVERY.values(), ids=EVERY.keys())
def test_every_answer_names_a_raft_term(filled: Client, call: Call) -> None:
    assert call(filled).raft_term > 0


def test_a_keyspace_that_nobody_has_written_to_is_at_revision_1(new_client: Client) -> None:
    assert new_client.range(b"a").header.revision == 1


def test_a_keyspace_that_nobody_has_written_to_has_no_keys(new_client: Client) -> None:
    assert new_client.range(b"\0", b"\0").count == 0


def test_the_first_write_is_revision_2(new_client: Client) -> None:
    assert new_client.put(b"a").header.revision == 2


def test_revision_1_can_be_read_after_the_first_write(new_client: Client) -> None:
    new_client.put(b"a")
    assert new_client.range(b"a", revision=1).count == 0


def test_a_watch_from_revision_1_sees_everything(new_client: Client) -> None:
    for name in (b"a", b"b"):
        new_client.put(name)
    with new_client.watch() as stream:
        stream.create(b"\0", b"\0", start_revision=1)
        assert [event.kv.mod_revision for event in stream.events(2)] == [2, 3]

"""Calls that wait for a lock or for the lead, where fetch differs from etcd or has more to end them."""

from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest

from tests.endpoints.client import Client
from tests.endpoints.fetch import STORES, FetchServer
from tests.endpoints.refusals import Refusal, refused

STOPPED = Refusal(grpc.StatusCode.UNAVAILABLE, "etcdserver: server stopped")


@pytest.fixture
def client(fetch: FetchServer) -> Iterator[Client]:
    with fetch.empty_keyspace() as connection:
        yield connection


def enter(client: Client, name: bytes) -> bytes:
    """Has a candidate in a queue, before all others."""
    client.put(name + b"/held")
    return name + b"/held"


def wait_for_put(client: Client, key: bytes) -> None:
    with client.watch() as watch:
        watch.create(key, start_revision=1)
        watch.events(1)


def test_a_compaction_does_not_end_the_wait_for_a_lock(client: Client) -> None:
    # etcd tells a call that it has been compacted, if its watch begins behind the compaction
    held, lease = enter(client, b"x"), client.lease_grant(600).ID
    waiting = client.begin_lock(b"x", lease)
    wait_for_put(client, b"x/%x" % lease)
    client.compact(client.put(b"a").header.revision, physical=True)
    client.unlock(held)
    assert waiting.result().key == b"x/%x" % lease


def test_a_compaction_does_not_end_an_observer(client: Client) -> None:
    # etcd ends the stream, if its watch begins behind the compaction
    leader = client.campaign(b"e", b"one").leader
    with client.observe(b"e") as observed:
        next(observed)
        client.compact(client.put(b"a").header.revision, physical=True)
        client.proclaim(leader, b"two")
        while next(observed).kv.value != b"two":  # who leads may be told again
            pass


def test_a_daemon_that_stops_ends_those_who_wait_and_takes_them_out_of_the_queue(tmp_path: Path) -> None:
    embedded = STORES[0]
    with embedded.start(tmp_path) as server, server.connect() as client:
        enter(client, b"x")
        lease = client.lease_grant(600).ID
        waiting = client.begin_lock(b"x", lease)
        wait_for_put(client, b"x/%x" % lease)
        server.process.stop()
        with refused(STOPPED):
            waiting.result()
    with embedded.start(tmp_path) as server, server.connect() as client:
        assert [kv.key for kv in client.range(b"x/", b"x0").kvs] == [b"x/held"]


def test_many_who_wait_have_the_lock_one_after_the_other(client: Client) -> None:
    held = enter(client, b"x")
    waiting = [client.begin_lock(b"x") for _ in range(100)]
    while client.range(b"x/", b"x0", count_only=True).count <= len(waiting):
        pass
    client.unlock(held)
    order = []
    while waiting:
        for done in [call for call in waiting if call.done()]:
            waiting.remove(done)
            order.append(client.get(done.result().key).create_revision)
            client.unlock(done.result().key)
    assert order == sorted(order)

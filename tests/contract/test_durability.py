"""What a server still knows after it was stopped, or killed."""

import itertools
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import grpc
import pytest

from tests.endpoints.client import FROM_KEY, Client
from tests.endpoints.refusals import COMPACTED, refused
from tests.endpoints.server import Endpoint, Server


@pytest.fixture
def restarts(endpoint: Endpoint, tmp_path: Path) -> "Restarts":
    if not endpoint.is_durable:
        pytest.skip("what the daemon has in its own memory ends with it")
    return Restarts(endpoint, tmp_path)


class Restarts:
    """One server after another over the same data."""

    def __init__(self, endpoint: Endpoint, directory: Path) -> None:
        self._endpoint = endpoint
        self._directory = directory

    @contextmanager
    def running(self) -> Iterator[tuple[Server, Client]]:
        """A server, and a connection to the same keyspace each time. It is stopped at the end of the block."""
        with self._endpoint.start(self._directory) as server, server.connect() as client:
            yield server, client


def test_keys_survive_a_restart(restarts: Restarts) -> None:
    with restarts.running() as (_, client):
        client.put(b"a", b"1")
        client.put(b"a", b"2", lease=client.lease_grant(600).ID)
        before = client.get(b"a")
    with restarts.running() as (_, client):
        assert client.get(b"a") == before


def test_the_revision_survives_a_restart(restarts: Restarts) -> None:
    with restarts.running() as (_, client):
        client.put(b"a")
        revision = client.delete_range(b"a").header.revision
    with restarts.running() as (_, client):
        assert client.revision() == revision
        assert client.put(b"a").header.revision == revision + 1


def test_the_past_survives_a_restart(restarts: Restarts) -> None:
    with restarts.running() as (_, client):
        past = client.put(b"a", b"1").header.revision
        client.put(b"a", b"2")
    with restarts.running() as (_, client):
        assert client.get(b"a", revision=past).value == b"1"


def test_a_watch_after_a_restart_sees_what_was_before(restarts: Restarts) -> None:
    with restarts.running() as (_, client):
        start = client.put(b"a", b"1").header.revision
        client.delete_range(b"a")
    with restarts.running() as (_, client), client.watch() as watch:
        watch.create(b"a", start_revision=start)
        client.put(b"a", b"2")
        assert [event.kv.value for event in watch.events(3)] == [b"1", b"", b"2"]


def test_a_compaction_survives_a_restart(restarts: Restarts) -> None:
    with restarts.running() as (_, client):
        past = client.put(b"a", b"1").header.revision
        client.compact(client.put(b"a", b"2").header.revision, physical=True)
    with restarts.running() as (_, client), refused(COMPACTED):
        client.get(b"a", revision=past)


def test_leases_and_their_keys_survive_a_restart(restarts: Restarts) -> None:
    with restarts.running() as (_, client):
        client.lease_grant(600, 77)
        client.put(b"a", lease=77)
    with restarts.running() as (_, client):
        answer = client.lease_time_to_live(77, keys=True)
        assert (answer.grantedTTL, list(answer.keys)) == (600, [b"a"])


def test_a_lease_expires_after_a_restart(restarts: Restarts) -> None:
    with restarts.running() as (_, client):
        revision = client.put(b"a", lease=client.lease_grant(2).ID).header.revision
    with restarts.running() as (_, client), client.watch() as watch:
        watch.create(b"a", start_revision=revision + 1)
        (event,) = watch.events(1)
    assert (event.type, event.kv.key) == (1, b"a")


def test_a_lease_has_its_time_anew_after_a_kill(restarts: Restarts, endpoint: Endpoint) -> None:
    if endpoint.name == "fetch-fdb":
        pytest.skip("others may serve: that nobody did is known six seconds later, and this is one")
    with restarts.running() as (server, client), client.watch() as watch:
        client.lease_grant(6, 77)
        watch.create(b"passed")
        client.put(b"passed", lease=client.lease_grant(3).ID)
        watch.events(2)  # three seconds have gone by
        assert client.lease_time_to_live(77).TTL <= 3
        server.process.kill()
    with restarts.running() as (_, client):
        assert client.lease_time_to_live(77).TTL >= 4


def test_an_alarm_survives_a_restart(restarts: Restarts) -> None:
    with restarts.running() as (_, client):
        member = client.member_list().members[0].ID
        client.alarm("ACTIVATE", "NOSPACE", member)
    with restarts.running() as (_, client):
        assert [raised.memberID for raised in client.alarm("GET").alarms] == [member]


def test_the_cluster_is_the_same_after_a_restart(restarts: Restarts, endpoint: Endpoint) -> None:
    if endpoint.name == "fetch-fdb":
        pytest.skip("a member is its URLs, and this one has others after a restart")
    with restarts.running() as (_, client):
        before = client.put(b"a").header
    with restarts.running() as (_, client):
        after = client.put(b"a").header
    assert (after.cluster_id, after.member_id) == (before.cluster_id, before.member_id)


def test_a_stop_ends_watches(restarts: Restarts) -> None:
    with restarts.running() as (server, client), client.watch() as watch:
        watch.create(b"a")
        server.process.stop()
        with pytest.raises(grpc.RpcError):
            watch.receive()


def test_what_was_acknowledged_survives_a_kill(restarts: Restarts) -> None:
    acknowledged: dict[bytes, int] = {}

    def write(client: Client, part: int) -> None:
        for number in itertools.count():
            key = b"%d-%05d" % (part, number)
            try:
                acknowledged[key] = client.put(key, key).header.revision
            except grpc.RpcError:
                return

    with restarts.running() as (server, client):
        writers = [threading.Thread(target=write, args=(client, part)) for part in range(4)]
        for writer in writers:
            writer.start()
        with client.watch() as watch:
            watch.create(b"0", b"9")
            watch.events(500)
        server.process.kill()
        for writer in writers:
            writer.join()
    with restarts.running() as (_, client):
        found = {kv.key: kv.mod_revision for kv in client.range(FROM_KEY, FROM_KEY).kvs}
    assert len(acknowledged) >= 400
    assert {key: found.get(key) for key in acknowledged} == acknowledged


def test_revisions_are_dense_after_a_kill(restarts: Restarts) -> None:
    with restarts.running() as (server, client):
        for number in range(200):
            client.put(b"%03d" % number)
        server.process.kill()
    with restarts.running() as (_, client):
        client.put(b"last")
        revisions = sorted(kv.mod_revision for kv in client.range(FROM_KEY, FROM_KEY).kvs)
    assert revisions == list(range(2, 203))

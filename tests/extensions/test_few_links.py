"""The shortest chains there may be serve etcd as the whole ones do."""

import pytest

from tests.endpoints import requests as op
from tests.endpoints.client import FROM_KEY
from tests.endpoints.refusals import COMPACTED, refused
from tests.extensions.conftest import Start

SHORTEST = 'interceptors = ["authorization"]\ntransaction-interceptors = []\n'


@pytest.mark.parametrize("settings", [SHORTEST, 'transaction-interceptors = ["timing"]\n'])
def test_history_is_kept_whatever_the_operation_chain_leaves_out(start: Start, settings: str) -> None:
    with start(settings) as server, server.empty_keyspace() as client:
        client.put(b"key", b"one")
        client.put(b"key", b"two")
        client.delete_range(b"key")
        assert client.get(b"key", revision=2).value == b"one"
        with client.watch() as watch:
            watch.create(b"key", start_revision=2, prev_kv=True)
            events = watch.events(3)
        assert [event.prev_kv.value for event in events] == [b"", b"one", b"two"]
        client.compact(3)
        with refused(COMPACTED):
            client.get(b"key", revision=2)


def test_every_shape_of_request_is_served_without_classification(start: Start) -> None:
    key = b"/registry/pods/a"
    with start(SHORTEST) as server, server.empty_keyspace() as client:
        create = client.txn([op.mod_revision(key, "=", 0)], [op.put(key, b"1")], [op.get(key)])
        again = client.txn([op.mod_revision(key, "=", 0)], [op.put(key, b"2")], [op.get(key)])
        update = client.txn([op.mod_revision(key, "=", 2)], [op.put(key, b"3")], [op.get(key)])
        assert (create.succeeded, again.succeeded, update.succeeded) == (True, False, True)
        assert again.responses[0].response_range.kvs[0].value == b"1"
        assert client.get(key).value == b"3"
        assert client.range(FROM_KEY, FROM_KEY, count_only=True).count == 1
        assert [kv.key for chunk in client.range_stream(FROM_KEY, FROM_KEY) for kv in chunk.kvs] == [key]
        lease = client.lease_grant(600).ID
        assert client.lease_time_to_live(lease).grantedTTL == 600
        with client.watch() as watch:
            watch.create(key)
            assert client.txn([op.mod_revision(key, "=", 3)], [op.delete(key)]).succeeded
            assert len(watch.events(1)) == 1

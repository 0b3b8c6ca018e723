"""The same writes give the same hash of keys on etcd and on fetch, at every revision that can be hashed.

Both begin with keyspaces that nobody has written to, since what is hashed has revisions in it. A seed chooses what is
written: few keys, transactions of several changes, leases, and compactions that are over when they are answered.
"""

import random
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from fetch.api import rpc_pb2
from tests.endpoints.client import FROM_KEY, Client
from tests.endpoints.etcd import PROMISED, find_etcd
from tests.endpoints.requests import delete, get, nested, put
from tests.endpoints.server import Missing, Server

KEYS = [b"a", b"b", b"b\0", b"c/1", b"c/2", b"\0", b"\xff\xff", b"k" * 200]
VALUES = [b"", b"x", b"v" * 127, b"v" * 128, b"v" * 3000]
LEASES = [1, 0x7FFFFFFFFFFFFFFF, -5]
STEPS = 150
REMEMBERED = 10
"""How many compactions etcd remembers the hash of, each as it was before the compaction and at its revision."""


@pytest.fixture(params=range(2))
def choose(request: pytest.FixtureRequest) -> random.Random:
    return random.Random(request.param)


@pytest.fixture
def both(etcd: Server, fetch: Server) -> Iterator[tuple[Client, Client]]:
    with ExitStack() as clients:
        yield clients.enter_context(etcd.new_keyspace()), clients.enter_context(fetch.new_keyspace())


def an_operation(choose: random.Random, unused: list[bytes]) -> rpc_pb2.RequestOp:
    key = unused.pop(choose.randrange(len(unused)))
    if choose.random() < 0.3:
        return delete(key)
    return put(key, choose.choice(VALUES), lease=choose.choice([0, 0, *LEASES]))


def a_transaction(choose: random.Random) -> list[rpc_pb2.RequestOp]:
    """Several changes at one revision, of a key one at most."""
    unused = list(KEYS)
    operations = [an_operation(choose, unused) for _ in range(choose.randint(1, 4))]
    operations.append(nested((), (an_operation(choose, unused), get(b"a")), ()))
    choose.shuffle(operations)
    return operations


def write(choose: random.Random, both: tuple[Client, Client], compacted: int) -> int:
    """Writes the same to both; returns the revision that is compacted then."""
    kind = choose.random()
    if kind < 0.4:
        key, value, lease = choose.choice(KEYS), choose.choice(VALUES), choose.choice([0, 0, *LEASES])
        for client in both:
            client.put(key, value, lease=lease)
    elif kind < 0.65:
        operations = a_transaction(choose)
        for client in both:
            client.txn((), operations)
    elif kind < 0.8:
        key = choose.choice(KEYS)
        for client in both:
            client.delete_range(key)
    elif kind < 0.84:
        for client in both:
            client.delete_range(FROM_KEY, FROM_KEY)
    elif kind < 0.9:
        lease = choose.choice(LEASES)
        for client in both:
            client.lease_revoke(lease)
            client.lease_grant(1000, lease)
    else:
        newest = both[0].revision()
        if newest > compacted:
            compacted = choose.choice([newest, choose.randint(max(compacted, 0) + 1, newest)])
            for client in both:
                client.compact(compacted, physical=True)
    return compacted


def hashed(client: Client, revision: int) -> tuple[int, int, int, int]:
    answer = client.hash_kv(revision)
    return answer.hash, answer.compact_revision, answer.hash_revision, answer.header.revision


def test_the_same_writes_have_the_same_hash(both: tuple[Client, Client], choose: random.Random) -> None:
    right, compared = both
    for client in both:
        for lease in LEASES:
            client.lease_grant(1000, lease)
    assert hashed(compared, 0) == hashed(right, 0)
    compacted = -1
    remembered: list[int] = []
    for step in range(STEPS):
        before, compacted = compacted, write(choose, both, compacted)
        if compacted != before:
            remembered.append(compacted)
        assert hashed(compared, 0) == hashed(right, 0), step
        past = choose.randint(max(compacted, 1), right.revision())
        if past not in remembered[-REMEMBERED:]:
            assert hashed(compared, past) == hashed(right, past), step


def test_the_hash_at_the_compacted_revision_is_that_of_an_etcd_that_was_started_anew(
    fetch: Server, choose: random.Random, tmp_path: Path
) -> None:
    etcd = find_etcd()
    if isinstance(etcd, Missing) or etcd.version < PROMISED:
        pytest.skip("there is no etcd of 3.7")
    with fetch.new_keyspace() as compared:
        with etcd.start(tmp_path) as server, server.connect() as right:
            both = right, compared
            for client in both:
                for lease in LEASES:
                    client.lease_grant(1000, lease)
            compacted = -1
            for _ in range(STEPS // 4):
                compacted = write(choose, both, compacted)
            compacted = right.put(b"a").header.revision
            compared.put(b"a")
            for client in both:
                client.compact(compacted, physical=True)
                client.put(b"a")
                client.put(b"b")
        with etcd.start(tmp_path) as server, server.connect() as right:
            for revision in range(compacted, compacted + 3):
                assert hashed(compared, revision) == hashed(right, revision)

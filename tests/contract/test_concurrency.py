"""Many clients at once: who wins, which revisions there are, and what reads see meanwhile."""

import contextlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import grpc

from fetch.api import rpc_pb2
from tests.endpoints import requests as op
from tests.endpoints.client import Client
from tests.endpoints.server import Server

T = TypeVar("T")

CLIENTS = 8


def at_once(task: Callable[[int], T], times: int) -> list[T]:
    """The results of `task`, for each number below `times`, carried out by several threads."""
    with ThreadPoolExecutor(CLIENTS) as threads:
        return list(threads.map(task, range(times)))


def test_of_many_creates_one_wins(client: Client) -> None:
    def create(number: int) -> bool:
        return client.txn([op.mod_revision(b"a", "=", 0)], [op.put(b"a", b"%d" % number)]).succeeded

    outcomes = at_once(create, 100)
    assert outcomes.count(True) == 1
    assert client.get(b"a").value == b"%d" % outcomes.index(True)


def test_revisions_of_concurrent_writes_are_dense(client: Client) -> None:
    before = client.revision()
    revisions = at_once(lambda number: client.put(b"%d" % (number % 7)).header.revision, 400)
    assert sorted(revisions) == list(range(before + 1, before + 401))


def test_concurrent_failures_take_no_revisions(client: Client) -> None:
    before = client.put(b"a").header.revision

    def write(number: int) -> bool:
        return client.txn([op.version(b"a", "=", 0 if number % 2 else 1)], [op.put(b"b")]).succeeded

    assert at_once(write, 200).count(True) == 100
    assert client.revision() == before + 100


def test_no_conditional_update_is_lost(client: Client) -> None:
    client.put(b"a", b"0")

    def count(_: int) -> None:
        found = client.get(b"a")
        while True:
            answer = client.txn(
                [op.mod_revision(b"a", "=", found.mod_revision)],
                [op.put(b"a", b"%d" % (int(found.value) + 1))],
                [op.get(b"a")],
            )
            if answer.succeeded:
                return
            found = answer.responses[0].response_range.kvs[0]

    at_once(count, 100)
    found = client.get(b"a")
    assert (found.value, found.version) == (b"100", 101)


def test_every_version_is_written_once(client: Client) -> None:
    previous = at_once(lambda _: client.put(b"a", prev_kv=True).prev_kv.version, 200)
    assert sorted(previous) == list(range(200))


def test_a_read_on_one_connection_sees_what_was_acknowledged_on_another(server: Server) -> None:
    with server.connect() as one, server.connect() as other:
        for number in range(100):
            written = one.put(b"a", b"%d" % number).header.revision
            answer = other.range(b"a")
            assert (answer.kvs[0].value, answer.header.revision) == (b"%d" % number, written)


def test_reads_never_see_half_a_transaction(client: Client) -> None:
    def write_or_read(number: int) -> rpc_pb2.RangeResponse:
        if number % 2:
            client.txn((), [op.put(b"a", b"%d" % number), op.put(b"b", b"%d" % number)])
        return client.range(b"a", b"c")

    client.txn((), [op.put(b"a", b"first"), op.put(b"b", b"first")])
    for answer in at_once(write_or_read, 400):
        assert answer.kvs[0].value == answer.kvs[1].value
        assert answer.kvs[0].mod_revision == answer.kvs[1].mod_revision == answer.header.revision


def test_a_read_at_its_own_revision_is_repeatable(client: Client) -> None:
    def write_or_read(number: int) -> rpc_pb2.RangeResponse:
        if number % 3 == 0:
            client.delete_range(b"%d" % (number % 5))
        else:
            client.put(b"%d" % (number % 5), b"%d" % number)
        return client.range(b"0", b"9")

    for answer in at_once(write_or_read, 300):
        again = client.range(b"0", b"9", revision=answer.header.revision)
        assert (list(again.kvs), again.count) == (list(answer.kvs), answer.count)


def test_watches_see_concurrent_writes_as_reads_do(client: Client) -> None:
    with client.watch() as watch:
        watch.create(b"0", b"9", prev_kv=True)
        at_once(lambda number: client.put(b"%d" % (number % 5), b"%d" % number), 300)
        events = watch.events(300)
    for event in events:
        assert client.get(event.kv.key, revision=event.kv.mod_revision) == event.kv
        if event.kv.version > 1:
            assert client.get(event.kv.key, revision=event.kv.mod_revision - 1) == event.prev_kv


def test_a_lease_revoked_while_keys_are_attached_leaves_none(client: Client) -> None:
    lease = client.lease_grant(600).ID

    def attach_or_revoke(number: int) -> None:
        if number == 50:
            client.lease_revoke(lease)
        else:
            with contextlib.suppress(grpc.RpcError):
                client.put(b"%d" % number, lease=lease)

    at_once(attach_or_revoke, 100)
    assert client.range(b"0", b"z").count == 0

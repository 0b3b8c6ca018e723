"""The requests that kube-apiserver sends, in its own shapes: what its storage and its compactor build on."""

from fetch.api import rpc_pb2
from tests.endpoints import requests as op
from tests.endpoints.client import Client

POD = b"/registry/pods/default/web"
COMPACT_REVISION = b"compact_rev_key"


def create(client: Client, key: bytes, value: bytes, lease: int = 0) -> rpc_pb2.TxnResponse:
    return client.txn([op.mod_revision(key, "=", 0)], [op.put(key, value, lease=lease)], [op.get(key)])


def update(client: Client, key: bytes, value: bytes, expected: int, lease: int = 0) -> rpc_pb2.TxnResponse:
    return client.txn([op.mod_revision(key, "=", expected)], [op.put(key, value, lease=lease)], [op.get(key)])


def delete(client: Client, key: bytes, expected: int) -> rpc_pb2.TxnResponse:
    return client.txn([op.mod_revision(key, "=", expected)], [op.delete(key)], [op.get(key)])


def current(response: rpc_pb2.TxnResponse) -> rpc_pb2.RangeResponse:
    """What a failed write found instead."""
    assert not response.succeeded
    (answer,) = response.responses
    return answer.response_range


def test_a_create_of_a_new_object_succeeds_at_the_next_revision(client: Client) -> None:
    before = client.revision()
    response = create(client, POD, b"web")
    assert response.succeeded
    assert response.header.revision == before + 1


def test_a_create_answers_with_the_put(client: Client) -> None:
    response = create(client, POD, b"web")
    (answer,) = response.responses
    assert answer.response_put == rpc_pb2.PutResponse(header=rpc_pb2.ResponseHeader(revision=response.header.revision))


def test_a_create_of_an_object_that_exists_fails_and_returns_it(client: Client) -> None:
    create(client, POD, b"first")
    response = create(client, POD, b"second")
    assert list(current(response).kvs) == [client.get(POD)]
    assert client.get(POD).value == b"first"


def test_a_failed_create_takes_no_revision(client: Client) -> None:
    revision = create(client, POD, b"first").header.revision
    assert create(client, POD, b"second").header.revision == revision


def test_a_create_after_a_delete_starts_at_version_1(client: Client) -> None:
    revision = create(client, POD, b"first").header.revision
    delete(client, POD, revision)
    revision = create(client, POD, b"second").header.revision
    found = client.get(POD)
    assert (found.version, found.create_revision, found.mod_revision) == (1, revision, revision)


def test_a_create_with_a_lease_attaches_the_object(client: Client) -> None:
    lease = client.lease_grant(600).ID
    create(client, POD, b"web", lease)
    assert list(client.lease_time_to_live(lease, keys=True).keys) == [POD]


def test_an_update_at_the_right_revision_succeeds(client: Client) -> None:
    created = create(client, POD, b"first").header.revision
    response = update(client, POD, b"second", created)
    assert response.succeeded
    found = client.get(POD)
    assert (found.value, found.create_revision, found.mod_revision, found.version) == (
        b"second",
        created,
        response.header.revision,
        2,
    )


def test_a_stale_update_fails_and_returns_the_current_value(client: Client) -> None:
    stale = create(client, POD, b"first").header.revision
    update(client, POD, b"second", stale)
    response = update(client, POD, b"third", stale)
    assert list(current(response).kvs) == [client.get(POD)]
    assert client.get(POD).value == b"second"


def test_an_update_of_a_deleted_object_fails_and_returns_nothing(client: Client) -> None:
    revision = create(client, POD, b"first").header.revision
    delete(client, POD, revision)
    response = current(update(client, POD, b"second", revision))
    assert (len(response.kvs), response.count) == (0, 0)


def test_an_update_may_take_the_lease_away(client: Client) -> None:
    lease = client.lease_grant(600).ID
    revision = create(client, POD, b"first", lease).header.revision
    update(client, POD, b"second", revision)
    assert client.get(POD).lease == 0


def test_of_two_updates_from_the_same_revision_one_succeeds(client: Client) -> None:
    revision = create(client, POD, b"first").header.revision
    outcomes = [update(client, POD, value, revision).succeeded for value in (b"second", b"third")]
    assert outcomes == [True, False]


def test_a_delete_at_the_right_revision_succeeds(client: Client) -> None:
    revision = create(client, POD, b"web").header.revision
    response = delete(client, POD, revision)
    (answer,) = response.responses
    assert answer.response_delete_range.deleted == 1
    assert response.header.revision == revision + 1
    assert client.range(POD).count == 0


def test_a_stale_delete_fails_and_returns_the_current_value(client: Client) -> None:
    stale = create(client, POD, b"first").header.revision
    update(client, POD, b"second", stale)
    assert list(current(delete(client, POD, stale)).kvs) == [client.get(POD)]


def test_a_delete_of_a_missing_object_fails_and_returns_nothing(client: Client) -> None:
    assert current(delete(client, POD, client.revision())).count == 0


def test_an_unconditional_delete_that_expects_absence_deletes_nothing(client: Client) -> None:
    response = delete(client, POD, 0)
    assert response.succeeded
    assert response.responses[0].response_delete_range.deleted == 0


def test_a_list_in_pages_stays_at_the_revision_of_its_first_page(client: Client) -> None:
    for name in (b"a", b"b", b"c"):
        create(client, b"/registry/pods/" + name, name)
    first = client.range(b"/registry/pods/", b"/registry/pods0", limit=2)
    create(client, b"/registry/pods/bb", b"late")
    following = b"/registry/pods/b\0"
    rest = client.range(following, b"/registry/pods0", limit=2, revision=first.header.revision)
    assert [found.key for found in rest.kvs] == [b"/registry/pods/c"]
    assert (rest.more, rest.count) == (False, 1)


def test_a_count_of_a_resource_counts_its_prefix(client: Client) -> None:
    for name in (b"/registry/pods/a", b"/registry/pods/b", b"/registry/podtemplates/a"):
        create(client, name, b"")
    assert client.range(b"/registry/pods/", b"/registry/pods0", count_only=True).count == 2


def test_a_watch_sees_create_update_and_delete_with_previous_values(client: Client) -> None:
    with client.watch() as watch:
        watch.create(b"/registry/pods/", b"/registry/pods0", prev_kv=True, progress_notify=True)
        revision = create(client, POD, b"first").header.revision
        revision = update(client, POD, b"second", revision).header.revision
        delete(client, POD, revision)
        events = watch.events(3)
    assert [(event.type, event.kv.value, event.prev_kv.value) for event in events] == [
        (0, b"first", b""),
        (0, b"second", b"first"),
        (1, b"", b"second"),
    ]


# kube-apiservers agree by a key's version on which of them compacts


def compaction_turn(client: Client, version: int, revision: bytes) -> rpc_pb2.TxnResponse:
    return client.txn(
        [op.version(COMPACT_REVISION, "=", version)],
        [op.put(COMPACT_REVISION, revision)],
        [op.get(COMPACT_REVISION)],
    )


def test_the_first_compactor_wins_its_turn(client: Client) -> None:
    assert compaction_turn(client, 0, b"10").succeeded


def test_the_next_turn_is_at_the_next_version(client: Client) -> None:
    compaction_turn(client, 0, b"10")
    assert compaction_turn(client, 1, b"20").succeeded
    assert client.get(COMPACT_REVISION).version == 2


def test_a_compactor_that_comes_late_learns_version_and_revision(client: Client) -> None:
    compaction_turn(client, 0, b"10")
    (found,) = current(compaction_turn(client, 0, b"20")).kvs
    assert (found.version, found.value) == (1, b"10")

"""A real etcd that was restored from fetch's snapshot answers as the tenant does."""

from collections.abc import Callable, Iterator

import pytest

from fetch.api.kv_pb2 import Event
from tests.endpoints.client import FROM_KEY, Client
from tests.endpoints.fetch import FetchServer
from tests.endpoints.refusals import COMPACTED, refused
from tests.endpoints.requests import delete, put
from tests.snapshots.etcds import Restoring, found, save

LEASE, LONG_LEASE = 7001, 7002
LAST = 12


def write(client: Client) -> None:
    """Revisions 2 to 12: puts, updates, deletes, keys of one revision, leases, a key that came back."""
    client.lease_grant(600, LEASE)
    client.lease_grant(90_000, LONG_LEASE)
    client.put(b"a", b"1")
    client.txn((), [put(b"m/2", b"x"), put(b"m/1", b"y"), put(b"m/3", b"z")])
    client.put(b"leased", b"1", lease=LEASE)
    client.put(b"a", b"2")
    client.delete_range(b"m/1")
    client.put(b"\x00\xff", b"")
    client.put(b"large", b"v" * 100_000)
    client.put(b"leased/2", b"2", lease=LONG_LEASE)
    client.txn((), [delete(b"a"), put(b"m/2", b"xx", lease=LEASE)])
    client.put(b"a", b"3")
    client.put(b"m/1", b"again")


@pytest.fixture(scope="module", params=[None, 3, 6, 10, LAST], ids=lambda revision: f"compacted-{revision}")
def tenant(fetch: FetchServer, request: pytest.FixtureRequest) -> Iterator[tuple[Client, int]]:
    """A tenant with some history, and its oldest revision that can be read."""
    with fetch.empty_keyspace() as client:
        write(client)
        assert client.revision() == LAST
        if request.param is not None:
            client.compact(request.param, physical=True)
        yield client, request.param or 1


@pytest.fixture(scope="module", params=found(), ids=lambda etcd: etcd.name)
def restored(
    request: pytest.FixtureRequest, tenant: tuple[Client, int], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Client, Client, int]]:
    """The tenant, an etcd that was restored from its snapshot, and the oldest revision that can be read."""
    restoring: Restoring = request.param
    client, oldest = tenant
    directory = tmp_path_factory.mktemp("restored")
    with restoring.restored(save(client, directory / "snapshot"), directory) as etcd:
        yield client, etcd, oldest


def keys(client: Client, oldest: int) -> object:
    return [list(client.range(FROM_KEY, FROM_KEY, revision=revision).kvs) for revision in range(oldest, LAST + 1)]


def leases(client: Client, _: int) -> object:
    granted = [it.ID for it in client.lease_leases().leases]
    shown = [client.lease_time_to_live(lease, keys=True) for lease in granted]
    return sorted((it.ID, it.grantedTTL, sorted(it.keys)) for it in shown)


def events(client: Client, oldest: int) -> object:
    with client.watch() as stream:
        stream.create(FROM_KEY, FROM_KEY, start_revision=oldest)
        told: list[Event] = []
        while not told or told[-1].kv.mod_revision < LAST:
            told += stream.receive().events
        return told


def revisions(client: Client, _: int) -> object:
    hashed = client.hash_kv()
    return client.revision(), hashed.compact_revision, hashed.hash


@pytest.mark.parametrize("what", [keys, leases, events, revisions])
def test_a_restored_etcd_has_what_the_tenant_has(
    restored: tuple[Client, Client, int], what: Callable[[Client, int], object]
) -> None:
    client, etcd, oldest = restored
    assert what(etcd, oldest) == what(client, oldest)


def test_a_restored_etcd_has_compacted_what_the_tenant_has(restored: tuple[Client, Client, int]) -> None:
    _, etcd, oldest = restored
    if oldest > 1:
        with refused(COMPACTED):
            etcd.range(b"a", revision=oldest - 1)


def test_a_restored_etcd_goes_on_with_the_next_revision(restored: tuple[Client, Client, int]) -> None:
    _, etcd, _ = restored  # the last test that it serves: others look at what was restored
    assert etcd.put(b"more").header.revision == LAST + 1

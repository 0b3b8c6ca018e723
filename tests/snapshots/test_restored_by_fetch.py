"""A tenant that is restored from a real etcd's snapshot has everything that the etcd has, at every revision."""

import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.endpoints.client import Client
from tests.endpoints.fetch import Fetch
from tests.endpoints.refusals import COMPACTED, refused
from tests.snapshots.etcds import SECONDS, Restoring, find_etcdutl, found, run, save
from tests.snapshots.test_restored_by_etcd import LAST, events, keys, leases, revisions, write

TENANT = "restored"
BUMP = 1_000_000


@dataclass(frozen=True, slots=True)
class Saved:
    """What an etcd has, by what is asked of it, and its snapshot."""

    path: Path
    copied: Path
    oldest: int
    told: dict[str, object]


WHAT: dict[str, Callable[[Client, int], object]] = {
    "keys": keys,
    "leases": leases,
    "events": events,
    "revisions": revisions,
}


def fetch_restore(*arguments: object) -> subprocess.CompletedProcess[str]:
    """Runs `fetch restore`."""
    command = [sys.executable, "-m", "fetch", "restore", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=SECONDS, check=False)


@pytest.fixture(scope="module", params=found(), ids=lambda etcd: etcd.name)
def etcd(request: pytest.FixtureRequest) -> Restoring:
    restoring: Restoring = request.param
    return restoring


@pytest.fixture(scope="module", params=[None, 3, LAST], ids=lambda revision: f"compacted-{revision}")
def saved(request: pytest.FixtureRequest, etcd: Restoring, tmp_path_factory: pytest.TempPathFactory) -> Saved:
    """An etcd's snapshot, and the file that it leaves behind."""
    directory, oldest = tmp_path_factory.mktemp("etcd"), request.param or 1
    with etcd.etcd.start(directory) as server, server.connect() as client:
        write(client)
        if request.param is not None:
            client.compact(request.param, physical=True)
        path = save(client, directory / "snapshot")
        told = {name: ask(client, oldest) for name, ask in WHAT.items()}
    return Saved(path, directory / "etcd" / "member" / "snap" / "db", oldest, told)


@pytest.fixture(scope="module")
def tenant(saved: Saved, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    """A tenant that was restored from it."""
    directory, fetch = tmp_path_factory.mktemp("fetch"), Fetch("embedded")
    done = fetch_restore(saved.path, "--tenant", TENANT, "--data-dir", directory / "data")
    assert done.returncode == 0, done.stderr
    with fetch.start(directory) as server, server.connect_as(TENANT) as client:
        yield client


@pytest.mark.parametrize("what", WHAT)
def test_a_restored_tenant_has_what_the_etcd_has(saved: Saved, tenant: Client, what: str) -> None:
    assert WHAT[what](tenant, saved.oldest) == saved.told[what]


def test_a_restored_tenant_goes_on_with_the_next_revision(saved: Saved, tenant: Client) -> None:
    if saved.oldest > 1:
        with refused(COMPACTED):
            tenant.range(b"a", revision=saved.oldest - 1)
    assert tenant.put(b"more").header.revision == LAST + 1


def test_a_copied_database_is_restored_with_skip_hash_check(saved: Saved, tmp_path: Path) -> None:
    where = "--tenant", TENANT, "--data-dir", tmp_path / "data"
    without = fetch_restore(saved.copied, *where)
    assert (without.returncode, "--skip-hash-check" in without.stderr) == (1, True)
    done = fetch_restore(saved.copied, *where, "--skip-hash-check")
    assert (done.returncode, f"revision {LAST}" in done.stdout) == (0, True)


@pytest.mark.parametrize("saved", [3], indirect=True, ids=["compacted-3"])
def test_a_bumped_tenant_is_as_the_etcd_that_etcdutl_bumps(etcd: Restoring, saved: Saved, tmp_path: Path) -> None:
    if etcd.etcdutl != find_etcdutl():
        pytest.skip("etcdutl 3.5 has no --bump-revision")
    bumped = ("--bump-revision", str(BUMP), "--mark-compacted")
    run(etcd.etcdutl, "snapshot", "restore", str(saved.path), f"--data-dir={tmp_path / 'etcd'}", *bumped)
    with etcd.etcd.start(tmp_path) as server, server.connect() as client:
        # what etcdutl puts there for its revision is no key, and a file may have it
        again = save(client, tmp_path / "again")
        client.hash_kv()  # waits until it is compacted
        expected = keys(client, LAST + BUMP), leases(client, 0), client.revision(), client.hash_kv().compact_revision
    where = "--data-dir", tmp_path / "data"
    for name, path, flags in (("bumped", saved.path, bumped), ("again", again, ())):
        done = fetch_restore(path, "--tenant", name, *where, *flags)
        assert done.returncode == 0, done.stderr
    with Fetch("embedded").start(tmp_path) as server:
        for name in ("bumped", "again"):
            with server.connect_as(name) as client:
                assert (
                    keys(client, LAST + BUMP),
                    leases(client, 0),
                    client.revision(),
                    client.hash_kv().compact_revision,
                ) == expected

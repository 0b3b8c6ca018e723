"""etcd's own tools take what fetch sends for a snapshot."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from fetch.tls import certificates
from tests import peers
from tests.endpoints.client import Client
from tests.endpoints.fetch import FetchServer
from tests.endpoints.requests import put
from tests.snapshots.etcds import find_etcdutl, run, save


@pytest.fixture
def etcdutl() -> str:
    """The path of etcd's tool."""
    return find_etcdutl() or pytest.skip("there is no etcdutl: `make peers` builds it where Go is")


@pytest.fixture
def tenant(fetch: FetchServer) -> Iterator[tuple[str, Client]]:
    """A tenant with 2000 keys, each written twice in 40 revisions, one of them deleted, and its name."""
    name = fetch.endpoint.new_tenant()
    with fetch.connect_as(name) as client:
        for begin in [*range(0, 2000, 100)] * 2:
            client.txn((), [put(b"%04d" % number, b"v" * (number % 300)) for number in range(begin, begin + 100)])
        client.delete_range(b"0007")
        yield name, client


def test_etcdctl_saves_a_snapshot(etcdutl: str, fetch: FetchServer, tenant: tuple[str, Client], tmp_path: Path) -> None:
    etcdctl = peers.find("etcdctl") or pytest.skip("there is no etcdctl: `make peers` builds it where Go is")
    name, client = tenant
    certificates.issue(fetch.endpoint.authority, name).write(tmp_path, "tenant")
    fetch.endpoint.authority.write(tmp_path, "ca")
    run(
        etcdctl,
        f"--endpoints=https://{fetch.address}",
        f"--cacert={tmp_path}/ca.crt",
        f"--cert={tmp_path}/tenant.crt",
        f"--key={tmp_path}/tenant.key",
        "snapshot",
        "save",
        str(tmp_path / "saved"),
    )
    assert status(etcdutl, tmp_path / "saved") == (client.revision(), 1999, "3.6.0")


@pytest.mark.parametrize("back", [41, 20, 1, 0])
def test_etcdutl_finds_a_snapshot_whole_that_was_compacted(
    etcdutl: str, tenant: tuple[str, Client], tmp_path: Path, back: int
) -> None:
    _, client = tenant
    newest = client.revision()
    client.compact(newest - back)
    assert status(etcdutl, save(client, tmp_path / "snapshot")) == (newest, 1999, "3.6.0")


def status(etcdutl: str, file: Path) -> tuple[int, int, str]:
    """(newest revision, keys, storage version): etcdutl looks at all pages before it says so."""
    told = json.loads(run(etcdutl, "snapshot", "status", str(file), "--write-out=json"))
    return told["revision"], told["totalKey"], told["version"]

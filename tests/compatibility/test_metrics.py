"""Every metric of etcd has a row, and fetch exposes those that are said to be served."""

import urllib.request
from pathlib import Path

import pytest

from tests.compatibility import page
from tests.compatibility.page import Row
from tests.endpoints.client import Client
from tests.endpoints.etcd import PROMISED, find_etcd
from tests.endpoints.fetch import Fetch
from tests.endpoints.process import free_port
from tests.endpoints.requests import put
from tests.endpoints.server import Missing

ROWS = page.rows("## Metrics")


def names(url: str) -> set[str]:
    """The metrics of an exposition."""
    with urllib.request.urlopen(f"{url}/metrics", timeout=60) as answer:
        lines = answer.read().decode().splitlines()
    return {line.split()[2] for line in lines if line.startswith("# TYPE ")}


def use(client: Client) -> None:
    """Does a bit of everything: some metrics are there once there is something to tell."""
    lease = client.lease_grant(60).ID
    client.put(b"key", b"value", lease=lease)
    client.txn((), [put(b"key", b"value"), put(b"other", b"value")])
    client.range(b"key")
    client.delete_range(b"key")
    client.lease_revoke(lease)


@pytest.fixture(scope="module")
def exposed(tmp_path_factory: pytest.TempPathFactory) -> set[str]:
    """What a fetch exposes that was used."""
    url = f"http://127.0.0.1:{free_port()}"
    with Fetch("embedded").start(tmp_path_factory.mktemp("fetch"), [f"--listen-metrics-urls={url}"]) as server:
        with server.connect() as client:
            use(client)
        urllib.request.urlopen(f"{url}/readyz", timeout=60).close()
        return names(url)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_a_metric_is_exposed_as_its_row_says(exposed: set[str], row: Row) -> None:
    assert any(row.is_about(name) for name in exposed) == (row.state != page.NOT_SERVED)


def test_every_metric_of_a_real_etcd_has_a_row(tmp_path: Path) -> None:
    etcd = find_etcd()
    if isinstance(etcd, Missing) or etcd.version < PROMISED:
        pytest.skip("there is no etcd 3.7")
    with etcd.start(tmp_path) as server:
        with server.connect() as client:
            use(client)
        urllib.request.urlopen(f"http://{server.address}/readyz", timeout=60).close()
        found = names(f"http://{server.address}")
    assert {name for name in found if not any(row.is_about(name) for row in ROWS)} == set()
    assert {row.name for row in ROWS if not any(row.is_about(name) for name in found)} == set()

"""The paths of etcd's that answer on fetch are those whose rows say so."""

import urllib.error
import urllib.request
from pathlib import Path

import pytest

from tests.compatibility import page
from tests.compatibility.page import Row
from tests.endpoints.etcd import PROMISED, find_etcd
from tests.endpoints.fetch import Fetch
from tests.endpoints.process import free_port
from tests.endpoints.server import Missing

ROWS = page.rows("## HTTP paths")
NOT_BY_DEFAULT = ("/debug/pprof/",)
"""What an etcd serves with a flag of its own only."""


def answers(url: str) -> bool:
    try:
        urllib.request.urlopen(url, timeout=60).close()
    except urllib.error.HTTPError as error:
        return error.code != 404
    return True


@pytest.fixture(scope="module")
def urls(tmp_path_factory: pytest.TempPathFactory):
    """Where a fetch serves HTTP: to clients, and metrics."""
    clients, metrics = (f"http://127.0.0.1:{free_port()}" for _ in range(2))
    flags = [f"--listen-client-http-urls={clients}", "--anonymous-tenant=nobody", f"--listen-metrics-urls={metrics}"]
    with Fetch("embedded").start(tmp_path_factory.mktemp("fetch"), flags):
        yield clients, metrics


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_a_path_answers_as_its_row_says(urls: tuple[str, str], row: Row) -> None:
    assert any(answers(url + row.name) for url in urls) == (row.state != page.NOT_SERVED)


def test_each_is_a_path_of_a_real_etcd(tmp_path: Path) -> None:
    etcd = find_etcd()
    if isinstance(etcd, Missing) or etcd.version < PROMISED:
        pytest.skip("there is no etcd 3.7")
    with etcd.start(tmp_path) as server:
        paths = [row.name for row in ROWS if row.name not in NOT_BY_DEFAULT]
        assert [path for path in paths if not answers(f"http://{server.address}{path}")] == []

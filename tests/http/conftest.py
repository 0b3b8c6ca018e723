"""etcd and fetch, as clients of HTTP see them."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.endpoints.etcd import find_etcd
from tests.endpoints.fetch import Fetch
from tests.endpoints.server import Missing
from tests.http.web import FetchWeb, Web, etcd_web, fetch_web

ADMINISTRATOR = "looks-after-tenants"


@pytest.fixture(scope="session")
def fetch_http(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FetchWeb]:
    """One daemon for all tests: each uses a tenant of its own."""
    flags = [f"--admin-principals={ADMINISTRATOR}"]
    with fetch_web(Fetch("embedded"), tmp_path_factory.mktemp("http"), flags) as served:
        yield served


@pytest.fixture
def fetch_http_to_stop(tmp_path: Path) -> Iterator[FetchWeb]:
    """A daemon for one test."""
    with fetch_web(Fetch("embedded"), tmp_path) as served:
        yield served


@pytest.fixture
def fetch_tenant(fetch_http: FetchWeb) -> Web:
    """fetch, as a tenant that nobody has been."""
    return fetch_http.new_tenant()


@pytest.fixture(scope="module")
def fetch_http_alone(fetch_http: FetchWeb) -> Web:
    """fetch, as a tenant that nobody has been before the module's tests."""
    return fetch_http.new_tenant()


@pytest.fixture(scope="module")
def etcd_http(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Web]:
    """An etcd for the module's tests."""
    found = find_etcd()
    if isinstance(found, Missing):
        pytest.skip(found.reason)
    if found.version < (3, 7):
        pytest.skip(f"{found.name} is older than 3.7, whose answers these are")
    with etcd_web(found, tmp_path_factory.mktemp("etcd-http")) as served:
        yield served


@pytest.fixture(params=["etcd", "fetch"])
def web(request: pytest.FixtureRequest) -> Web:
    """Each of them."""
    served: Web = request.getfixturevalue({"etcd": "etcd_http", "fetch": "fetch_tenant"}[request.param])
    return served

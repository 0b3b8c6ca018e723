"""The endpoint that is right, beside the one that is compared with it."""

from collections.abc import Iterator

import pytest

from tests.endpoints.etcd import PROMISED, find_etcd
from tests.endpoints.fetch import MEMORY, STORES, FetchServer
from tests.endpoints.server import Missing, Server


@pytest.fixture(scope="session")
def etcd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A real etcd of the release that fetch promises to be like."""
    found = find_etcd()
    if isinstance(found, Missing):
        pytest.skip(found.reason)
    if found.version < PROMISED:
        pytest.skip(f"{found.name} differs from 3.7, which fetch is like: `make peers` builds that where Go is")
    with found.start(tmp_path_factory.mktemp(found.name)) as server:
        yield server


@pytest.fixture(scope="session", params=(MEMORY, *STORES), ids=lambda found: found.name)
def fetch(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[FetchServer]:
    """fetch on each of its stores, and on the engine in memory."""
    with request.param.start(tmp_path_factory.mktemp(request.param.name)) as running:
        yield running

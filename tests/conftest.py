"""The endpoints that the contract suite runs against: real etcd, fetch on each of its stores, and on none.

A test that asks for `client` runs once on each. One server of each kind serves all tests: on fetch each gets a tenant
of its own, on etcd the keyspace is emptied before each, so tests count revisions from where they start.
"""

from collections import Counter
from collections.abc import Iterator

import pytest

from tests.endpoints.client import Client
from tests.endpoints.etcd import find_etcd
from tests.endpoints.fetch import MEMORY, STORES, FetchServer
from tests.endpoints.server import Endpoint, Missing, Server
from tests.outcomes import NOT_RUN

# short enough to wait for; only watches that ask for notifications notice
PROGRESS_INTERVAL = "--watch-progress-notify-interval=300ms"

ENDPOINTS = (find_etcd(), MEMORY, *STORES)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--without-etcd", action="store_true", help="leave out what etcd alone does, but not comparisons")
    parser.addoption("--without-models", action="store_true", help="leave out fetch on a model: of a store, an engine")


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "since(major, minor, why): what an etcd before that release does not do")
    config.stash[NOT_RUN] = Counter()


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leaves out the tests of endpoints that are not there, and those of others where they are not asked for."""
    unwanted = list(ENDPOINTS[:1]) if config.getoption("--without-etcd") else []
    if config.getoption("--without-models"):
        unwanted += [it for it in ENDPOINTS[1:] if not isinstance(it, Missing) and not it.is_durable]
    run: list[pytest.Item] = []
    left_out: list[pytest.Item] = []
    for item in items:
        parameters = item.callspec.params.values() if hasattr(item, "callspec") else ()
        missing = [parameter for parameter in parameters if isinstance(parameter, Missing)]
        config.stash[NOT_RUN].update(it.reason for it in missing)
        (left_out if missing or any(it in parameters for it in unwanted) else run).append(item)
    config.hook.pytest_deselected(items=left_out)
    items[:] = run


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Says what was left out, and why."""
    for reason, count in config.stash[NOT_RUN].items():
        terminalreporter.write_line(f"{count} TESTS NOT RUN: {reason}", red=True, bold=True)


@pytest.fixture(autouse=True)
def _skip_what_came_later(request: pytest.FixtureRequest) -> None:
    marker = request.node.get_closest_marker("since")
    if marker:
        major, minor, why = marker.args
        endpoint: Endpoint = request.getfixturevalue("endpoint")
        if endpoint.version < (major, minor):
            pytest.skip(f"{endpoint.name} is older than {major}.{minor}: {why}")


@pytest.fixture(scope="session", params=ENDPOINTS, ids=lambda found: found.name)
def endpoint(request: pytest.FixtureRequest) -> Endpoint:
    """What the test runs against."""
    chosen: Endpoint = request.param
    return chosen


@pytest.fixture(scope="session")
def server(endpoint: Endpoint, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """The one server that the tests on an endpoint share."""
    with endpoint.start(tmp_path_factory.mktemp(endpoint.name), [PROGRESS_INTERVAL]) as running:
        yield running


@pytest.fixture(scope="session", params=STORES, ids=lambda store: store.name)
def fetch(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[FetchServer]:
    """fetch on each of its stores, for what is not etcd's."""
    with request.param.start(tmp_path_factory.mktemp(request.param.name)) as running:
        yield running


@pytest.fixture
def client(server: Server) -> Iterator[Client]:
    """A connection to an empty keyspace, at whatever revision."""
    with server.empty_keyspace() as connection:
        yield connection


@pytest.fixture
def new_client(server: Server) -> Iterator[Client]:
    """A connection to a keyspace that nobody has written to."""
    with server.new_keyspace() as connection:
        yield connection

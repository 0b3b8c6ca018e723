"""The stores that the suite runs on, and a FoundationDB of its own for what a shared one must not suffer."""

import random
import secrets
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from fetch.stores.embedded.store import LmdbStore
from fetch.stores.foundationdb.binding import Binding
from fetch.stores.foundationdb.store import FoundationDBStore
from fetch.stores.protocol import Store
from tests.endpoints import foundationdb
from tests.endpoints.foundationdb import FdbServer
from tests.simulation.binding import SimulatedBinding
from tests.simulation.cluster import Cluster


@pytest.fixture(scope="session")
def cluster_file(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A FoundationDB cluster."""
    reason = foundationdb.why_no_cluster()
    if reason:
        pytest.skip(reason)
    with foundationdb.cluster(tmp_path_factory.mktemp("foundationdb")) as file:
        yield file


@pytest.fixture
def server(tmp_path: Path) -> Iterator[FdbServer]:
    """A FoundationDB that the test may stop and kill."""
    reason = foundationdb.why_no_server()
    if reason:
        pytest.skip(reason)
    with FdbServer(tmp_path / "foundationdb") as running:
        yield running


@pytest.fixture(params=["simulated", "real"])
async def binding(request: pytest.FixtureRequest) -> Binding:
    """A client of a cluster in memory, and of a real one: what the model says is what FoundationDB does."""
    if request.param == "simulated":
        return SimulatedBinding(Cluster(random.Random(1)))
    return Binding(request.getfixturevalue("cluster_file"))


@pytest.fixture(params=["lmdb", "simulated", "foundationdb"])
async def store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Store]:
    """Each store in turn, the one on FoundationDB with a simulated and a real cluster."""
    opened: Store
    if request.param == "lmdb":
        opened = LmdbStore(tmp_path)
    elif request.param == "simulated":
        opened = FoundationDBStore(SimulatedBinding(Cluster(random.Random(1))))
    else:
        opened = FoundationDBStore.open(request.getfixturevalue("cluster_file"))
    yield opened
    await opened.close()


@pytest.fixture
async def fdb_store(binding: Binding) -> AsyncIterator[FoundationDBStore]:
    """The store on FoundationDB."""
    opened = FoundationDBStore(binding)
    yield opened
    await opened.close()


@pytest.fixture
def name() -> str:
    """A tenant's name that nobody has used."""
    return f"test-{secrets.token_hex(8)}"


@pytest.fixture
async def prefix(store: Store, name: str) -> bytes:
    """The prefix of a new tenant."""
    return await store.open_tenant(name)

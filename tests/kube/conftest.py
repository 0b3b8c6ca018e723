"""Two kube-apiservers at once, each with a certificate of its own, on one fetch: by its stores, and by flags of theirs."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack

import pytest

from tests.endpoints.fetch import FetchServer
from tests.kube.apiserver import Apiserver, start_apiserver
from tests.kube.programs import Programs, find_programs

FLAGS: Mapping[str, Sequence[str]] = {
    "as-it-is": (),
    "without-its-cache": ("--watch-cache=false", "--etcd-compaction-interval=30s"),
    "without-range-stream": ("--feature-gates=EtcdRangeStream=false",),
    "stored-as-json": ("--storage-media-type=application/json",),
}
"""What changes the requests that a kube-apiserver sends."""

TENANTS = ("alpha", "beta")


@pytest.fixture(scope="session")
def programs() -> Programs:
    found = find_programs()
    if isinstance(found, str):
        pytest.skip(found)
    return found


@pytest.fixture(scope="session", params=FLAGS.values(), ids=list(FLAGS))
def flags(request: pytest.FixtureRequest) -> Sequence[str]:
    chosen: Sequence[str] = request.param
    return chosen


@pytest.fixture(scope="session")
def apiservers(
    programs: Programs, fetch: FetchServer, flags: Sequence[str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Mapping[str, Apiserver]]:
    """Both, running side by side."""
    directory = tmp_path_factory.mktemp("kube")
    with ExitStack() as stack:
        starting = {
            name: stack.enter_context(start_apiserver(name, fetch, programs, directory / name, flags))
            for name in TENANTS
        }
        for apiserver in starting.values():
            apiserver.wait_until_ready()
        yield starting


@pytest.fixture(scope="module", params=TENANTS)
def apiserver(request: pytest.FixtureRequest, apiservers: Mapping[str, Apiserver]) -> Apiserver:
    """One of the two, while the other runs."""
    return apiservers[request.param]


@pytest.fixture
def namespace(apiserver: Apiserver) -> str:
    """A namespace that nothing is in."""
    return apiserver.new_namespace()

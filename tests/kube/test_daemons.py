"""A kube-apiserver on three daemons of one FoundationDB, which are killed one after the other."""

import itertools
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.endpoints import fetch
from tests.endpoints.daemons import Daemon, daemons
from tests.endpoints.server import Missing
from tests.kube.apiserver import Apiserver, Refused, start_apiserver_on
from tests.kube.programs import Programs
from tests.kube.test_workload import config_map, config_maps

DAEMONS = 3
KILLS = 6
ITEMS = 40
"""Objects that are written between one kill and the next."""

_PASSING = frozenset((429, 500, 503, 504))


@pytest.fixture(scope="module")
def endpoint() -> fetch.Fetch:
    found = next(it for it in fetch.STORES if it.name == "fetch-fdb")
    if isinstance(found, Missing):
        pytest.skip(found.reason)
    return found


@pytest.fixture(scope="module")
def three(endpoint: fetch.Fetch, tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Daemon]]:
    with daemons(endpoint, tmp_path_factory.mktemp("daemons"), DAEMONS) as started:
        yield started


@pytest.fixture(scope="module")
def apiserver(
    endpoint: fetch.Fetch, three: list[Daemon], programs: Programs, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Apiserver]:
    first, *others = (daemon.address for daemon in three)
    flags = [f"--etcd-servers={','.join(f'https://{address}' for address in others)}"]
    directory: Path = tmp_path_factory.mktemp("kube") / "apiserver"
    tenant = endpoint.new_tenant()
    with start_apiserver_on(first, endpoint.authority, tenant, programs, directory, flags) as started:
        started.wait_until_ready()
        yield started


class Writer:
    """Creates and updates objects until it is told to stop, as a controller does: again where it was not answered."""

    def __init__(self, apiserver: Apiserver, namespace: str) -> None:
        self._apiserver = apiserver
        self._path = config_maps(namespace)
        self._stop = threading.Event()
        self.acknowledged: dict[str, str] = {}
        self.errors: list[Refused] = []
        self.progress = threading.Semaphore(0)
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        for number in itertools.count():
            name = f"item-{number:05}"
            if self._until_done("POST", self._path, config_map(name, value="created"), name, "created"):
                changed = {"data": {"value": "changed"}}
                self._until_done("PATCH", f"{self._path}/{name}", changed, name, "changed")
            self.progress.release()
            if self._stop.is_set():
                return

    def _until_done(self, method: str, path: str, body: dict[str, object], name: str, value: str) -> bool:
        while not self._stop.is_set():
            try:
                self._apiserver.call(path, method, body)
            except Refused as refused:
                if refused.code == 409:  # it had been created when the answer was lost
                    return True
                if refused.code not in _PASSING:
                    self.errors.append(refused)
                    return False
                self._stop.wait(0.05)
            else:
                self.acknowledged[name] = value
                return True
        return False

    def stop(self) -> None:
        self._stop.set()
        self._thread.join()


def test_nothing_that_was_acknowledged_is_lost_and_watches_hear_all(apiserver: Apiserver, three: list[Daemon]) -> None:
    namespace = apiserver.new_namespace()
    path = config_maps(namespace)
    before = apiserver.call(path)["metadata"]["resourceVersion"]
    writer = Writer(apiserver, namespace)
    for number in range(KILLS):
        daemon = three[number % DAEMONS]
        for _ in range(ITEMS // 2):
            assert writer.progress.acquire(timeout=60)
        daemon.kill()
        for _ in range(ITEMS // 2):
            assert writer.progress.acquire(timeout=60)
        daemon.restart()
    writer.stop()
    assert not writer.errors
    listed = apiserver.call(path)
    found = {item["metadata"]["name"]: item["data"]["value"] for item in listed["items"]}
    assert len(found) >= KILLS * ITEMS // 2
    missing = {name: value for name, value in writer.acknowledged.items() if found.get(name) != value}
    assert not missing
    last = int(listed["metadata"]["resourceVersion"])
    apiserver.call(path, "POST", config_map("last"))
    heard: dict[str, str] = {}
    versions = []
    with apiserver.watch(path, resourceVersion=before) as events:
        for event in events:
            if event["object"]["metadata"]["name"] == "last":
                break
            versions.append(int(event["object"]["metadata"]["resourceVersion"]))
            if "value" in event["object"].get("data", {}):
                heard[event["object"]["metadata"]["name"]] = event["object"]["data"]["value"]
    assert heard == {name: value for name, value in found.items() if name.startswith("item-")}
    assert versions == sorted(set(versions))
    assert versions[-1] <= last

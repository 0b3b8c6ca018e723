"""A control plane moves by its snapshot: from an etcd to fetch, and from fetch to an etcd."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from fetch.tls import certificates
from tests.endpoints.fetch import STORES, Fetch
from tests.kube.apiserver import Apiserver, Object, start_apiserver_on
from tests.kube.programs import Programs
from tests.kube.test_workload import config_maps, create_items
from tests.snapshots import test_restored_by_daemon as by_daemon
from tests.snapshots.etcds import Restoring, found, save

pytestmark = pytest.mark.timeout(600)  # three kube-apiservers start one after the other

ITEMS = 30
TENANT = "restored"


@contextmanager
def on(address: str, programs: Programs, directory: Path) -> Iterator[Apiserver]:
    """A kube-apiserver on an etcd."""
    with start_apiserver_on(address, certificates.authority("etcd"), "etcd", programs, directory) as apiserver:
        apiserver.wait_until_ready()
        yield apiserver


def objects(apiserver: Apiserver, namespace: str) -> tuple[list[Object], list[Object]]:
    """All that there is of a namespace, revisions included."""
    return apiserver.call(config_maps(namespace))["items"], [apiserver.call(f"/api/v1/namespaces/{namespace}")]


@pytest.fixture(params=[it for it in STORES if isinstance(it, Fetch)], ids=lambda store: store.name)
def store(request: pytest.FixtureRequest) -> Fetch:
    return request.param  # type: ignore[no-any-return]


def test_a_control_plane_moves_to_fetch_and_back_by_its_snapshot(
    store: Fetch, programs: Programs, tmp_path: Path
) -> None:
    restoring = found()[0]
    if not isinstance(restoring, Restoring):
        pytest.skip(restoring.reason)
    with restoring.etcd.start(tmp_path / "before") as etcd:
        with on(f"http://{etcd.address}", programs, tmp_path / "apiserver-before") as apiserver:
            namespace = apiserver.new_namespace()
            create_items(apiserver, namespace, ITEMS)
            apiserver.call(f"{config_maps(namespace)}/item-000", "PATCH", {"data": {"value": "changed"}})
            expected = objects(apiserver, namespace)
        with etcd.connect() as client:
            snapshot = save(client, tmp_path / "snapshot")
    with store.start(tmp_path / "fetch", [f"--admin-principals={by_daemon.ADMINISTRATOR}"]) as server:
        certificates.issue(store.authority, by_daemon.ADMINISTRATOR).write(server.directory, "admin")
        done = by_daemon.fetch_restore(server, snapshot, "--tenant", TENANT)
        assert done.returncode == 0, done.stderr
        with start_apiserver_on(
            server.address, store.authority, TENANT, programs, tmp_path / "apiserver-on-fetch"
        ) as apiserver:
            apiserver.wait_until_ready()
            assert objects(apiserver, namespace) == expected
            # revisions go on, so that a client's watch does
            listed = apiserver.call(config_maps(namespace), limit=1)["metadata"]["resourceVersion"]
            with apiserver.watch(config_maps(namespace), resourceVersion=listed) as watched:
                apiserver.call(f"{config_maps(namespace)}/item-001", "PATCH", {"data": {"value": "on fetch"}})
                event = next(watched)
                assert (event["type"], event["object"]["data"]["value"]) == ("MODIFIED", "on fetch")
            expected = objects(apiserver, namespace)
            assert apiserver.storage_errors() == []
        with server.connect_as(TENANT) as client:
            back = save(client, tmp_path / "back")
    with (
        restoring.started(back, tmp_path / "after") as etcd,
        on(f"http://{etcd.address}", programs, tmp_path / "apiserver-after") as apiserver,
    ):
        assert objects(apiserver, namespace) == expected
        apiserver.call(f"{config_maps(namespace)}/item-002", "PATCH", {"data": {"value": "back"}})

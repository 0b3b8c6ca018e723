"""What happens by itself as time goes by: events expire, and kube-apiserver compacts the past."""

import time
from collections.abc import Iterator

import pytest

from tests.endpoints.fetch import FetchServer
from tests.kube.apiserver import Apiserver, Refused, start_apiserver
from tests.kube.programs import Programs

pytestmark = pytest.mark.timeout(400)  # the first test waits for a kube-apiserver to start

EVENT_SECONDS = 20
COMPACTION_SECONDS = 60


@pytest.fixture(scope="module")
def hasty(programs: Programs, fetch: FetchServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Apiserver]:
    """A kube-apiserver whose events live for `EVENT_SECONDS`, and which compacts every few seconds."""
    flags = [f"--event-ttl={EVENT_SECONDS}s", "--etcd-compaction-interval=5s"]
    directory = tmp_path_factory.mktemp("kube") / "hasty"
    with start_apiserver("hasty", fetch, programs, directory, flags) as apiserver:
        apiserver.wait_until_ready()
        yield apiserver


def test_an_event_expires_and_its_watchers_are_told(hasty: Apiserver) -> None:
    path = f"/api/v1/namespaces/{(namespace := hasty.new_namespace())}/events"
    subject = {"kind": "Namespace", "name": namespace, "namespace": namespace}
    event = {"metadata": {"name": "happened"}, "involvedObject": subject, "reason": "Test", "type": "Normal"}
    created = hasty.call(path, "POST", event)
    started = time.monotonic()
    with hasty.watch(path, resourceVersion=created["metadata"]["resourceVersion"]) as events:
        assert next(events)["type"] == "DELETED"
    assert time.monotonic() - started > EVENT_SECONDS - 1


def test_a_revision_from_before_a_compaction_is_gone(hasty: Apiserver) -> None:
    path = f"/api/v1/namespaces/{hasty.new_namespace()}/configmaps"
    revision = hasty.call(path)["metadata"]["resourceVersion"]
    with pytest.raises(Refused) as refused:
        list_until_refused(hasty, path, revision)
    assert (refused.value.code, refused.value.reason) == (410, "Expired")


def list_until_refused(apiserver: Apiserver, path: str, revision: str) -> None:
    """A compaction tells nobody, so there is nothing to wait on. It needs writes to happen."""
    deadline = time.monotonic() + COMPACTION_SECONDS
    while time.monotonic() < deadline:
        apiserver.new_namespace()
        apiserver.call(path, resourceVersion=revision, resourceVersionMatch="Exact")
        time.sleep(1)


def test_the_log_tells_of_no_storage_error(hasty: Apiserver) -> None:
    assert hasty.storage_errors() == []

"""What Kubernetes asks of its storage, through a real kube-apiserver.

Each test runs on two kube-apiservers that share a fetch, and for each set of flags that changes what they send.
"""

import base64
import itertools
import json
import secrets
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from tests.kube.apiserver import Apiserver, Object, Refused

pytestmark = pytest.mark.timeout(400)  # the first test waits for two kube-apiservers to start

ITEMS = 120
CHANGES = 20
SECRET_BYTES = 690_000
"""900 kB in base64."""


@dataclass(frozen=True, slots=True)
class Items:
    """A namespace with `ITEMS` ConfigMaps, of which the first was changed `CHANGES` times after `revision`."""

    apiserver: Apiserver
    namespace: str
    revision: str

    @property
    def path(self) -> str:
        return config_maps(self.namespace)

    def pages(self, limit: int, **query: object) -> Iterator[Object]:
        """All pages of a list, each asked for with what the last one said to continue with."""
        page = self.apiserver.call(self.path, limit=limit, **query)
        yield page
        while following := page["metadata"].get("continue"):
            page = self.apiserver.call(self.path, **{"limit": limit, "continue": following})
            yield page


@pytest.fixture(scope="module")
def items(apiserver: Apiserver) -> Items:
    namespace = apiserver.new_namespace()
    create_items(apiserver, namespace, ITEMS)
    path = config_maps(namespace)
    revision = apiserver.call(path, limit=1)["metadata"]["resourceVersion"]
    for change in range(CHANGES):
        apiserver.call(f"{path}/item-000", "PATCH", {"data": {"value": f"changed {change}"}})
    return Items(apiserver, namespace, revision)


def config_maps(namespace: str) -> str:
    return f"/api/v1/namespaces/{namespace}/configmaps"


def config_map(name: str, **data: str) -> Object:
    return {"metadata": {"name": name}, "data": data}


def create_items(apiserver: Apiserver, namespace: str, count: int) -> None:
    for number in range(count):
        item = config_map(f"item-{number:03}", value=str(number), text="x" * 900)
        item["metadata"]["labels"] = {"half": str(number % 2)}
        apiserver.call(config_maps(namespace), "POST", item)


def names(listed: Object) -> list[str]:
    return [item["metadata"]["name"] for item in listed["items"]]


def value_of_first(listed: Object) -> str:
    (value,) = (item["data"]["value"] for item in listed["items"] if item["metadata"]["name"] == "item-000")
    return str(value)


def taken(events: Iterator[Object], count: int) -> list[Object]:
    return list(itertools.islice(events, count))


# creating


def test_an_object_is_read_as_it_was_created(apiserver: Apiserver, namespace: str) -> None:
    created = apiserver.call(config_maps(namespace), "POST", config_map("one", value="1"))
    assert apiserver.call(f"{config_maps(namespace)}/one") == created


def test_a_name_that_is_taken_is_refused(apiserver: Apiserver, namespace: str) -> None:
    apiserver.call(config_maps(namespace), "POST", config_map("one"))
    with pytest.raises(Refused) as refused:
        apiserver.call(config_maps(namespace), "POST", config_map("one"))
    assert (refused.value.code, refused.value.reason) == (409, "AlreadyExists")


def test_a_secret_of_900_kb_is_read_as_it_was_created(apiserver: Apiserver, namespace: str) -> None:
    blob = base64.b64encode(secrets.token_bytes(SECRET_BYTES)).decode()
    path = f"/api/v1/namespaces/{namespace}/secrets"
    apiserver.call(path, "POST", {"metadata": {"name": "big"}, "data": {"blob": blob}})
    assert apiserver.call(f"{path}/big")["data"]["blob"] == blob


# listing


def test_a_list_has_every_object(items: Items) -> None:
    assert names(items.apiserver.call(items.path)) == [f"item-{number:03}" for number in range(ITEMS)]


def test_a_list_by_label_has_those_that_carry_it(items: Items) -> None:
    assert len(names(items.apiserver.call(items.path, labelSelector="half=1"))) == ITEMS // 2


def test_a_list_in_pages_has_every_object_once(items: Items) -> None:
    paged = [name for page in items.pages(25) for name in names(page)]
    assert paged == [f"item-{number:03}" for number in range(ITEMS)]


def test_each_page_tells_how_many_objects_remain(items: Items) -> None:
    remaining = [page["metadata"].get("remainingItemCount") for page in items.pages(25)]
    assert remaining == [95, 70, 45, 20, None]


def test_all_pages_of_a_list_are_of_one_revision(apiserver: Apiserver, namespace: str) -> None:
    create_items(apiserver, namespace, 4)
    path = config_maps(namespace)
    first = apiserver.call(path, limit=2)
    apiserver.call(f"{path}/item-003", "PATCH", {"data": {"value": "later"}})
    second = apiserver.call(path, **{"limit": 2, "continue": first["metadata"]["continue"]})
    assert [item["data"]["value"] for item in second["items"]] == ["2", "3"]


def test_kubectl_lists_in_pages(items: Items) -> None:
    listed = items.apiserver.kubectl("get", "configmaps", "-n", items.namespace, "-o", "name", "--chunk-size=25")
    assert len(listed.splitlines()) == ITEMS


def test_a_list_at_an_exact_older_revision_has_what_was_then(items: Items) -> None:
    query = {"resourceVersion": items.revision, "resourceVersionMatch": "Exact", "limit": 500}
    assert value_of_first(items.apiserver.call(items.path, **query)) == "0"


def test_a_list_of_now_has_what_changed_last(items: Items) -> None:
    assert value_of_first(items.apiserver.call(items.path)) == f"changed {CHANGES - 1}"


def test_a_list_at_a_revision_in_the_future_is_refused(items: Items) -> None:
    with pytest.raises(Refused) as refused:
        items.apiserver.call(items.path, resourceVersion=int(items.revision) + 1_000_000, resourceVersionMatch="Exact")
    assert "Too large resource version" in str(refused.value)


# changing


def test_a_stale_write_conflicts(apiserver: Apiserver, namespace: str) -> None:
    stale = apiserver.call(config_maps(namespace), "POST", config_map("one", value="1"))
    path = f"{config_maps(namespace)}/one"
    apiserver.call(path, "PATCH", {"data": {"value": "2"}})
    with pytest.raises(Refused) as refused:
        apiserver.call(path, "PUT", stale)
    assert (refused.value.code, refused.value.reason) == (409, "Conflict")


def test_a_write_that_changes_nothing_takes_no_revision(apiserver: Apiserver, namespace: str) -> None:
    created = apiserver.call(config_maps(namespace), "POST", config_map("one", value="1"))
    assert apiserver.call(f"{config_maps(namespace)}/one", "PUT", created) == created


DEPLOYMENT = """
apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  replicas: 2
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec: {containers: [{name: c, image: example/web}]}
"""


def test_server_side_apply_creates_and_changes(apiserver: Apiserver, namespace: str) -> None:
    apply = ("apply", "--server-side", "-n", namespace, "-f", "-")
    apiserver.kubectl(*apply, stdin=DEPLOYMENT)
    apiserver.kubectl(*apply, stdin=DEPLOYMENT.replace("replicas: 2", "replicas: 3"))
    found = apiserver.call(f"/apis/apps/v1/namespaces/{namespace}/deployments/web")
    assert (found["spec"]["replicas"], found["metadata"]["generation"]) == (3, 2)


def test_a_deployment_scales_through_its_subresource(apiserver: Apiserver, namespace: str) -> None:
    apiserver.kubectl("apply", "-n", namespace, "-f", "-", stdin=DEPLOYMENT)
    apiserver.kubectl("scale", "-n", namespace, "deployment", "web", "--replicas=5")
    assert apiserver.call(f"/apis/apps/v1/namespaces/{namespace}/deployments/web/scale")["spec"]["replicas"] == 5


def test_a_leader_renews_its_lease(apiserver: Apiserver, namespace: str) -> None:
    path = f"/apis/coordination.k8s.io/v1/namespaces/{namespace}/leases"
    spec = {"holderIdentity": "me", "leaseDurationSeconds": 15}
    lease = apiserver.call(path, "POST", {"metadata": {"name": "leader"}, "spec": spec})
    for renewal in range(5):
        lease["spec"]["leaseTransitions"] = renewal
        lease = apiserver.call(f"{path}/leader", "PUT", lease)
    assert apiserver.call(f"{path}/leader")["spec"]["leaseTransitions"] == 4


def test_custom_resources_are_defined_and_stored(apiserver: Apiserver, namespace: str) -> None:
    group = f"{namespace}.example.dev"
    schema = {"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": True}}
    definition = {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"widgets.{group}"},
        "spec": {
            "group": group,
            "scope": "Namespaced",
            "names": {"plural": "widgets", "singular": "widget", "kind": "Widget"},
            "versions": [{"name": "v1", "served": True, "storage": True, "schema": schema}],
        },
    }
    apiserver.kubectl("create", "-f", "-", stdin=json.dumps(definition))
    apiserver.kubectl("wait", "--for=condition=established", f"crd/widgets.{group}", "--timeout=30s")
    widget = {"apiVersion": f"{group}/v1", "kind": "Widget", "metadata": {"name": "w"}, "spec": {"size": 3}}
    apiserver.call(f"/apis/{group}/v1/namespaces/{namespace}/widgets", "POST", widget)
    assert names(apiserver.call(f"/apis/{group}/v1/widgets")) == ["w"]


# watching


def test_a_watch_from_an_older_revision_tells_every_change_in_order(items: Items) -> None:
    query = {"resourceVersion": items.revision, "fieldSelector": "metadata.name=item-000"}
    with items.apiserver.watch(items.path, **query) as events:
        changes = [event["object"]["data"]["value"] for event in taken(events, CHANGES)]
    assert changes == [f"changed {change}" for change in range(CHANGES)]


def test_a_watch_sees_what_is_created_changed_and_deleted(apiserver: Apiserver, namespace: str) -> None:
    path = config_maps(namespace)
    revision = apiserver.call(path)["metadata"]["resourceVersion"]
    with apiserver.watch(path, resourceVersion=revision) as events:
        apiserver.call(path, "POST", config_map("one", value="1"))
        apiserver.call(f"{path}/one", "PATCH", {"data": {"value": "2"}})
        apiserver.call(f"{path}/one", "DELETE")
        seen = [(event["type"], event["object"]["data"]["value"]) for event in taken(events, 3)]
    assert seen == [("ADDED", "1"), ("MODIFIED", "2"), ("DELETED", "2")]


def test_a_watch_sees_every_object_that_kubectl_creates(apiserver: Apiserver, namespace: str) -> None:
    path = config_maps(namespace)
    revision = apiserver.call(path)["metadata"]["resourceVersion"]
    created = [f"item-{number:03}" for number in range(ITEMS)]
    manifests = [{"apiVersion": "v1", "kind": "ConfigMap", **config_map(name)} for name in created]
    with apiserver.watch(path, resourceVersion=revision) as events:
        apiserver.kubectl("create", "-n", namespace, "-f", "-", stdin="\n---\n".join(map(json.dumps, manifests)))
        seen = [event["object"]["metadata"]["name"] for event in taken(events, ITEMS)]
    assert seen == created


def test_a_watch_list_has_every_object_and_then_a_bookmark(items: Items) -> None:
    query = {"sendInitialEvents": "true", "allowWatchBookmarks": "true", "resourceVersionMatch": "NotOlderThan"}
    with items.apiserver.watch(items.path, **query) as events:
        *initial, bookmark = taken(events, ITEMS + 1)
    assert sorted(event["object"]["metadata"]["name"] for event in initial) == [f"item-{i:03}" for i in range(ITEMS)]
    assert bookmark["object"]["metadata"]["annotations"] == {"k8s.io/initial-events-end": "true"}


# deleting


def test_a_deleted_object_is_not_found(apiserver: Apiserver, namespace: str) -> None:
    apiserver.call(config_maps(namespace), "POST", config_map("one"))
    apiserver.call(f"{config_maps(namespace)}/one", "DELETE")
    with pytest.raises(Refused) as refused:
        apiserver.call(f"{config_maps(namespace)}/one")
    assert refused.value.reason == "NotFound"


def test_a_delete_by_label_leaves_the_others(apiserver: Apiserver, namespace: str) -> None:
    create_items(apiserver, namespace, 10)
    apiserver.kubectl("delete", "configmaps", "-n", namespace, "-l", "half=0")
    assert names(apiserver.call(config_maps(namespace))) == [f"item-00{number}" for number in (1, 3, 5, 7, 9)]


def test_a_delete_of_what_has_changed_since_is_refused(apiserver: Apiserver, namespace: str) -> None:
    created = apiserver.call(config_maps(namespace), "POST", config_map("one", value="1"))
    apiserver.call(f"{config_maps(namespace)}/one", "PATCH", {"data": {"value": "2"}})
    seen = {"preconditions": {"resourceVersion": created["metadata"]["resourceVersion"]}}
    with pytest.raises(Refused) as refused:
        apiserver.call(f"{config_maps(namespace)}/one", "DELETE", seen)
    assert refused.value.reason == "Conflict"


def test_what_kubectl_does_not_find_is_its_error(apiserver: Apiserver, namespace: str) -> None:
    with pytest.raises(subprocess.CalledProcessError) as failed:
        apiserver.kubectl("get", "configmap", "-n", namespace, "absent")
    assert "NotFound" in failed.value.stderr


# after all of it


def test_the_log_tells_of_no_storage_error(apiserver: Apiserver) -> None:
    assert apiserver.storage_errors() == []

"""A real kube-apiserver takes the manifests: server-side dry run, with strict validation of every field."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.deploy.chart import VALUES, render
from tests.deploy.files import DEPLOY
from tests.endpoints.fetch import Fetch
from tests.kube.apiserver import Apiserver, start_apiserver
from tests.kube.programs import Programs

EXAMPLES = [DEPLOY / "examples" / name for name in ("cert-manager.yaml", "kamaji.yaml")]

_FOREIGN = {
    "certificates.cert-manager.io": ("cert-manager.io", "v1", "Certificate"),
    "issuers.cert-manager.io": ("cert-manager.io", "v1", "Issuer"),
    "servicemonitors.monitoring.coreos.com": ("monitoring.coreos.com", "v1", "ServiceMonitor"),
    "prometheusrules.monitoring.coreos.com": ("monitoring.coreos.com", "v1", "PrometheusRule"),
    "datastores.kamaji.clastix.io": ("kamaji.clastix.io", "v1alpha1", "DataStore"),
    "tenantcontrolplanes.kamaji.clastix.io": ("kamaji.clastix.io", "v1alpha1", "TenantControlPlane"),
}
"""Kinds that are not Kubernetes' own. Their fields are taken as they are: what they mean is for their own controllers."""
_CLUSTER_WIDE = ("DataStore",)


def definition(name: str, group: str, version: str, kind: str) -> dict[str, object]:
    """A kind with any fields."""
    schema = {"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": True}}
    plural = name.partition(".")[0]
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": name},
        "spec": {
            "group": group,
            "scope": "Cluster" if kind in _CLUSTER_WIDE else "Namespaced",
            "names": {"plural": plural, "singular": kind.lower(), "kind": kind},
            "versions": [{"name": version, "served": True, "storage": True, "schema": schema}],
        },
    }


@pytest.fixture(scope="module")
def cluster(programs: Programs, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Apiserver]:
    """A kube-apiserver that knows the kinds."""
    directory = tmp_path_factory.mktemp("manifests")
    with (
        Fetch("embedded").start(directory / "fetch") as fetch,
        start_apiserver("manifests", fetch, programs, directory / "apiserver") as apiserver,
    ):
        apiserver.wait_until_ready()
        for namespace in ("etcd", "kamaji-system"):
            apiserver.call("/api/v1/namespaces", "POST", {"metadata": {"name": namespace}})
        for name, of in _FOREIGN.items():
            apiserver.call("/apis/apiextensions.k8s.io/v1/customresourcedefinitions", "POST", definition(name, *of))
        for name in _FOREIGN:
            apiserver.kubectl("wait", "--for=condition=Established", f"crd/{name}", "--timeout=60s")
        yield apiserver


def apply(cluster: Apiserver, manifests: str) -> str:
    return cluster.kubectl(
        "apply", "--server-side", "--dry-run=server", "--validate=strict", "--filename=-", stdin=manifests
    )


@pytest.mark.parametrize("values", VALUES.values(), ids=VALUES)
def test_what_the_chart_makes_is_taken(cluster: Apiserver, values: tuple[str, ...]) -> None:
    assert "statefulset.apps/fetch serverside-applied (server dry run)" in apply(cluster, render(values))


def test_the_manifests_are_taken(cluster: Apiserver) -> None:
    manifests = (DEPLOY / "kubernetes" / "fetch.yaml").read_text()
    assert "poddisruptionbudget.policy/fetch serverside-applied (server dry run)" in apply(cluster, manifests)


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_is_taken(cluster: Apiserver, example: Path) -> None:
    assert "(server dry run)" in apply(cluster, example.read_text())

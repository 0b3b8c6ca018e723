"""The chart, rendered by Helm where it is."""

import shutil
import subprocess
from collections.abc import Mapping

import pytest

from tests import peers
from tests.deploy.files import DEPLOY

CHART = DEPLOY / "chart"
KUBERNETES = "1.37.0"

CLUSTER_FILE = "foundationdb.clusterFile=fdb:abcdefgh@10.0.0.1:4500"
LEAST = (CLUSTER_FILE, "certificates.issuer.name=fetch-ca")
"""What has to be set."""

EVERYTHING = (
    *LEAST,
    "certificates.clients={alpha,beta}",
    "certificates.dnsNames={fetch.example.com}",
    "certificates.ipAddresses={10.1.2.3}",
    "serviceMonitor.enabled=true",
    "alerts.enabled=true",
    "settings.tenants={alpha,beta}",
    "settings.workers=2",
    "settings.auto-compaction-retention=8h",
    "settings.interceptors={+rate_limit}",
    "interceptors.rate_limit.rate=500",
    "service.type=LoadBalancer",
    "service.annotations.who=me",
    "image.pullSecrets[0].name=registry",
    "priorityClassName=system-cluster-critical",
    "nodeSelector.disk=ssd",
    "tolerations[0].operator=Exists",
    "podAnnotations.who=me",
    "networkPolicy.clients[0].podSelector.matchLabels.app=apiserver",
    "networkPolicy.metrics[0].namespaceSelector.matchLabels.name=monitoring",
)

NEITHER_MADE = (
    "foundationdb.existingConfigMap=fdb-config",
    "certificates.secret=made-elsewhere",
    "peers.secret=made-there",
)
"""Where FoundationDB's operator and somebody else make what the chart makes otherwise."""

VALUES: Mapping[str, tuple[str, ...]] = {"least": LEAST, "everything": EVERYTHING, "neither-made": NEITHER_MADE}


def helm() -> str:
    return shutil.which("helm") or peers.find("helm") or pytest.skip("there is no helm: `make peers` builds it")


def render(values: tuple[str, ...]) -> str:
    """The manifests that the chart makes of these values. Raises `CalledProcessError`, with what Helm says."""
    sets = [argument for value in values for argument in ("--set", value)]
    command = [helm(), "template", "fetch", str(CHART), "--namespace=etcd", f"--kube-version={KUBERNETES}", *sets]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=120).stdout

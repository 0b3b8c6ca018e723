"""kubeadm takes fetch for its external etcd, with the configuration that is shown (`deploy/examples/kubeadm.yaml`)."""

import importlib.util
import os
import re
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

from fetch.tls import certificates
from tests import peers
from tests.deploy.files import DEPLOY
from tests.endpoints.fetch import FetchServer
from tests.kube.apiserver import start_apiserver_on
from tests.kube.programs import Programs

pytestmark = pytest.mark.timeout(400)  # a check asks again and again before it gives up

EXAMPLE = DEPLOY / "examples" / "kubeadm.yaml"
TENANT = "alpha"


@dataclass(frozen=True, slots=True)
class Cluster:
    """A cluster that kubeadm would make, in a folder rather than in /etc/kubernetes."""

    kubeadm: str
    directory: Path

    def phase(self, *phase: str) -> str:
        """What a phase of `kubeadm init` says. Raises `CalledProcessError`, with that, when it fails."""
        command = [self.kubeadm, "init", "phase", *phase, "--config", str(self.directory / "kubeadm.yaml")]
        return subprocess.run(
            command,
            env={**os.environ, "KUBEADM_INIT_DRYRUN_DIR": str(self.directory / "manifests")},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=True,
            timeout=300,
        ).stdout


@pytest.fixture
def cluster(fetch: FetchServer, tmp_path: Path) -> Cluster:
    """The example's cluster, whose certificate is there, at a fetch of the tests'."""
    kubeadm = peers.find("kubeadm") or pytest.skip("there is no kubeadm: `make peers` builds it where Go is")
    fetch.endpoint.authority.write(tmp_path, "fetch-ca")
    certificates.issue(fetch.endpoint.authority, TENANT).write(tmp_path, TENANT)
    here = EXAMPLE.read_text().replace("/etc/kubernetes/pki/etcd", str(tmp_path))
    here = here.replace("https://fetch.example.com:2379", f"https://{fetch.address}")
    # a release that is named is not asked for in the internet
    (tmp_path / "kubeadm.yaml").write_text(f"{here}certificatesDir: {tmp_path}/pki\nkubernetesVersion: v1.37.2\n")
    (tmp_path / "manifests").mkdir()
    return Cluster(kubeadm, tmp_path)


def _answers_http() -> bool:
    """Whether the native transport is there, and one that answers HTTP where it answers gRPC."""
    if importlib.util.find_spec("fetch_transport") is None:
        return False
    return hasattr(importlib.import_module("fetch_transport").Server, "set_http_application")


def test_the_checks_before_anything_else_find_nothing_wrong_with_the_etcd(cluster: Cluster) -> None:
    if os.environ.get("FETCH_TRANSPORT") == "grpcio" or not _answers_http():
        pytest.skip("kubeadm asks for /version where it finds gRPC, and grpcio's server knows no HTTP")
    # what else it misses on this machine (a kubelet, a container runtime) are warnings then, and so would this be
    told = cluster.phase("preflight", "--ignore-preflight-errors=all", "--dry-run")
    assert "ExternalEtcd" not in told


def test_no_certificates_of_an_etcds_are_made(cluster: Cluster) -> None:
    told = cluster.phase("certs", "all")
    assert "External etcd mode: Skipping apiserver-etcd-client certificate generation" in told


def test_the_apiserver_that_it_makes_runs_on_fetch(cluster: Cluster, fetch: FetchServer, programs: Programs) -> None:
    cluster.phase("certs", "all")
    cluster.phase("control-plane", "apiserver", "--dry-run")
    made = (cluster.directory / "manifests" / "kube-apiserver.yaml").read_text()
    flags = re.findall(r"- (--etcd-(?:servers|cafile|certfile|keyfile)=\S+)", made)
    assert sorted(flag.partition("=")[0] for flag in flags) == [
        "--etcd-cafile",
        "--etcd-certfile",
        "--etcd-keyfile",
        "--etcd-servers",
    ]
    directory = cluster.directory / "apiserver"
    # a flag that is given again counts as it is given last
    with start_apiserver_on(fetch.address, fetch.endpoint.authority, TENANT, programs, directory, flags) as apiserver:
        apiserver.wait_until_ready()
        (cluster.directory / "admin.conf").write_text(apiserver.kubeconfig())
        told = cluster.phase("upload-config", "kubeadm", f"--kubeconfig={cluster.directory / 'admin.conf'}")
        assert 'Storing the configuration used in ConfigMap "kubeadm-config"' in told
        stored = apiserver.call("/api/v1/namespaces/kube-system/configmaps/kubeadm-config")
        assert fetch.address in stored["data"]["ClusterConfiguration"]

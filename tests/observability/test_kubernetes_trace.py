"""One trace from a request that kube-apiserver gets to the commit in fetch."""

import contextlib
import json
import ssl
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from fetch.tls import certificates
from tests import peers
from tests.endpoints.process import Process, free_port
from tests.observability.conftest import Observed
from tests.observability.receiver import Received

APISERVER = peers.directory() / "kube-apiserver"
START_SECONDS = 240
TOKEN = "tests-token"
REQUEST = "POST /api/v1/namespaces/{:namespace}/configmaps"

pytestmark = [
    pytest.mark.timeout(300),
    pytest.mark.skipif(not APISERVER.exists(), reason=f"NO TRACE FROM KUBERNETES SEEN: there is no {APISERVER}"),
]


@dataclass(frozen=True, slots=True)
class ApiServer:
    """A kube-apiserver whose storage is fetch."""

    url: str

    def request(self, method: str, path: str, body: object = None) -> int:
        """The status that a request is answered with."""
        request = urllib.request.Request(self.url + path, method=method)
        request.add_header("Authorization", f"Bearer {TOKEN}")
        request.add_header("Content-Type", "application/json")
        data = None if body is None else json.dumps(body).encode()
        with urllib.request.urlopen(request, data, timeout=10, context=ssl._create_unverified_context()) as answer:
            status: int = answer.status
            return status

    def wait_until_ready(self, process: Process) -> None:
        for _ in range(START_SECONDS):
            with contextlib.suppress(urllib.error.URLError, OSError):
                if self.request("GET", "/readyz") == 200:
                    return
            if "command failed" in process.log():
                break
            time.sleep(1)  # kube-apiserver tells nobody when it is ready
        pytest.fail(f"kube-apiserver did not start:\n{process.log()[-3000:]}")


@pytest.fixture
def apiserver(observed: Observed, tmp_path: Path) -> Iterator[ApiServer]:
    authority = observed.server.endpoint.authority
    certificates.issue(authority, observed.server.endpoint.new_tenant()).write(tmp_path, "tenant")
    certificates.issue(authority, "accounts", server=True, names=certificates.loopback_names()).write(tmp_path, "sa")
    (tmp_path / "tokens.csv").write_text(f"{TOKEN},tests,1,system:masters\n")
    (tmp_path / "tracing.yaml").write_text(
        "apiVersion: apiserver.config.k8s.io/v1\nkind: TracingConfiguration\n"
        f"endpoint: {observed.receiver.endpoint.removeprefix('http://')}\nsamplingRatePerMillion: 1000000\n"
    )
    port = free_port()
    command = [
        str(APISERVER),
        f"--etcd-servers=https://{observed.server.address}",
        f"--etcd-cafile={observed.server.directory}/ca.crt",
        f"--etcd-certfile={tmp_path}/tenant.crt",
        f"--etcd-keyfile={tmp_path}/tenant.key",
        f"--tracing-config-file={tmp_path}/tracing.yaml",
        f"--token-auth-file={tmp_path}/tokens.csv",
        "--authorization-mode=AlwaysAllow",
        "--bind-address=127.0.0.1",
        f"--secure-port={port}",
        f"--cert-dir={tmp_path}/serving",
        "--service-account-issuer=https://tests",
        f"--service-account-key-file={tmp_path}/sa.crt",
        f"--service-account-signing-key-file={tmp_path}/sa.key",
        "--service-cluster-ip-range=10.0.0.0/24",
        "--disable-admission-plugins=ServiceAccount",
    ]
    with Process(command, tmp_path / "kube-apiserver.log") as process:
        server = ApiServer(f"https://127.0.0.1:{port}")
        server.wait_until_ready(process)
        yield server


def test_a_trace_goes_from_kube_apiservers_request_to_the_commit(observed: Observed, apiserver: ApiServer) -> None:
    config_map = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "traced"}, "data": {"a": "b"}}
    assert apiserver.request("POST", "/api/v1/namespaces/default/configmaps", config_map) == 201
    receiver = observed.receiver

    def is_request(received: Received) -> bool:
        return received.service == "apiserver" and received.span.name == REQUEST

    def is_create_for_it(received: Received) -> bool:
        return received.attributes.get("fetch.kind") == "create" and any(
            is_request(other) and other.span.trace_id == received.span.trace_id for other in list(receiver.spans)
        )

    call = receiver.wait_for_span(is_create_for_it)
    commit = receiver.children(call, {"operation chain: put", "commit"})["commit"]
    assert commit.attributes["fetch.revision"] > 1

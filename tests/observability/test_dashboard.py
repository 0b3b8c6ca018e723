"""The dashboard draws what is exported: no panel without data."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from fetch.api import rpc_pb2
from tests.observability.conftest import Observed

DASHBOARD = json.loads((Path(__file__).parents[2] / "dashboards" / "tenants.json").read_text())
PANELS: list[dict[str, Any]] = DASHBOARD["panels"]
SELECTOR = re.compile(r"\b((?:etcd|fetch|grpc|process)_\w+)(\{[^}]*\})?")
GROUPED = re.compile(r"by \(([^)]*)\)")


@pytest.fixture(scope="module")
def exported(observed: Observed) -> dict[str, set[str]]:
    """The labels of each metric, once a tenant has written and watched."""
    with observed.server.empty_keyspace() as client:
        stream = client.open_stream("/etcdserverpb.Watch/Watch", rpc_pb2.WatchRequest, rpc_pb2.WatchResponse)
        with stream:
            stream.send(rpc_pb2.WatchRequest(create_request=rpc_pb2.WatchCreateRequest(key=b"key")))
            stream.receive()
            client.put(b"key", b"value")
            stream.receive()
        series = observed.metrics()
    labels: dict[str, set[str]] = {}
    for name in series:
        metric, _, rest = name.partition("{")
        labels.setdefault(metric, set()).update(re.findall(r"(\w+)=", rest))
    return labels


@pytest.mark.parametrize("panel", PANELS, ids=[panel["title"] for panel in PANELS])
def test_a_panels_metrics_and_labels_are_exported(panel: dict[str, Any], exported: dict[str, set[str]]) -> None:
    for target in panel["targets"]:
        metrics = SELECTOR.findall(target["expr"])
        assert metrics
        grouped = {label.strip() for group in GROUPED.findall(target["expr"]) for label in group.split(",")}
        for metric, selected in metrics:
            assert set(re.findall(r"(\w+)=", selected)) | grouped <= exported[metric]


def test_the_variable_lists_tenants(exported: dict[str, set[str]]) -> None:
    query = DASHBOARD["templating"]["list"][1]["query"]["query"]
    assert query == "label_values(fetch_requests_total, tenant)"
    assert "tenant" in exported["fetch_requests_total"]

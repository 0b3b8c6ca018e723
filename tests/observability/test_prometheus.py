"""A real Prometheus scrapes fetch, and every panel of the dashboard has data there."""

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fetch.api import rpc_pb2
from tests.endpoints.process import free_port
from tests.observability.conftest import Observed
from tests.observability.prometheus import BINARY, MISSING, Prometheus, scraping
from tests.observability.test_dashboard import PANELS

pytestmark = pytest.mark.skipif(BINARY is None, reason=f"NOT SCRAPED BY PROMETHEUS: {MISSING}")


@pytest.fixture(scope="module")
def prometheus(observed: Observed, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prometheus]:
    """Prometheus over a daemon that is written, read and watched meanwhile."""
    directory: Path = tmp_path_factory.mktemp("prometheus")
    stop = threading.Event()

    def work() -> None:
        with observed.server.connect_as("busy") as client:
            stream = client.open_stream("/etcdserverpb.Watch/Watch", rpc_pb2.WatchRequest, rpc_pb2.WatchResponse)
            with stream:
                stream.send(rpc_pb2.WatchRequest(create_request=rpc_pb2.WatchCreateRequest(key=b"key")))
                stream.receive()
                while not stop.wait(0.1):
                    client.put(b"key", b"value")
                    stream.receive()

    worker = threading.Thread(target=work)
    worker.start()
    try:
        target = observed.url.removeprefix("http://")
        with scraping(target, directory, free_port()) as running:
            running.wait_for('rate(fetch_watch_lag_seconds_count{tenant="busy"}[10s]) > 0')
            yield running
    finally:
        stop.set()
        worker.join(30)


@pytest.mark.parametrize("panel", PANELS, ids=[panel["title"] for panel in PANELS])
def test_a_panel_has_data(panel: dict[str, Any], prometheus: Prometheus) -> None:
    for target in panel["targets"]:
        expression = target["expr"].replace("$__rate_interval", "10s").replace("$tenant", "busy")
        values = [series["value"][1] for series in prometheus.query(expression)]
        assert set(values) - {"NaN"}, values  # a series in which nothing happened of late has no percentile


@pytest.mark.parametrize(
    "expression",
    [
        'etcd_server_has_leader{job=~".*etcd.*"}',
        'etcd_mvcc_db_total_size_in_bytes{job=~".*etcd.*"} / etcd_server_quota_backend_bytes{job=~".*etcd.*"}',
        'histogram_quantile(0.99, rate(etcd_disk_wal_fsync_duration_seconds_bucket{job=~".*etcd.*"}[10s]))',
        'sum(rate(grpc_server_handled_total{grpc_type="unary",grpc_code="OK"}[10s])) without (grpc_type, grpc_code)',
        'sum(grpc_server_started_total{grpc_type="bidi_stream"}) - sum(grpc_server_handled_total{grpc_type="bidi_stream"})',
        "histogram_quantile(0.99, sum(rate(grpc_server_handling_seconds_bucket[10s])) by (le, grpc_method))",
    ],
)
def test_expressions_of_the_shape_of_etcds_alerts_have_data(expression: str, prometheus: Prometheus) -> None:
    assert prometheus.query(expression)

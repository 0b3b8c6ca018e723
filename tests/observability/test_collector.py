"""A real collector takes what fetch exports."""

from pathlib import Path

import pytest

from tests.endpoints.fetch import Fetch
from tests.endpoints.process import free_port
from tests.observability.collector import BINARY, MISSING, collecting


@pytest.mark.skipif(BINARY is None, reason=f"NOT EXPORTED TO A COLLECTOR: {MISSING}")
def test_a_collector_gets_traces_and_metrics_of_a_tenant(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    port = free_port()
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"http://127.0.0.1:{port}")
    with collecting(tmp_path, port) as collector:
        with Fetch("embedded").start(tmp_path / "fetch") as server, server.connect_as("collected") as client:
            client.put(b"key", b"value")
        log = collector.log()  # fetch has exported all when it has stopped
    assert "-> fetch.tenant: Str(collected)" in log
    assert "-> fetch.commit.writes: Int(1)" in log
    assert "-> Name: grpc_server_handled_total" in log

"""A real OpenTelemetry collector, which writes what it gets to its log."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.endpoints.process import Process

BINARY = os.environ.get("FETCH_TEST_COLLECTOR") or shutil.which("otelcol") or shutil.which("otelcol-contrib")
MISSING = "there is no collector: install otelcol, or set FETCH_TEST_COLLECTOR to its binary"

_SETTINGS = """\
receivers: {{otlp: {{protocols: {{grpc: {{endpoint: "127.0.0.1:{port}"}}}}}}}}
exporters: {{debug: {{verbosity: detailed}}}}
service:
  telemetry: {{metrics: {{level: none}}}}
  pipelines:
    traces: {{receivers: [otlp], exporters: [debug]}}
    metrics: {{receivers: [otlp], exporters: [debug]}}
"""


@contextmanager
def collecting(directory: Path, port: int) -> Iterator[Process]:
    """A collector that takes OTLP over gRPC on this port; it may need a moment, which exporters bridge."""
    assert BINARY is not None, MISSING
    settings = directory / "collector.yaml"
    settings.write_text(_SETTINGS.format(port=port))
    with Process([BINARY, f"--config=file:{settings}"], directory / "collector.log") as process:
        yield process

"""A real Prometheus that scrapes fetch. `python -m tests.observability.prometheus` serves both until it is interrupted."""

import json
import os
import shutil
import sys
import tempfile
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.endpoints.fetch import Fetch
from tests.endpoints.process import EndedError, Process
from tests.observability import collector

BINARY = os.environ.get("FETCH_TEST_PROMETHEUS") or shutil.which("prometheus")
MISSING = "there is no Prometheus: install it, or set FETCH_TEST_PROMETHEUS to its binary"
START_SECONDS = 120


@dataclass(frozen=True, slots=True)
class Prometheus:
    """A running Prometheus."""

    url: str

    def query(self, expression: str) -> list[dict[str, Any]]:
        """The series that an expression gives now."""
        query = urllib.parse.urlencode({"query": expression})
        with urllib.request.urlopen(f"{self.url}/api/v1/query?{query}", timeout=10) as answer:
            result: list[dict[str, Any]] = json.load(answer)["data"]["result"]
            return result

    def wait_for(self, expression: str) -> None:
        """Returns once the expression has a value."""
        for _ in range(START_SECONDS * 4):
            try:
                if self.query(expression):
                    return
            except (urllib.error.URLError, OSError):
                pass
            time.sleep(0.25)  # Prometheus tells nobody when it has scraped
        raise TimeoutError(expression)


@contextmanager
def scraping(target: str, directory: Path, port: int) -> Iterator[Prometheus]:
    """Prometheus on this port, which scrapes the metrics listener at `target` (host:port) each second."""
    assert BINARY is not None, MISSING
    settings = {
        "global": {"scrape_interval": "1s"},
        "scrape_configs": [{"job_name": "etcd-fetch", "static_configs": [{"targets": [target]}]}],
    }
    (directory / "prometheus.yml").write_text(json.dumps(settings))  # JSON is YAML
    command = [
        BINARY,
        f"--config.file={directory}/prometheus.yml",
        f"--storage.tsdb.path={directory}/tsdb",
        f"--web.listen-address=127.0.0.1:{port}",
    ]
    with Process(command, directory / "prometheus.log"):
        prometheus = Prometheus(f"http://127.0.0.1:{port}")
        prometheus.wait_for("up == 1")
        yield prometheus


def main() -> None:
    """Serves fetch with metrics on 2381, Prometheus on 9090 and, where there is one, a collector on 4317."""
    if BINARY is None:
        sys.exit(MISSING)
    # Ctrl-C ends all of them at once: that they have ended by themselves is no error then
    with tempfile.TemporaryDirectory() as name, suppress(EndedError), ExitStack() as started:
        if collector.BINARY is None:
            print(collector.MISSING)
        else:
            started.enter_context(collector.collecting(Path(name), 4317))
            os.environ["OTEL_EXPORTER_OTLP_ENDPOINT"] = "http://127.0.0.1:4317"
            print(f"Collector: 127.0.0.1:4317, which writes what it gets to {name}/collector.log")
        _serve(Path(name))


def _serve(directory: Path) -> None:
    with (
        Fetch("embedded").start(directory / "fetch", ["--listen-metrics-urls=http://127.0.0.1:2381"]) as server,
        scraping("127.0.0.1:2381", directory, 9090) as prometheus,
        server.empty_keyspace() as client,
    ):
        print(f"Prometheus: {prometheus.url}   metrics: http://127.0.0.1:2381/metrics   etcd clients: {server.address}")
        print("A client puts a key each second; Ctrl-C ends it.")
        try:
            while True:
                client.put(b"key", b"value")
                time.sleep(1)
        except KeyboardInterrupt:
            return


if __name__ == "__main__":
    main()

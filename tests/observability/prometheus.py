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
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.endpoints.fetch import Fetch
from tests.endpoints.process import Process

BINARY = os.environ.get("FETCH_PROMETHEUS") or shutil.which("prometheus")
MISSING = "there is no Prometheus: install it, or set FETCH_PROMETHEUS to its binary"
START_SECONDS = 30


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
    """Serves fetch on 2379 with metrics on 2381, and Prometheus on 9090."""
    if BINARY is None:
        sys.exit(MISSING)
    with (
        tempfile.TemporaryDirectory() as name,
        Fetch("embedded").start(Path(name) / "fetch", ["--listen-metrics-urls=http://127.0.0.1:2381"]) as server,
        scraping("127.0.0.1:2381", Path(name), 9090) as prometheus,
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

"""fetch with its metrics listener, exporting to a receiver of the tests' own."""

import contextlib
import http.client
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from email.message import Message
from urllib.parse import urlsplit

import pytest

from tests.endpoints.fetch import Fetch, FetchServer
from tests.endpoints.process import free_port
from tests.observability.receiver import Receiver, receiving

SECONDS = 60


@dataclass(frozen=True, slots=True)
class Observed:
    """A running daemon, where its metrics listener is, and what it exports."""

    server: FetchServer
    url: str
    receiver: Receiver

    def get(self, path: str) -> tuple[int, str, str]:
        """(status, content type, body) of a page."""
        try:
            with urllib.request.urlopen(self.url + path, timeout=SECONDS) as answer:
                return answer.status, answer.headers["Content-Type"], answer.read().decode()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.headers["Content-Type"], error.read().decode()

    def ask(self, method: str, path: str) -> tuple[int, Message, str]:
        """(status, headers, body) of what a request with this method is answered."""
        connection = http.client.HTTPConnection(urlsplit(self.url).netloc, timeout=SECONDS)
        with contextlib.closing(connection):
            connection.request(method, path)
            answer = connection.getresponse()
            return answer.status, answer.headers, answer.read().decode()

    def metrics(self) -> dict[str, float]:
        """Values by name and labels, as the text has them."""
        lines = [line for line in self.get("/metrics")[2].splitlines() if not line.startswith("#")]
        return {name: float(value) for name, _, value in (line.rpartition(" ") for line in lines)}


@pytest.fixture(scope="session")
def observed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Observed]:
    """One daemon for all tests: each uses a tenant of its own."""
    url = f"http://127.0.0.1:{free_port()}"
    flags = [f"--listen-metrics-urls={url}", "--log-format=json", "--warning-unary-request-duration=0ms"]
    with receiving() as receiver, pytest.MonkeyPatch.context() as patch:
        patch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", receiver.endpoint)
        patch.setenv("OTEL_BSP_SCHEDULE_DELAY", "100")
        patch.setenv("OTEL_METRIC_EXPORT_INTERVAL", "500")
        with Fetch("embedded").start(tmp_path_factory.mktemp("observed"), flags) as server:
            yield Observed(server, url, receiver)

"""An endpoint as clients of its HTTP see it: the same requests to etcd and to fetch."""

import http.client
import json
import shutil
import ssl
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from fetch.tls import certificates
from tests.endpoints.etcd import Etcd
from tests.endpoints.fetch import Fetch, FetchServer
from tests.endpoints.process import free_port

SECONDS = 60


@dataclass(frozen=True, slots=True)
class Answered:
    """What a request was answered. Names of headers are in small letters."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@dataclass(frozen=True, slots=True)
class Web:
    """A URL, and as whom one asks there: `certificate` is the path of one without its ending; None on http://."""

    url: str
    authority: Path | None = None
    certificate: Path | None = None

    def connect(self) -> http.client.HTTPConnection:
        """A connection of HTTP/1.1."""
        parts = urlsplit(self.url)
        if self.certificate is None:
            return http.client.HTTPConnection(parts.netloc, timeout=SECONDS)
        context = ssl.create_default_context(cafile=self.authority)
        context.load_cert_chain(f"{self.certificate}.crt", f"{self.certificate}.key")
        return http.client.HTTPSConnection(parts.netloc, timeout=SECONDS, context=context)

    def ask(
        self, path: str, body: bytes | str | None = None, method: str = "", headers: Sequence[tuple[str, str]] = ()
    ) -> Answered:
        """Asks on a connection of its own: GET, or POST where there is a body."""
        connection = self.connect()
        try:
            encoded = body.encode() if isinstance(body, str) else body
            connection.request(method or ("GET" if body is None else "POST"), path, encoded, dict(headers))
            answer = connection.getresponse()
            told = {name.lower(): value for name, value in answer.getheaders()}
            return Answered(answer.status, told, answer.read())
        finally:
            connection.close()

    def post(self, path: str, **fields: Any) -> Any:
        """What a method of the gateway answers to a message with these fields."""
        return self.ask(path, json.dumps(fields)).json

    @contextmanager
    def stream(self, path: str, body: bytes | str) -> Iterator[Iterator[Any]]:
        """The answers of a method that answers with a stream, as they come."""
        connection = self.connect()
        try:
            connection.request("POST", path, body)
            answer = connection.getresponse()
            yield (json.loads(line) for line in iter(answer.readline, b""))
        finally:
            if connection.sock is not None:
                connection.sock.close()
            connection.close()

    def curl(self, *arguments: str, body: bytes = b"", may_fail: bool = False) -> bytes:
        """What curl prints."""
        program = shutil.which("curl")
        if program is None:
            pytest.skip("there is no curl")
        command = [program, "-s", "-S", "--max-time", str(SECONDS)]
        if self.certificate is not None:
            command += ["--cacert", str(self.authority)]
            command += ["--cert", f"{self.certificate}.crt", "--key", f"{self.certificate}.key"]
        return subprocess.run([*command, *arguments], input=body, capture_output=True, check=not may_fail).stdout


@dataclass(frozen=True, slots=True)
class FetchWeb:
    """A daemon that serves HTTP, and a URL where it does."""

    server: FetchServer
    url: str
    metrics_url: str

    def as_tenant(self, tenant: str) -> Web:
        """The URL as seen by a tenant."""
        directory = self.server.directory
        path = directory / tenant
        if not path.with_name(f"{tenant}.crt").exists():
            certificates.issue(self.server.endpoint.authority, tenant).write(directory, tenant)
        return Web(self.url, directory / "ca.crt", path)

    def new_tenant(self) -> Web:
        """The URL as seen by a tenant that nobody has been."""
        return self.as_tenant(self.server.endpoint.new_tenant())


@contextmanager
def fetch_web(endpoint: Fetch, directory: Path, flags: Sequence[str] = ()) -> Iterator[FetchWeb]:
    """A daemon with a URL for HTTP alone."""
    url, metrics_url = f"https://127.0.0.1:{free_port()}", f"http://127.0.0.1:{free_port()}"
    listening = [f"--listen-client-http-urls={url}", f"--listen-metrics-urls={metrics_url}"]
    with endpoint.start(directory, [*listening, *flags]) as server:
        yield FetchWeb(server, url, metrics_url)


@contextmanager
def etcd_web(endpoint: Etcd, directory: Path) -> Iterator[Web]:
    """An etcd of its own."""
    with endpoint.start(directory) as server:
        yield Web(f"http://{server.address}")

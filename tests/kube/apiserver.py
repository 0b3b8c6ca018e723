"""A real kube-apiserver on fetch, with a tenant's certificate, and what tests ask of it over HTTP and with kubectl."""

import json
import os
import re
import secrets
import ssl
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from http.client import HTTPResponse
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

from fetch.tls import certificates
from fetch.tls.certificates import Certificate
from tests.endpoints.fetch import FetchServer
from tests.endpoints.process import Process, StartError, free_port
from tests.kube.programs import Programs

START_SECONDS = 180
REQUEST_SECONDS = 30
WATCH_SECONDS = 60

Object = dict[str, Any]
"""A resource of Kubernetes, as in its JSON."""


class Refused(Exception):  # noqa: N818  it names the answer
    """kube-apiserver's answer is no success; `reason` is that of its Status."""

    def __init__(self, code: int, body: str) -> None:
        super().__init__(f"{code}: {body}")
        self.code = code
        self.reason = str(json.loads(body).get("reason", "")) if body.startswith("{") else ""


@dataclass(frozen=True, slots=True)
class Apiserver:
    """A kube-apiserver that runs. Its administrator carries a token."""

    name: str
    process: Process
    url: str
    directory: Path
    programs: Programs
    token: str = field(repr=False)

    def request(
        self,
        path: str,
        method: str = "GET",
        body: Object | None = None,
        content: str = "application/json",
        seconds: float = REQUEST_SECONDS,
    ) -> HTTPResponse:
        """Sends a request; the answer is read by whoever asks. Raises `Refused`."""
        headers = {"Authorization": f"Bearer {self.token}", "Content-Type": content}
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.url + path, data, headers, method=method)
        trusted = ssl.create_default_context(cafile=self.directory / "ca.crt")
        try:
            answer: HTTPResponse = urllib.request.urlopen(request, timeout=seconds, context=trusted)
        except urllib.error.HTTPError as error:
            raise Refused(error.code, error.read().decode(errors="replace")) from error
        return answer

    def call(self, path: str, method: str = "GET", body: Object | None = None, /, **query: object) -> Object:
        """A request that is answered by one object."""
        content = "application/merge-patch+json" if method == "PATCH" else "application/json"
        with self.request(_with(path, query), method, body, content) as answer:
            found: Object = json.load(answer)
        return found

    @contextmanager
    def watch(self, path: str, **query: object) -> Iterator[Iterator[Object]]:
        """The events of a watch. Those that wait for one which never comes fail after `WATCH_SECONDS`."""
        asked = {"watch": 1, "timeoutSeconds": WATCH_SECONDS, **query}
        with self.request(_with(path, asked), seconds=WATCH_SECONDS) as answer:
            yield (json.loads(line) for line in answer)

    def kubeconfig(self) -> str:
        """The configuration of a client, for programs that take nothing else. JSON is YAML."""
        cluster = {"server": self.url, "certificate-authority": str(self.directory / "ca.crt")}
        return json.dumps(
            {
                "apiVersion": "v1",
                "kind": "Config",
                "clusters": [{"name": "it", "cluster": cluster}],
                "users": [{"name": "admin", "user": {"token": self.token}}],
                "contexts": [{"name": "admin@it", "context": {"cluster": "it", "user": "admin"}}],
                "current-context": "admin@it",
            }
        )

    def kubectl(self, *arguments: str, stdin: str = "") -> str:
        """What kubectl prints. Raises `CalledProcessError`, with what it says, when it fails."""
        return subprocess.run(
            [
                self.programs.kubectl,
                f"--server={self.url}",
                f"--certificate-authority={self.directory / 'ca.crt'}",
                f"--token={self.token}",
                f"--cache-dir={self.directory / 'kubectl'}",
                *arguments,
            ],
            input=stdin,
            capture_output=True,
            text=True,
            check=True,
            timeout=WATCH_SECONDS,
        ).stdout

    def new_namespace(self) -> str:
        """Creates a namespace that no test has used."""
        name = f"test-{secrets.token_hex(4)}"
        self.call("/api/v1/namespaces", "POST", {"metadata": {"name": name}})
        return name

    def storage_errors(self) -> list[str]:
        """The lines of the log that complain about the storage."""
        lines = self.process.log().splitlines()
        return [line for line in lines if _STORAGE_ERROR.search(line) and not _HARMLESS.search(line)]

    def has_ended(self) -> bool:
        return os.waitid(os.P_PID, self.process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None

    def wait_until_ready(self) -> None:
        """Returns once it says that it is ready, everything it does after its start included."""
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline and not self.has_ended():
            try:
                self.request("/readyz").close()
            except (Refused, OSError):
                time.sleep(0.25)  # there is nothing to wait on before it listens
            else:
                return
        raise StartError(f"kube-apiserver {self.name}, end of the log:\n{self.process.log()[-3000:]}")


_STORAGE_ERROR = re.compile(
    r"etcdserver:|rpc error|unexpected (ListAndWatch|watch) error|storage.*(corrupt|Unknown)|compact.*(fail|error)",
    re.IGNORECASE,
)
_HARMLESS = re.compile(
    r"connection refused|request is cancelled|lease not found|desc = (context canceled|grpc: the client connection is closing)"
)
"""What it says whatever it runs on. As it starts, it gives up calls of its own, for kinds that it serves no more."""


@contextmanager
def start_apiserver(
    name: str, fetch: FetchServer, programs: Programs, directory: Path, flags: Sequence[str] = ()
) -> Iterator[Apiserver]:
    """Starts a kube-apiserver on a new tenant of fetch; it may not be ready yet."""
    signer, tenant = fetch.endpoint.authority, fetch.endpoint.new_tenant()
    with start_apiserver_on(fetch.address, signer, tenant, programs, directory, flags) as apiserver:
        yield replace(apiserver, name=name)


@contextmanager
def start_apiserver_on(
    address: str, signer: Certificate, tenant: str, programs: Programs, directory: Path, flags: Sequence[str] = ()
) -> Iterator[Apiserver]:
    """Starts a kube-apiserver whose storage is at the address, where the signer's certificates are taken, unless it
    begins with http://."""
    directory.mkdir(parents=True)
    signer.write(directory, "ca")
    certificates.issue(signer, tenant).write(directory, "tenant")
    certificates.issue(signer, "apiserver", server=True, names=certificates.loopback_names()).write(
        directory, "serving"
    )
    certificates.issue(signer, "accounts").write(directory, "accounts")
    token, port = secrets.token_hex(16), free_port()
    (directory / "tokens.csv").write_text(f"{token},admin,admin,system:masters\n")
    command = [
        programs.apiserver,
        f"--etcd-servers={address if '://' in address else f'https://{address}'}",
        f"--etcd-cafile={directory}/ca.crt",
        f"--etcd-certfile={directory}/tenant.crt",
        f"--etcd-keyfile={directory}/tenant.key",
        "--bind-address=127.0.0.1",
        f"--secure-port={port}",
        f"--tls-cert-file={directory}/serving.crt",
        f"--tls-private-key-file={directory}/serving.key",
        f"--cert-dir={directory}",
        f"--token-auth-file={directory}/tokens.csv",
        "--authorization-mode=RBAC",
        "--service-cluster-ip-range=10.0.0.0/24",
        "--disable-admission-plugins=ServiceAccount",
        "--service-account-issuer=https://kubernetes.default.svc",
        f"--service-account-key-file={directory}/accounts.crt",
        f"--service-account-signing-key-file={directory}/accounts.key",
        *flags,
    ]
    with Process(command, directory / "apiserver.log") as process:
        yield Apiserver(tenant, process, f"https://127.0.0.1:{port}", directory, programs, token)


def _with(path: str, query: Mapping[str, object]) -> str:
    return f"{path}?{urlencode(query, quote_via=quote)}" if query else path

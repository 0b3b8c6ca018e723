"""What is compared: servers over mTLS on loopback, each with its data in a directory of its own, fsync on.

Costs are read from /proc, so this runs on Linux.
"""

import importlib.util
import os
import secrets
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import grpc

from fetch.api import rpc_pb2
from fetch.tls import certificates
from tests import peers

_TICK = 1 / os.sysconf("SC_CLK_TCK")
_START_SECONDS = 60.0
_STOP_SECONDS = 30.0


@dataclass(frozen=True, slots=True)
class Certificates:
    """The files of one run: an authority, a server's certificate and a tenant's that no earlier run has used."""

    directory: Path
    tenant: str = field(default_factory=lambda: f"bench-{secrets.token_hex(4)}")

    def __post_init__(self) -> None:
        certificates.create(self.directory, [self.tenant])

    def path(self, name: str) -> Path:
        """Where a file lies, `ca.crt` for one."""
        return self.directory / name

    def another(self, tenant: str) -> "Certificates":
        """The files of another tenant of this run."""
        return replace(self, tenant=f"{self.tenant}-{tenant}")

    def credentials(self) -> grpc.ChannelCredentials:
        """The tenant's, as grpcio takes them."""
        files = ("ca.crt", f"{self.tenant}.key", f"{self.tenant}.crt")
        return grpc.ssl_channel_credentials(*(self.path(name).read_bytes() for name in files))


@dataclass(frozen=True, slots=True)
class Contender:
    """A server that can be started: `command` takes `{port}`, `{peer}` (another port), `{dir}` and `{certs}`."""

    name: str
    command: Sequence[str]
    streams: bool = True
    """Whether it serves RangeStream."""
    secure: bool = True
    """Whether it is spoken to over mTLS."""
    has_metrics: bool = False
    """Whether it serves metrics on the other port."""

    @contextmanager
    def start(self, directory: Path, issued: Certificates) -> "Iterator[Server]":
        """Runs it on what `directory` holds, and waits until it answers.

        :raises RuntimeError: it ended, or did not answer in a minute
        """
        directory.mkdir(parents=True, exist_ok=True)
        port, peer = free_port(), free_port()
        places = {"port": port, "peer": peer, "dir": directory, "certs": issued.directory}
        command = [part.format(**places) for part in self.command]
        with (directory / "log").open("ab") as log:
            process = subprocess.Popen(command, stdout=log, stderr=log)
        try:
            metrics = f"http://127.0.0.1:{peer}" if self.has_metrics else None
            server = Server(self, process.pid, f"127.0.0.1:{port}", issued, directory, metrics)
            began = time.monotonic()
            while not server.answers():
                if process.poll() is not None or time.monotonic() - began > _START_SECONDS:
                    raise RuntimeError(f"{self.name} does not serve: {(directory / 'log').read_text()[-2000:]}")
            yield server
        finally:
            process.terminate()
            try:
                process.wait(_STOP_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


@dataclass(frozen=True, slots=True)
class Server:
    """A contender that runs."""

    contender: Contender
    pid: int
    address: str
    issued: Certificates
    directory: Path
    metrics: str | None = None
    """Where its metrics are."""

    def answers(self) -> bool:
        """Whether it serves a read, asked for at most a fifth of a second."""
        with self._channel() as channel:
            try:
                get(channel, b"/started", 0.2)
            except grpc.RpcError:
                time.sleep(0.02)
                return False
            return True

    def _channel(self) -> grpc.Channel:
        if self.contender.secure:
            return grpc.secure_channel(self.address, self.issued.credentials())
        return grpc.insecure_channel(self.address)

    def cpu(self) -> float:
        """Seconds of CPU that the process and its workers have taken, user and system."""
        workers = Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text().split()
        return _cpu(str(self.pid)) + sum(map(_cpu, workers))

    def memory(self) -> dict[str, int]:
        """Bytes by kind: what is resident, its anonymous part, and the share of it that is this process's."""
        kinds = {"RssAnon": "anonymous", "VmRSS": "resident", "Pss": "proportional"}
        lines = Path(f"/proc/{self.pid}/status").read_text() + Path(f"/proc/{self.pid}/smaps_rollup").read_text()
        found = (line.split() for line in lines.splitlines() if line.partition(":")[0] in kinds)
        return {kinds[parts[0].rstrip(":")]: int(parts[1]) * 1024 for parts in found}


def _cpu(pid: str) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) * _TICK


def get(channel: grpc.Channel, key: bytes, timeout: float) -> rpc_pb2.RangeResponse:
    """One read, in `timeout` seconds."""
    call = channel.unary_unary(
        "/etcdserverpb.KV/Range", rpc_pb2.RangeRequest.SerializeToString, rpc_pb2.RangeResponse.FromString
    )
    response: rpc_pb2.RangeResponse = call(rpc_pb2.RangeRequest(key=key), timeout=timeout)
    return response


def put(channel: grpc.Channel, key: bytes, value: bytes, timeout: float) -> None:
    """One write, in `timeout` seconds."""
    call = channel.unary_unary(
        "/etcdserverpb.KV/Put", rpc_pb2.PutRequest.SerializeToString, rpc_pb2.PutResponse.FromString
    )
    call(rpc_pb2.PutRequest(key=key, value=value), timeout=timeout)


def find(cluster_file: Path | None) -> tuple[list[Contender], list[str]]:
    """What there is to compare here, and a sentence for each that is missing."""
    found: list[Contender] = []
    missing: list[str] = []
    if importlib.util.find_spec("fetch_transport"):
        found.append(_fetch("native", cluster_file))
    else:
        missing.append("fetch on its native transport is left out: fetch_transport is not installed")
    found.append(_fetch("grpcio", cluster_file))
    for name, flags in (("etcd", _ETCD), ("kine", _KINE)):
        binary = peers.find(name)
        if binary is None:
            missing.append(f"{name} is left out: there is none; `make peers` builds it where Go is")
        else:
            found.append(Contender(name, (binary, *flags), streams=name != "kine"))
    return found, missing


def with_workers(contender: Contender, workers: int) -> Contender:
    """The same fetch as several processes."""
    return replace(
        contender, name=f"{contender.name}, {workers} workers", command=(*contender.command, f"--workers={workers}")
    )


def with_metrics(contender: Contender) -> Contender:
    """The same, with a listener for its metrics if it is fetch."""
    if not contender.name.startswith("fetch"):
        return contender
    flag = "--listen-metrics-urls=http://127.0.0.1:{peer}"
    return replace(contender, command=(*contender.command, flag), has_metrics=True)


BARE = Contender("bare grpcio", (sys.executable, "-m", "bench.bare", "{port}"), secure=False)


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _fetch(transport: str, cluster_file: Path | None) -> Contender:
    store = f"--fdb-cluster-file={cluster_file}" if cluster_file else "--data-dir={dir}/data"
    flags = ("--listen-client-urls=https://127.0.0.1:{port}", f"--transport={transport}", store, _QUOTA, *_OWN_TLS)
    return Contender(f"fetch-{transport}", (sys.executable, "-m", "fetch", "serve", "--log-level=warning", *flags))


_QUOTA = "--quota-backend-bytes=8589934592"  # a million objects and their events are more than the 2 GiB of both
_OWN_TLS = ("--cert-file={certs}/server.crt", "--key-file={certs}/server.key", "--trusted-ca-file={certs}/ca.crt")
_ETCD = (
    "--data-dir={dir}/data",
    "--listen-client-urls=https://127.0.0.1:{port}",
    "--advertise-client-urls=https://127.0.0.1:{port}",
    "--listen-peer-urls=http://127.0.0.1:{peer}",
    "--initial-advertise-peer-urls=http://127.0.0.1:{peer}",
    "--initial-cluster=default=http://127.0.0.1:{peer}",
    "--client-cert-auth",
    "--log-level=error",
    _QUOTA,
    # the gateway is a client of its own, with the server's certificate, which is none for clients
    "--enable-grpc-gateway=false",
    *_OWN_TLS,
)
_KINE = (
    "--endpoint=sqlite://{dir}/kine.db?_journal=WAL&cache=shared&_busy_timeout=30000&_txlock=immediate",
    "--listen-address=127.0.0.1:{port}",
    "--metrics-bind-address=0",
    "--server-cert-file={certs}/server.crt",
    "--server-key-file={certs}/server.key",
    "--trusted-ca-file={certs}/ca.crt",
)

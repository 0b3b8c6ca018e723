"""A daemon whose disk fails, or whose directory goes away: it says so, and ends where only a new start can help."""

import json
import os
import shutil
import signal
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import grpc
import pytest
from grpc_health.v1 import health_pb2

from tests.endpoints.client import Client
from tests.endpoints.fetch import Fetch, FetchServer
from tests.endpoints.process import free_port
from tests.endpoints.refusals import Refusal, refused

SECONDS = 20
STORES_END = os.EX_IOERR
UNAVAILABLE = Refusal(grpc.StatusCode.UNAVAILABLE, "etcdserver: request timed out")
CORRUPT = Refusal(grpc.StatusCode.DATA_LOSS, "etcdserver: corrupt cluster")


class Disk:
    """What the daemon's disk does."""

    def __init__(self, directory: Path) -> None:
        self._name = directory / "disk"

    @property
    def name(self) -> str:
        return str(self._name)

    def fail(self, pages: str) -> None:
        self._name.with_suffix(f".{pages}").touch()

    def recover(self) -> None:
        for pages in ("meta", "data"):
            self._name.with_suffix(f".{pages}").unlink(missing_ok=True)


@pytest.fixture(scope="session")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What makes a disk fail, to be preloaded."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        pytest.skip("NOT TESTED WITH A FAILING DISK: there is no C compiler")
    made = tmp_path_factory.mktemp("bad_disk") / "bad_disk.so"
    source = Path(__file__).with_name("bad_disk.c")
    subprocess.run([compiler, "-shared", "-fPIC", "-o", str(made), str(source), "-ldl"], check=True)
    return made


@pytest.fixture
def disk(library: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Disk:
    """The disk of the daemons that the test starts."""
    made = Disk(tmp_path)
    monkeypatch.setenv("LD_PRELOAD", str(library))
    monkeypatch.setenv("BAD_DISK", made.name)
    return made


@pytest.fixture
def metrics() -> str:
    return f"http://127.0.0.1:{free_port()}"


@pytest.fixture(params=[1, 2], ids="{} workers".format)
def daemon(request: pytest.FixtureRequest, tmp_path: Path, metrics: str) -> Iterator[FetchServer]:
    """A daemon on the disk, with one process or two."""
    if request.param > (os.cpu_count() or 1):
        pytest.skip("NOT TESTED WITH WORKERS: there is one processor")
    if "disk" in request.fixturenames:
        request.getfixturevalue("disk")
    flags = [f"--workers={request.param}", f"--listen-metrics-urls={metrics}"]
    with Fetch("embedded").start(tmp_path / "daemon", flags) as server:
        yield server


def readiness(metrics: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(f"{metrics}/readyz", timeout=SECONDS) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def health_reason(metrics: str) -> str:
    try:
        with urllib.request.urlopen(f"{metrics}/health", timeout=SECONDS) as answer:
            return str(json.load(answer)["reason"])
    except urllib.error.HTTPError as error:
        return str(json.load(error)["reason"])


def wait_for(client: Client, status: int) -> None:
    """Returns when health has this status."""
    deadline = time.monotonic() + SECONDS
    with client.begin_stream(
        "/grpc.health.v1.Health/Watch", health_pb2.HealthCheckRequest(), health_pb2.HealthCheckResponse
    ) as answers:
        while next(answers).status != status:
            assert time.monotonic() < deadline


def test_a_daemon_whose_meta_page_cannot_be_written_ends_and_has_everything_when_started_again(
    disk: Disk, daemon: FetchServer
) -> None:
    with daemon.connect() as client:
        client.put(b"a", b"1")
        disk.fail("meta")
        with refused(UNAVAILABLE):
            client.put(b"a", b"2")
    assert daemon.process.wait_until_ended() == STORES_END
    assert "the store is lost" in daemon.process.log()
    disk.recover()
    with daemon.endpoint.start(daemon.directory) as again, again.connect() as client:
        assert client.get(b"a").value == b"1"
        client.put(b"a", b"3")


def test_writes_that_fail_are_told_by_health_until_they_succeed(disk: Disk, daemon: FetchServer, metrics: str) -> None:
    with daemon.connect() as client:
        client.put(b"a", b"1")
        disk.fail("data")
        with refused(UNAVAILABLE):
            client.put(b"a", b"2")
        wait_for(client, health_pb2.HealthCheckResponse.NOT_SERVING)
        assert client.get(b"a").value == b"1"
        disk.recover()
        wait_for(client, health_pb2.HealthCheckResponse.SERVING)
        client.put(b"a", b"3")
        assert readiness(metrics) == (200, "ok\n")


def test_readiness_says_that_writes_fail(disk: Disk, tmp_path: Path, metrics: str) -> None:
    with Fetch("embedded").start(tmp_path / "daemon", [f"--listen-metrics-urls={metrics}"]) as server:
        with server.connect() as client:
            disk.fail("data")
            with refused(UNAVAILABLE):
                client.put(b"a", b"2")
        status, text = readiness(metrics)
        assert status == 503
        assert "[-]linearizable_read failed: STORE UNAVAILABLE" in text
        assert "[+]data_corruption ok" in text
        assert health_reason(metrics) == "STORE UNAVAILABLE"
        disk.recover()
        assert readiness(metrics) == (200, "ok\n")


@pytest.mark.parametrize("go", [shutil.rmtree, lambda data: data.rename(data.with_name("elsewhere"))])
def test_an_idle_daemon_whose_directory_goes_away_ends(daemon: FetchServer, go: Callable[[Path], object]) -> None:
    go(daemon.directory / "data")
    assert daemon.process.wait_until_ended() == STORES_END
    assert f"the store is lost: {daemon.directory / 'data'}" in daemon.process.log()


def test_a_daemon_whose_database_is_cut_short_ends_and_says_what_it_met(tmp_path: Path) -> None:
    with Fetch("embedded").start(tmp_path / "daemon") as server:
        with server.connect() as client:
            client.put(b"a", b"1")
        os.truncate(server.directory / "data" / "data.mdb", 8192)
        assert server.process.wait_until_ended() == -signal.SIGBUS
        assert "Bus error" in server.process.log()


def test_a_damaged_database_is_told_as_data_loss(tmp_path: Path, metrics: str) -> None:
    with Fetch("embedded").start(tmp_path / "daemon", [f"--listen-metrics-urls={metrics}"]) as server:
        with server.connect() as client:
            client.put(b"a", b"1")
            with (server.directory / "data" / "data.mdb").open("r+b") as file:
                pages = file.seek(0, os.SEEK_END) // 4096
                file.seek(2 * 4096)
                file.write(bytes((pages - 2) * 4096))
            with refused(CORRUPT):
                client.get(b"a")
            wait_for(client, health_pb2.HealthCheckResponse.NOT_SERVING)
        status, text = readiness(metrics)
        assert status == 503
        assert "[-]data_corruption failed: STORE CORRUPT" in text

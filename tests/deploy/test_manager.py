"""A daemon tells whoever has started it what systemd's `Type=notify` waits for."""

import itertools
import os
import signal
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from fetch.process.manager import Manager
from tests.endpoints.fetch import Fetch

SECONDS = 60


@dataclass(frozen=True, slots=True)
class Listening:
    """The service manager's end."""

    socket: socket.socket

    def next(self) -> list[str]:
        """What is told next, a line each; what a watchdog hears is passed over."""
        while (told := self.any()) == ["WATCHDOG=1"]:
            pass
        return told

    def any(self) -> list[str]:
        return self.socket.recv(4096).decode().splitlines()


@pytest.fixture
def manager(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Listening]:
    """A service manager that daemons of this test are started by."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.settimeout(SECONDS)
        listening.bind(str(tmp_path / "manager"))
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "manager"))
        yield Listening(listening)


@pytest.mark.parametrize("workers", [1, 2])
def test_it_tells_that_it_serves_once_and_that_it_stops(
    manager: Listening, tmp_path: Path, workers: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FETCH_WORKERS", str(workers))
    with Fetch("embedded").start(tmp_path / "fetch"):
        assert manager.next()[0] == "READY=1"
    assert manager.next() == ["STOPPING=1"]


@pytest.mark.parametrize("workers", [1, 2])
def test_a_watchdog_hears_again_and_again_that_the_loop_turns(
    manager: Listening, tmp_path: Path, workers: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FETCH_WORKERS", str(workers))
    monkeypatch.setenv("WATCHDOG_USEC", "300000")
    with Fetch("embedded").start(tmp_path / "fetch"):
        told = [manager.any() for _ in range(5)]
    assert told.count(["WATCHDOG=1"]) >= 3


def test_a_watchdog_hears_nothing_of_workers_of_which_one_hangs(
    manager: Listening, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FETCH_WORKERS", "2")
    monkeypatch.setenv("WATCHDOG_USEC", "300000")
    with Fetch("embedded").start(tmp_path / "fetch") as server:
        manager.next()
        worker = int(Path(f"/proc/{server.process.pid}/task/{server.process.pid}/children").read_text().split()[0])
        os.kill(worker, signal.SIGSTOP)
        try:
            manager.socket.settimeout(1)  # three times as long as the watchdog waits
            told = iter(manager.any, None)
            with pytest.raises(TimeoutError):
                list(itertools.islice(told, 10))
        finally:
            os.kill(worker, signal.SIGCONT)


def test_without_a_manager_nothing_is_told_and_nothing_fails() -> None:
    Manager.of({}).tell("READY=1")


def test_a_manager_that_is_gone_keeps_nobody_from_serving(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    Manager.of({"NOTIFY_SOCKET": str(tmp_path / "gone")}).tell("READY=1")
    assert "is not told READY=1" in caplog.text


def test_the_watchdog_of_another_process_is_none() -> None:
    assert Manager.of({"NOTIFY_SOCKET": "/run/notify", "WATCHDOG_USEC": "1000", "WATCHDOG_PID": "1"}).seconds is None


def test_an_address_without_a_file_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.settimeout(SECONDS)
        listening.bind("")
        Manager.of({"NOTIFY_SOCKET": "@" + listening.getsockname()[1:].decode()}).tell("READY=1")
        assert listening.recv(100) == b"READY=1"

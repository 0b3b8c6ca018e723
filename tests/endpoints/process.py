"""A server as a process of its own, on loopback, for as long as a test needs it."""

import signal
import socket
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Self

import grpc
from grpc_health.v1 import health_pb2

from tests.endpoints.client import Client

START_SECONDS = 120
STOP_SECONDS = 60


class StartError(Exception):
    """The process ended, or did not serve in time; carries the end of its log."""


class EndedError(Exception):
    """The process ended though nobody had asked it to; carries the end of its log."""


def free_port() -> int:
    """A port that nobody listens on at the moment."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
    return port


class Process:
    """A running command. Leaving the `with` block stops it."""

    def __init__(self, command: Sequence[str], log: Path) -> None:
        self._log = log
        self._asked_to_end = False
        with log.open("ab") as output:
            self._process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        if self._process.poll() is not None and not self._asked_to_end:
            raise EndedError(self._obituary())
        self.stop()

    @property
    def pid(self) -> int:
        return self._process.pid

    def log(self) -> str:
        return self._log.read_text(errors="replace")

    def wait_until_serving(self, client: Client) -> None:
        """Returns once the endpoint behind `client` says that it is healthy.

        Raises `StartError` when the process ends before, or takes longer than `START_SECONDS`.
        """
        for _ in range(START_SECONDS):
            try:
                health = client.wait_for_health(timeout=1)
            except grpc.RpcError as error:
                if self._process.poll() is not None or error.code() != grpc.StatusCode.DEADLINE_EXCEEDED:
                    break
            else:
                assert health.status == health_pb2.HealthCheckResponse.SERVING
                return
        self._asked_to_end = True
        raise StartError(self._obituary())

    def stop(self) -> None:
        """Asks it to end, and waits until it has."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """Ends it without giving it a chance to do anything."""
        self._end(signal.SIGKILL)

    def wait_until_ended(self) -> int:
        """The exit code, once it has ended by itself, as it should."""
        self._asked_to_end = True
        return self._process.wait(STOP_SECONDS)

    def _obituary(self) -> str:
        return f"exit code {self._process.poll()}, end of the log:\n{self.log()[-3000:]}"

    def _end(self, how: signal.Signals) -> None:
        self._asked_to_end = True
        if self._process.poll() is None:
            self._process.send_signal(how)
        try:
            self._process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait(STOP_SECONDS)
            raise

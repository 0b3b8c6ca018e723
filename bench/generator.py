"""The load generator: the Go program in bench/loadgen, which prints a JSON object for each workload."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Any, Protocol

from bench.contenders import Certificates, Contender

_SOURCE = Path(__file__).parent / "loadgen"
_SECONDS = 900
_END_SECONDS = 10


class Target(Protocol):
    """A server, or several of one store."""

    @property
    def contender(self) -> Contender:
        """What it is."""

    @property
    def address(self) -> str:
        """Where it serves; several, with commas."""

    @property
    def issued(self) -> Certificates:
        """The certificates of who calls it."""

    def cpu(self) -> float:
        """Seconds of CPU that it has taken."""


@dataclass(frozen=True, slots=True)
class Figures:
    """What one workload gave: rate by second, latencies in milliseconds, the server's CPU in microseconds.

    Of lists, `rate` and `cpu` are by object; of watches by event, and the writes that caused them count, too.
    """

    rate: float
    p50: float
    p99: float
    cpu: float

    def record(self) -> dict[str, Any]:
        """As it is stored."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Generator:
    """The program, at `path`."""

    path: Path

    def command(
        self, work: str, server: Target, issued: Sequence[Certificates], prefix: str, options: dict[str, object]
    ) -> list[str]:
        """How the program is asked to do something with a server, as whoever the certificates are of."""
        command = [str(self.path), work, f"-endpoint={server.address}", f"-prefix=/registry/{prefix}/"]
        if server.contender.secure:
            command += [f"-ca={issued[0].path('ca.crt')}"]
            command += [f"-cert={','.join(str(it.path(f'{it.tenant}.crt')) for it in issued)}"]
            command += [f"-key={','.join(str(it.path(f'{it.tenant}.key')) for it in issued)}"]
        return command + [f"-{name}={value}" for name, value in options.items()]

    def run(self, server: Target, workload: str, prefix: str, **options: int) -> Figures:
        """Runs one workload on the keys below `prefix`. `options` are the program's flags.

        :raises RuntimeError: it failed; with what it said
        """
        asked = {**options, "limit": f"{_SECONDS}s"}
        command = self.command(workload, server, [server.issued], prefix, asked)
        before = server.cpu()
        ran = subprocess.run(command, capture_output=True, text=True, timeout=_SECONDS + 60, check=False)
        cpu = server.cpu() - before
        if ran.returncode:
            raise RuntimeError(f"{server.contender.name}, {workload}: {ran.stdout}{ran.stderr}")
        figures = json.loads(ran.stdout.splitlines()[-1])
        items = figures.get("objects") or figures["count"]
        return Figures(items / figures["seconds"], figures["p50"], figures["p99"], cpu / items * 1e6)

    @contextmanager
    def running(
        self, work: str, server: Target, issued: Sequence[Certificates], prefix: str, **options: object
    ) -> Iterator["Running"]:
        """Does something for as long as the context is open."""
        command = self.command(work, server, issued, prefix, options)
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        try:
            yield Running(process)
        finally:
            process.kill()
            process.communicate()


class Running:
    """The program while it does something. It says how far it is, and ends with its input."""

    def __init__(self, process: "subprocess.Popen[bytes]") -> None:
        self._process = process

    def has_ended(self) -> bool:
        """Whether it has."""
        return self._process.poll() is not None

    def read(self) -> dict[str, Any]:
        """The next that it says.

        :raises RuntimeError: it has ended; with what it said of it
        """
        line = _pipe(self._process.stdout).readline()
        if not line:
            raise RuntimeError(_pipe(self._process.stderr).read().decode(errors="replace").strip()[-500:])
        said: dict[str, Any] = json.loads(line)
        return said

    def kill(self) -> None:
        """Ends it at once."""
        self._process.kill()

    def go_on(self) -> None:
        """Has it begin with what it has prepared."""
        _pipe(self._process.stdin).write(b"\n")
        _pipe(self._process.stdin).flush()

    def end(self) -> dict[str, Any]:
        """Asks it to end; what it says of that, which is nothing if it takes too long or has failed."""
        try:
            said, _ = self._process.communicate(timeout=_END_SECONDS)
        except subprocess.TimeoutExpired:
            return {}
        lines = said.splitlines()
        result: dict[str, Any] = json.loads(lines[-1]) if lines else {}
        return result


def _pipe(pipe: IO[bytes] | None) -> IO[bytes]:
    assert pipe is not None  # noqa: S101  each of them was asked for
    return pipe


def build(directory: Path) -> Generator:
    """The program, built with Go into a directory; `LOADGEN` names one that is built already.

    :raises RuntimeError: there is no Go, or it cannot build the program; with what it said
    """
    if named := os.environ.get("LOADGEN"):
        return Generator(Path(named))
    if shutil.which("go") is None:
        raise RuntimeError("there is no Go to build the load generator with: install it from https://go.dev/dl")
    sys.stderr.write("building the load generator with Go: about a minute the first time\n")
    path = directory / "loadgen"
    built = subprocess.run(
        ("go", "build", "-trimpath", "-o", path, "."), cwd=_SOURCE, capture_output=True, text=True, check=False
    )
    if built.returncode:
        raise RuntimeError(f"the load generator could not be built:\n{built.stderr[-2000:]}")
    return Generator(path)

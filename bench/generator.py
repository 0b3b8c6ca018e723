"""The load generator: a program that drives an endpoint, and prints one line of figures for each workload.

Its lines are `NAME n=COUNT RATE/s p50=…ms p90=…ms p99=…ms max=…ms` and further `name=value`.
"""

import re
import subprocess
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from bench.contenders import Server

_LINE = re.compile(
    r"^(\S+) +n=(\d+) (\d+)/s p50=([\d.]+)ms p90=([\d.]+)ms p99=([\d.]+)ms max=([\d.]+)ms(.*)$", re.MULTILINE
)
_SECONDS = 900


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

    def run(self, server: Server, workload: str, prefix: str, **options: int) -> Figures:
        """Runs one workload on the keys below `prefix`. `options` are the program's flags.

        :raises RuntimeError: it failed; with what it said
        """
        issued, secure = server.issued, server.contender.secure
        command = [str(self.path), f"-workloads={workload}", f"-prefix=/registry/{prefix}/", f"-timeout={_SECONDS}s"]
        command += [f"-endpoints={'https' if secure else 'http'}://{server.address}"]
        if secure:
            command += [f"-cacert={issued.path('ca.crt')}", f"-cert={issued.path(issued.tenant + '.crt')}"]
            command += [f"-key={issued.path(issued.tenant + '.key')}"]
        command += [f"-{name}={value}" for name, value in options.items()]
        before = server.cpu()
        ran = subprocess.run(command, capture_output=True, text=True, timeout=_SECONDS, check=False)
        cpu = server.cpu() - before
        lines = {found[1]: found for found in _LINE.finditer(ran.stdout)}
        if ran.returncode or workload not in lines:
            raise RuntimeError(f"{server.contender.name}, {workload}: {ran.stdout}{ran.stderr}")
        _, count, rate, p50, _, p99, _, further = lines[workload].groups()
        items, by_second = int(count), float(rate)
        objects = re.search(r"objects/s=(\d+)", further)
        if objects:
            items, by_second = items * options["total"], float(objects[1])
        return Figures(by_second, float(p50), float(p99), cpu / items * 1e6)

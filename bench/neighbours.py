"""What others notice while one tenant does what nobody should: a client that calls at a steady rate beside it.

Each row has a server of its own, on nothing: what the rows before have left would count for it. A row takes as long as
it was asked to, and as long again as calls are waited for at most, whatever the server does.
"""

import json
import re
import subprocess
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.contenders import Certificates, Contender, Server
from bench.generator import Generator, Running

CLIENTS = 8
PATIENCE_SECONDS = 20
_PREPARE_SECONDS = 60
_LAG_SECONDS = 20.0
_SAMPLE_SECONDS = 0.2


@dataclass(frozen=True, slots=True)
class Row:
    """What one tenant does, and for how long; `scale` is the share of it that is done."""

    action: str
    about: str
    seconds: float
    scale: float


def rows(generator: Generator, names: list[str], seconds: float, scale: float) -> list[Row]:
    """Those that are named, or all that there are; the first shows what it is without anybody.

    :raises RuntimeError: one has a name that there is none of
    """
    command = (generator.path, "hostile", "-list")
    listed = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    found = {it["action"]: it["about"] for it in map(json.loads, listed.stdout.splitlines())}
    if unknown := set(names) - found.keys():
        raise RuntimeError(f"there is no action {', '.join(sorted(unknown))}; there are {', '.join(found)}")
    chosen = names or ["nothing", *(name for name in found if name != "nothing")]
    share = "" if scale == 1 else f"{scale:g} times as much as: "
    return [Row(name, share + found[name], seconds, scale) for name in chosen]


def measure(generator: Generator, contender: Contender, row: Row, directory: Path) -> dict[str, Any]:
    """The row's figures on this server, or why there are none."""
    issued = Certificates(directory / "certs")
    record = {"server": contender.name, "action": row.action, "about": row.about}
    try:
        with contender.start(directory / "server", issued) as server:
            return {**record, **_beside(generator, server, row)}
    except (RuntimeError, OSError, ValueError) as error:
        return {**record, "failed": str(error)[-500:]}


def _beside(generator: Generator, server: Server, row: Row) -> dict[str, Any]:
    hostile, own = server.issued.another("hostile"), server.issued.another("neighbour")
    action = {"action": row.action, "scale": row.scale, "prepare": f"{_PREPARE_SECONDS}s"}
    steady = {"for": f"{row.seconds}s", "patience": f"{PATIENCE_SECONDS}s", "clients": CLIENTS}
    with generator.running("hostile", server, [hostile], "hostile", **action) as acting:
        with _ended_after(acting, 2 * _PREPARE_SECONDS):
            prepared = acting.read()
        with generator.running("neighbour", server, [own], "neighbour", **steady) as calling:
            with _ended_after(calling, row.seconds + 3 * PATIENCE_SECONDS):
                calling.read()
                lags, memory = _lags(server), _Memory(server)
                acting.go_on()
                with memory.watched():
                    noticed = calling.read()
            after = _lags(server)
            acted = acting.end()
    return {
        **{f"{call}_{name}": noticed[call][name] for call in ("get", "create") for name in ("p50", "p99", "max")},
        "calls": sum(noticed[call]["count"] for call in ("get", "create")),
        "unanswered": sum(noticed[call]["failed"] for call in ("get", "create")),
        "memory": memory.before,
        "memory_peak": memory.peak,
        "stretch": _longest(lags, after),
        **prepared,
        **acted,
    }


@contextmanager
def _ended_after(running: Running, seconds: float) -> Iterator[None]:
    """Has what waits for it wait no longer than this."""
    timer = threading.Timer(seconds, running.kill)
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


class _Memory:
    """The anonymous memory of a server: before, and the most that was seen."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._over = threading.Event()
        self.before = self.peak = server.memory()["anonymous"]

    @contextmanager
    def watched(self) -> Iterator[None]:
        """Looks now and then while the context is open."""
        looking = threading.Thread(target=self._look)
        looking.start()
        try:
            yield
        finally:
            self._over.set()
            looking.join()

    def _look(self) -> None:
        while not self._over.wait(_SAMPLE_SECONDS):
            try:
                self.peak = max(self.peak, self._server.memory()["anonymous"])
            except (OSError, KeyError):  # it has ended
                return


_BUCKET = re.compile(r'^fetch_event_loop_lag_seconds_bucket\{le="([^"]+)"\} (\d+)', re.MULTILINE)


def _lags(server: Server) -> dict[float, int]:
    """How often the event loop has been late by at most so many seconds; nothing where nobody tells, or not in time."""
    if server.metrics is None:
        return {}
    try:
        with urllib.request.urlopen(f"{server.metrics}/metrics", timeout=_LAG_SECONDS) as answer:  # noqa: S310  it is http
            text = answer.read().decode()
    except (OSError, urllib.error.URLError):
        return {}
    return {float(bound): int(count) for bound, count in _BUCKET.findall(text)}


def _longest(before: dict[float, int], after: dict[float, int]) -> float | None:
    """The bound in seconds that no lag in between has exceeded."""
    if not after:
        return None
    new = {bound: count - before.get(bound, 0) for bound, count in after.items()}
    most = max(new.values())
    return min(bound for bound, count in new.items() if count == most)

"""`python -m tests [PART…]`: everything that is checked, part after part, whatever became of those before.

A part is a process of its own, whose output is shown only if it failed, and then its end. It is ended when nothing
happens in it for long, or when the time for all of them is over, so that a run comes to an end on any machine. What
a machine does not have is left out, and the last lines say so.
"""

import argparse
import contextlib
import importlib.util
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tests import outcomes, peers
from tests.endpoints.etcd import PROMISED, find_etcd
from tests.endpoints.server import Missing
from tests.outcomes import Outcomes
from tests.peers.build import PROGRAMS, BuildError, build

MINUTES = 85.0
"""How long all parts may take. What then has not run has failed."""
SILENT_MINUTES = 20.0
"""How long nothing may happen in a part. Longer than any test may take, which pytest's own timeout bounds."""

_SHOWN_LINES = 120
_SHOWN_COLUMNS = 300
_NAMED = 5
_END_SECONDS = 10.0
_TELL_SECONDS = 60.0

# the models of a store and of an engine are alike below every transport: they are tested on the one there always is
_AGAIN = ("--without-etcd", "--without-models")
_CLIENTS_SEE = ("tests/contract", "tests/property", *_AGAIN)
"""What is worth repeating with two workers, which share listeners and store."""


@dataclass(frozen=True, slots=True)
class Part:
    """A command that checks something, with variables of its own."""

    name: str
    command: Sequence[str]
    environment: Mapping[str, str] = field(default_factory=dict)
    native: bool = False
    """Whether it needs the native transport."""
    by_default: bool = True

    @property
    def counts_tests(self) -> bool:
        """Whether it tells of single tests."""
        return "pytest" in self.command


def _pytest(name: str, *arguments: str, transport: str, workers: int = 1, by_default: bool = True) -> Part:
    environment = {"FETCH_TRANSPORT": transport, "FETCH_WORKERS": str(workers)}
    # what was skipped is told once, at the end of all parts
    command = ("-m", "pytest", "-q", "-rfE", "-p", "tests.outcomes", *arguments)
    return Part(name, command, environment, transport == "native", by_default)


PARTS = (
    Part("lint", ("-m", "ruff", "check", ".")),
    Part("format", ("-m", "ruff", "format", "--check", ".")),
    Part("types", ("-m", "mypy")),
    Part("simulation", ("-m", "tests.simulation", "0", "200")),
    _pytest("grpcio", "--ignore=tests/kube", transport="grpcio"),
    _pytest("native", "--ignore=tests/kube", *_AGAIN, transport="native"),
    _pytest("transport", "-c", "transport/pyproject.toml", "--timeout=300", "transport/tests", transport="native"),
    _pytest("grpcio-workers", *_CLIENTS_SEE, transport="grpcio", workers=2),
    _pytest("native-workers", *_CLIENTS_SEE, transport="native", workers=2),
    *(
        _pytest(f"kube-{transport}-{workers}", "tests/kube", transport=transport, workers=workers, by_default=False)
        for transport in ("grpcio", "native")
        for workers in (1, 2)
    ),
)


@dataclass(frozen=True, slots=True)
class Ended:
    """A part that has come to an end."""

    part: Part
    seconds: float
    found: Outcomes
    log: Path
    why: str = ""
    """Why it is a failure apart from tests that failed; empty when it is none."""

    @property
    def has_failed(self) -> bool:
        return bool(self.why or self.found.failed)


def main() -> int:
    """Runs the parts and prints the end of those that failed, and what came of all."""
    options = _options()
    wanted = [part for part in PARTS if _is_wanted(part, options.parts)]
    native = importlib.util.find_spec("fetch_transport") is not None
    chosen = [part for part in wanted if native or not part.native]
    left_out = [part.name for part in wanted if part.native and not native]
    until = time.monotonic() + options.minutes * 60
    logs = Path(tempfile.mkdtemp(prefix="fetch-tests-"))
    compared = _reference() if any(part.counts_tests for part in chosen) else ""
    ended: list[Ended] = []
    for part in chosen:
        _say(f"{part.name} …")
        ended.append(_run(part, logs, until))
        _show(ended[-1])
    return _sum_up(ended, left_out, compared, logs)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests", description=(__doc__ or "").partition(": ")[2])
    names = ", ".join(part.name for part in PARTS)
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"of {names}, or how some begin; not kube by default")
    parser.add_argument("--minutes", type=float, default=MINUTES, help="how long all of them may take")
    options = parser.parse_args()
    for name in options.parts:
        if not any(part.name.startswith(name) for part in PARTS):
            parser.error(f"there is no part {name}; there are {names}")
    return options


def _is_wanted(part: Part, named: Sequence[str]) -> bool:
    return any(part.name.startswith(name) for name in named) if named else part.by_default


def _reference() -> str:
    """Which etcd fetch is compared with. Builds the one that fetch is like, where it is not there and Go is."""
    found, why = find_etcd(), ""
    if (isinstance(found, Missing) or found.version < PROMISED) and "FETCH_TEST_ETCD" not in os.environ:
        if shutil.which("go"):
            _say(f"building etcd {PROGRAMS['etcd'].release} into {peers.directory()}: a minute or two, once")
        try:
            build(PROGRAMS["etcd"])
        except BuildError as error:
            _say(str(error))
            why = f", NOT WITH {'.'.join(map(str, PROMISED))}: {str(error).partition(chr(10))[0]}"
        find_etcd.cache_clear()
        found = find_etcd()
    return f"{found.reason if isinstance(found, Missing) else f'compared with {found.name}'}{why}"


def _run(part: Part, logs: Path, until: float) -> Ended:
    """Runs a part to its end, or until nothing happens in it any more, or until all time is over."""
    log, file = logs / f"{part.name}.log", logs / f"{part.name}.outcomes"
    began = time.monotonic()
    if began >= until:
        return Ended(part, 0.0, Outcomes(), log, "not run: the time was over")
    # where CI is set, pytest and hypothesis print values of any length in full
    environment = {name: value for name, value in os.environ.items() if name not in ("CI", "BUILD_NUMBER")}
    environment |= {**part.environment, outcomes.FILE: str(file), "PYTHONUNBUFFERED": "1"}
    environment["PATH"] = os.pathsep.join([environment.get("PATH", os.defpath), str(peers.directory())])
    with log.open("wb") as output:
        process = subprocess.Popen(
            (sys.executable, *part.command),
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        why = _wait(process, log, file, until)
    finally:
        _end(process)
    found = outcomes.read(file)
    if why:
        why += f", at {found.unfinished}" if found.unfinished else ""
    elif process.returncode and not found.failed:
        why = f"exit code {process.returncode}"
    return Ended(part, time.monotonic() - began, found, log, why)


def _wait(process: subprocess.Popen[bytes], log: Path, file: Path, until: float) -> str:
    """Returns when the process has ended, or a reason to end it."""
    size, changed = 0, time.monotonic()
    told = changed
    while True:
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(1)
            return ""
        now = time.monotonic()
        written = sum(path.stat().st_size for path in (log, file) if path.exists())
        if written != size:
            size, changed = written, now
        if now - told > _TELL_SECONDS:
            told = now
            _say(f"  {len(outcomes.read(file).passed)} tests so far")
        if now - changed > SILENT_MINUTES * 60:
            return f"ended: nothing happened for {SILENT_MINUTES:.0f} minutes"
        if now > until:
            return "ended: the time was over"


def _end(process: subprocess.Popen[bytes]) -> None:
    """Ends what is left of a part, servers that its tests have started with it."""
    for how in (signal.SIGTERM, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, how)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(_END_SECONDS)


_CLOSING = re.compile(r"^=* ?\d+ \w+.* in [\d.]+s.*$")
"""pytest's last line, of which there shall be one only, for all parts."""


def _show(ended: Ended) -> None:
    """A line, and for a part that failed the end of what it printed."""
    if ended.has_failed and ended.log.exists():
        lines = [line for line in ended.log.read_text(errors="replace").splitlines() if not _CLOSING.match(line)]
        if len(lines) > _SHOWN_LINES:
            _say(f"({len(lines) - _SHOWN_LINES} lines before these are in {ended.log})")
        for line in lines[-_SHOWN_LINES:]:
            _say(line[:_SHOWN_COLUMNS])
    counts = f"{len(ended.found.passed)} tests ok, " if ended.part.counts_tests else ""
    verdict = f"FAILED, {ended.why or f'{len(ended.found.failed)} tests'}" if ended.has_failed else "ok"
    _say(f"{ended.part.name}: {verdict}, {counts}{ended.seconds:.0f} s")


def _sum_up(ended: Sequence[Ended], left_out: Sequence[str], compared: str, logs: Path) -> int:
    """Prints what came of all parts, in five lines; returns the exit code."""
    failures = [f"{it.part.name}: {it.why}" for it in ended if it.why]
    failures += [f"{it.part.name}: {test} ({why})" for it in ended for test, why in it.found.failed.items()]
    skipped: Counter[str] = Counter()
    for it in ended:
        skipped += it.found.skipped
    if left_out:
        reason = "the native transport is not there, which a Rust toolchain (1.85 or newer) builds"
        skipped[f"{reason}: {', '.join(left_out)} as a whole"] = len(left_out)
    whole = sum(not it.part.counts_tests and not it.has_failed for it in ended)
    passed = whole + sum(len(it.found.passed) for it in ended)
    reasons = [f"{count} since {why}" for why, count in skipped.most_common()]
    minutes = sum(it.seconds for it in ended) / 60
    _say(f"\nran: {', '.join(it.part.name for it in ended)}; {minutes:.1f} minutes; {compared or 'no tests'}")
    _say(f"failed: {_listed(failures) or 'nothing'}")
    _say(f"skipped: {_listed(reasons) or 'nothing'}")
    if failures:
        _say(f"logs: {logs}")
    else:
        shutil.rmtree(logs)
        _say("logs: none are kept, as nothing failed")
    _say(f"{passed} passed, {len(failures)} failed, {sum(skipped.values())} skipped")
    return int(bool(failures))


def _listed(sentences: Sequence[str]) -> str:
    shown = [" ".join(sentence.split())[:_SHOWN_COLUMNS] for sentence in sentences[:_NAMED]]
    more = [f"and {len(sentences) - _NAMED} more"] if len(sentences) > _NAMED else []
    return "; ".join([*shown, *more])


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(128 + signal.SIGINT)

"""A plugin of pytest that writes down what becomes of each test as it happens: `python -m tests` reads it.

A run that hangs, or is ended, so leaves behind what has passed, and which test it was at.
"""

import json
import os
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pytest

FILE = "FETCH_TEST_OUTCOMES"
"""The variable that names the file; nothing is written without."""

NOT_RUN = pytest.StashKey[Counter[str]]()
"""Why tests were left out, and how many."""

_LONGEST = 200


def pytest_runtest_logstart(nodeid: str) -> None:
    _write("began", nodeid)


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    if report.failed:
        _write("failed", report.nodeid, _reason(report))
    elif report.skipped:
        _write("skipped", report.nodeid, str(getattr(report, "wasxfail", "")) or _reason(report))
    elif report.when == "call":
        _write("passed", report.nodeid)


def pytest_collectreport(report: pytest.CollectReport) -> None:
    if report.failed:
        _write("failed", report.nodeid, "cannot be collected")


def pytest_sessionfinish(session: pytest.Session) -> None:
    for why, count in session.config.stash.get(NOT_RUN, Counter()).items():
        _write("left out", why=why, count=count)


def _reason(report: pytest.TestReport) -> str:
    if isinstance(report.longrepr, tuple):
        return report.longrepr[2].removeprefix("Skipped: ")
    crash = getattr(report.longrepr, "reprcrash", None)
    return str(crash.message if crash else report.longrepr or "").partition("\n")[0]


def _write(what: str, test: str = "", why: str = "", count: int = 1) -> None:
    if file := os.environ.get(FILE):
        with Path(file).open("a") as lines:
            lines.write(json.dumps({"what": what, "test": test, "why": why[:_LONGEST], "count": count}) + "\n")


@dataclass(slots=True)
class Outcomes:
    """What has been written."""

    passed: set[str] = field(default_factory=set)
    failed: dict[str, str] = field(default_factory=dict)
    """Why, by the test."""
    skipped: Counter[str] = field(default_factory=Counter)
    """How many, by the reason."""
    unfinished: str = ""
    """The test that had begun last, and has not come to an end."""


def read(file: Path) -> Outcomes:
    """What a run has written to its file so far; a test that failed after it passed has failed."""
    found = Outcomes()
    for line in file.read_text().splitlines(keepends=True) if file.exists() else ():
        if line.endswith("\n"):  # the last one may be about to be written
            _take(found, json.loads(line))
    return found


def _take(found: Outcomes, line: Mapping[str, str | int]) -> None:
    what, test, why, count = (line[name] for name in ("what", "test", "why", "count"))
    if what == "began":
        found.unfinished = str(test)
        return
    found.unfinished = ""
    if what == "passed":
        found.passed.add(str(test))
    elif what == "failed":
        found.passed.discard(str(test))
        found.failed[str(test)] = str(why)
    else:
        found.skipped[str(why)] += int(count)

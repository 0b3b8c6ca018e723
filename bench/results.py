"""Results: JSON lines in bench/results, a file for each run, the first line the commit and the machine."""

import datetime
import json
import os
import platform
import subprocess
import sys
from pathlib import Path
from typing import Any

DIRECTORY = Path(__file__).parent / "results"


class Results:
    """The file of one run, written as the figures come."""

    def __init__(self, settings: dict[str, Any]) -> None:
        """:param settings: what the run was asked for"""
        DIRECTORY.mkdir(exist_ok=True)
        now = datetime.datetime.now(datetime.UTC)
        commit = _git("rev-parse", "--short", "HEAD") or "unknown"
        self.path = DIRECTORY / f"{now:%Y-%m-%d-%H%M%S}-{commit}.jsonl"
        changed = bool(_git("status", "--porcelain", "--untracked-files=no"))
        self.add("run", {"at": now.isoformat(timespec="seconds"), "commit": commit, "changed": changed, **settings})
        self.add("machine", _machine())

    def add(self, kind: str, record: dict[str, Any]) -> None:
        """Stores one with the load of the machine, which tells how far it can be trusted, and shows it."""
        line = json.dumps({"kind": kind, **record, "load": round(os.getloadavg()[0], 2)})
        with self.path.open("a") as file:
            file.write(line + "\n")
        sys.stderr.write(line + "\n")


def read(path: Path, kind: str) -> list[dict[str, Any]]:
    """What a run stored of one kind, in its order."""
    records = [json.loads(line) for line in path.read_text().splitlines()]
    return [record for record in records if record["kind"] == kind]


def _machine() -> dict[str, Any]:
    models = [line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")]
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return {
        "cores": os.cpu_count(),
        "processor": models[0].partition(":")[2].strip() if models else platform.machine(),
        "memory": memory,
        "kernel": platform.release(),
        "python": platform.python_version(),
    }


def _git(*arguments: str) -> str:
    ran = subprocess.run(("git", *arguments), capture_output=True, text=True, check=False)
    return ran.stdout.strip()

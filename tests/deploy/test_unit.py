"""The unit is one that systemd takes, and leaves little to who breaks in."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from fetch import cli
from tests.deploy.files import DEPLOY

UNIT = DEPLOY / "systemd" / "fetch.service"
MOST_EXPOSURE = 2.0


def analyze(*arguments: str) -> subprocess.CompletedProcess[str]:
    program = shutil.which("systemd-analyze") or pytest.skip("there is no systemd-analyze")
    return subprocess.run([program, *arguments], capture_output=True, text=True, check=False, timeout=60)


def test_it_exposes_little() -> None:
    told = analyze("security", "--offline=true", "--no-pager", str(UNIT))
    found = re.search(r"Overall exposure level for \S+: ([\d.]+)", told.stdout)
    if found is None:
        pytest.skip(f"systemd-analyze cannot tell: {told.stderr.strip()}")
    assert float(found[1]) <= MOST_EXPOSURE, told.stdout


def test_systemd_finds_nothing_wrong_with_it(tmp_path: Path) -> None:
    unit = tmp_path / UNIT.name
    unit.write_text(re.sub(r"^ExecStart=\S+", f"ExecStart={sys.executable}", UNIT.read_text(), flags=re.MULTILINE))
    told = analyze("verify", "--man=no", str(unit))
    assert [line for line in told.stderr.splitlines() if UNIT.name in line] == []


def test_the_command_is_one_that_fetch_has() -> None:
    command = re.search(r"^ExecStart=\S+/fetch (.*)$", UNIT.read_text(), re.MULTILINE)
    assert command is not None
    assert str(cli.parse(command[1].split()).config) == "/etc/fetch/fetch.toml"

"""Open files: as many as the operating system lets the daemon have, and a line in the log where that is few."""

import subprocess
import sys

import pytest

from fetch.process.limits import ENOUGH_FILES

SCRIPT = """
import logging, resource, sys
from fetch.process.limits import raise_open_files
logging.basicConfig(level="INFO", format="%(levelname)s %(message)s")
resource.setrlimit(resource.RLIMIT_NOFILE, (int(sys.argv[1]), int(sys.argv[2])))
raise_open_files()
assert resource.getrlimit(resource.RLIMIT_NOFILE) == (int(sys.argv[2]), int(sys.argv[2]))
"""


def logged(soft: int, hard: int) -> list[str]:
    """What is logged by a process with these limits, which has the hard one for its soft one afterwards."""
    command = [sys.executable, "-c", SCRIPT, str(soft), str(hard)]
    return subprocess.run(command, capture_output=True, text=True, check=True).stderr.splitlines()


def test_the_soft_limit_is_raised_to_the_hard_one() -> None:
    assert logged(256, 1024)[0] == "INFO the limit of open files is raised from 256 to 1024"


def test_nothing_is_raised_where_the_limits_are_the_same() -> None:
    assert not any("raised" in line for line in logged(1024, 1024))


@pytest.mark.parametrize("hard", [1024, ENOUGH_FILES - 1])
def test_a_hard_limit_that_is_small_is_warned_of(hard: int) -> None:
    try:
        lines = logged(256, hard)
    except subprocess.CalledProcessError:
        pytest.skip("this process may not open so many files itself")
    assert f"WARNING this process may open {hard} files" in lines[-1]

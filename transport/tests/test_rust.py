"""The extension's own unit tests and form, where there is what they need."""

import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[1]
LIBRARIES = Path(sysconfig.get_config_var("LIBDIR"))

pytestmark = pytest.mark.skipif(shutil.which("cargo") is None, reason="there is no cargo")


def assert_succeeds(*command: str) -> None:
    environment = {**os.environ, "PYO3_PYTHON": sys.executable, "LD_LIBRARY_PATH": str(LIBRARIES)}
    ran = subprocess.run(command, cwd=SOURCE, env=environment, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stdout + ran.stderr


@pytest.mark.timeout(1200)  # all dependencies are compiled the first time
def test_the_unit_tests_pass() -> None:
    if not (LIBRARIES / sysconfig.get_config_var("LDLIBRARY")).exists():
        pytest.skip("there is no libpython to link the unit tests with")
    assert_succeeds("cargo", "test", "--locked", "--quiet")


def test_the_source_is_formatted() -> None:
    if shutil.which("cargo-fmt") is None:
        pytest.skip("there is no cargo-fmt")
    assert_succeeds("cargo", "fmt", "--check")

"""Installs a package as its users would, to a directory that servers started meanwhile import from."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest


@contextmanager
def installed(package: Path, target: Path) -> Iterator[None]:
    """Installs the package in this directory to `target`; reaches no package index."""
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-index"]
    options = ["--no-deps", "--no-build-isolation", "--no-cache-dir", f"--target={target}"]
    subprocess.run([*pip, *options, str(package)], check=True, timeout=250)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", os.pathsep.join(filter(None, [str(target), os.environ.get("PYTHONPATH")])))
        patch.syspath_prepend(str(target))
        yield

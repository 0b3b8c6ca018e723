"""The real programs that tests compare fetch with, or run on it. `python -m tests.peers` builds them, `-h` tells how.

They lie in `KUBE_BIN`, or in a folder of the user's cache, so that one build serves every checkout. Nothing here relies
on more than Python's own library: `make test` runs it before anything else is installed.
"""

import os
import shutil
from pathlib import Path


def directory() -> Path:
    """Where built programs lie, whether there are any or not."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser()
    return Path(os.environ.get("KUBE_BIN") or cache / "fetch-kube" / "bin")


def find(name: str) -> str | None:
    """The path of a program: a built one, or what is on the PATH."""
    return shutil.which(name, path=os.pathsep.join([str(directory()), os.environ.get("PATH", "")]))

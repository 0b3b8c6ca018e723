"""What runs: `fetch --version` tells it, and whoever reports a fault copies it.

The commit is what the wheel was built from, which the build writes into a file; in a clone it is asked of git.
"""

import ctypes
import importlib.metadata
import platform
import ssl
import subprocess
from pathlib import Path

import fetch

_COMMIT = Path(fetch.__path__[0]) / "commit"
"""Made by the build (`protos/compile.py`), and not there in a clone."""


def told() -> str:
    """The versions, a line each; those that are not there say so."""
    lines = {
        "fetch": f"{fetch.__version__} ({commit()})",
        "transport": _transport(),
        "python": f"{platform.python_version()} ({platform.python_implementation()}, {ssl.OPENSSL_VERSION})",
        "grpcio": _installed("grpcio"),
        "protobuf": _installed("protobuf"),
        "lmdb": _lmdb(),
        "foundationdb": _foundationdb(),
    }
    return "\n".join(f"{name} {version}" for name, version in lines.items())


def commit() -> str:
    """The commit of this package, with a mark if a clone has changes; words where nobody knows."""
    if _COMMIT.is_file():
        return f"commit {_COMMIT.read_text().strip()}"
    root = _COMMIT.parents[1]
    if not (root / ".git").exists():
        return "commit unknown"
    described = ["git", "-C", str(root), "describe", "--always", "--abbrev=12", "--exclude=*", "--dirty=, changed"]
    try:
        asked = subprocess.run(described, capture_output=True, text=True, check=True, timeout=10)  # noqa: S603
    except (OSError, subprocess.SubprocessError):
        return "commit unknown"
    return f"commit {asked.stdout.strip()}"


def _installed(distribution: str) -> str:
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"


def _transport() -> str:
    native = _installed("fetch-transport")
    return "grpcio (the native one is not installed)" if native == "not installed" else f"native {native}"


def _lmdb() -> str:
    import lmdb  # noqa: PLC0415  what cannot be loaded is told here, and does not keep the rest from being told

    return f"{_installed('lmdb')} (library {'.'.join(map(str, lmdb.version()))})"


def _foundationdb() -> str:
    binding = _installed("foundationdb")
    if binding == "not installed":
        return binding
    try:
        ctypes.CDLL("libfdb_c.so")
    except OSError:
        return f"{binding} (its client library is not installed)"
    return f"{binding} (its client library is there)"

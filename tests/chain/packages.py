"""Packages of third parties, as far as they matter here: a module, and entry points that name what is in it."""

from collections.abc import Mapping
from pathlib import Path

import pytest

from fetch.config import Settings

Tables = Mapping[str, Mapping[str, object]]


def install(directory: Path, monkeypatch: pytest.MonkeyPatch, module: str, source: str, entry_points: str) -> None:
    """Puts a package on the path for as long as the test runs."""
    (directory / f"{module}.py").write_text(source)
    information = directory / f"{module}-1.0.dist-info"
    information.mkdir()
    (information / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {module}\nVersion: 1.0\n")
    (information / "entry_points.txt").write_text(entry_points)
    monkeypatch.syspath_prepend(directory)


def settings(tables: Tables | None = None) -> Settings:
    """Settings with tables of interceptors."""
    return Settings(
        listen_client_urls=("http://127.0.0.1:2379",), anonymous_tenant="anonymous", interceptor_settings=tables or {}
    )

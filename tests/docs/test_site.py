"""The site is built, every link of it included."""

import importlib.util
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.docs.pages import ROOT

if importlib.util.find_spec("mkdocs") is None or importlib.util.find_spec("material") is None:
    pytest.skip("there is no mkdocs-material: pip install '.[docs]'", allow_module_level=True)


def build(tree: Path, site: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(site)]
    environment = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    return subprocess.run(command, cwd=tree, env=environment, capture_output=True, text=True, check=False, timeout=240)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("site")
    built = build(ROOT, directory)
    assert built.returncode == 0, built.stdout + built.stderr
    return directory


def test_readmes_sections_are_pages(site: Path) -> None:
    assert "make run" in (site / "quick-start.html").read_text()
    assert "request chain" in (site / "index.html").read_text()


def test_every_decision_is_on_it(site: Path) -> None:
    listed = re.findall(r"docs/adrs/(adr\d+)\.md", (ROOT / "README.md").read_text())
    assert [name for name in listed if not (site / "adrs" / f"{name}.html").exists()] == []
    assert all(f"adrs/{name}.html" in (site / "index.html").read_text() for name in listed)


def test_nothing_is_fetched_from_elsewhere(site: Path) -> None:
    loaded = re.findall(
        r'<(?:script|link rel="stylesheet"|img)[^>]+(?:src|href)="(https?:[^"]+)"', (site / "index.html").read_text()
    )
    assert loaded == []


def test_a_broken_link_is_noticed(tmp_path: Path) -> None:
    shutil.copytree(ROOT / "docs", tmp_path / "docs")
    for name in ("README.md", "CONTRIBUTING.md", "SECURITY.md", "CHANGELOG.md", "mkdocs.yml"):
        shutil.copy(ROOT / name, tmp_path)
    with (tmp_path / "docs" / "concepts.md").open("a") as page:
        page.write("\n[nowhere](nowhere.md)\n")
    assert build(tmp_path, tmp_path / "site").returncode != 0

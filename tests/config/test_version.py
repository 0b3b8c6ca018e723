"""`fetch --version`: what runs, so that a report of a fault can say it."""

import importlib.util
import platform
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import fetch
from fetch import cli
from fetch.cli import versions

ROOT = Path(fetch.__path__[0]).parent


@pytest.fixture
def told(capsys: pytest.CaptureFixture[str]) -> dict[str, str]:
    """What is told of each."""
    with pytest.raises(SystemExit) as ended:
        cli.main(["--version"])
    assert ended.value.code == 0
    return dict(line.split(" ", 1) for line in capsys.readouterr().out.splitlines())


def test_the_version_is_told(told: dict[str, str]) -> None:
    assert told["fetch"].startswith(f"{fetch.__version__} (commit ")


@pytest.mark.parametrize("name", ["grpcio", "protobuf", "lmdb", "foundationdb"])
def test_the_versions_of_what_it_stands_on_are_told(told: dict[str, str], name: str) -> None:
    assert told[name].startswith(version(name))


def test_python_and_its_tls_are_told(told: dict[str, str]) -> None:
    assert told["python"].startswith(f"{platform.python_version()} (CPython, OpenSSL ")


def test_the_transport_is_told(told: dict[str, str]) -> None:
    assert told["transport"].startswith(("native ", "grpcio "))


def test_what_is_not_installed_is_told_to_be_so(monkeypatch: pytest.MonkeyPatch, told: dict[str, str]) -> None:
    monkeypatch.setattr(versions, "_installed", lambda _: "not installed")
    assert "transport grpcio (the native one is not installed)\n" in versions.told()
    assert versions.told().endswith("foundationdb not installed")


def test_a_clone_tells_the_commit_that_git_has() -> None:
    if not (ROOT / ".git").exists():
        pytest.skip("this is no clone")
    head = subprocess.run(["git", "rev-parse", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert versions.commit().startswith(f"commit {head[:12]}")


def test_the_commit_that_the_build_has_written_wins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "commit").write_text("0123456789ab\n")
    monkeypatch.setattr(versions, "_COMMIT", tmp_path / "commit")
    assert versions.commit() == "commit 0123456789ab"


def test_without_git_and_a_build_the_commit_is_unknown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(versions, "_COMMIT", tmp_path / "fetch" / "commit")
    assert versions.commit() == "commit unknown"


@pytest.fixture
def hook(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The build's hook, which compiles nothing here."""
    monkeypatch.setitem(sys.modules, "grpc_tools", SimpleNamespace(protoc=SimpleNamespace(main=lambda _: 0)))
    spec = importlib.util.spec_from_file_location("compile", ROOT / "protos" / "compile.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.CompileProtos(str(ROOT), {}, None, None, "", "wheel")


def test_what_is_built_to_be_handed_on_has_the_commit_that_it_was_built_from(hook: Any) -> None:
    if not (ROOT / ".git").exists():
        pytest.skip("this is no clone")
    data: dict[str, Any] = {"force_include": {}}
    hook.initialize("standard", data)
    ((file, target),) = data["force_include"].items()
    assert target == "fetch/commit"
    assert f"commit {Path(file).read_text().strip()}" == versions.commit()


def test_what_is_installed_from_a_clone_to_be_changed_has_none(hook: Any) -> None:
    data: dict[str, Any] = {"force_include": {}}
    hook.initialize("editable", data)
    assert data == {"force_include": {}}

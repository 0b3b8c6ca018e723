"""Real programs are built once for a release, and nobody's own is touched."""

from pathlib import Path

import pytest

from tests.peers.build import BuildError, Program, build

GO = """#!/bin/sh
echo "$@" >> "$GO_CALLS"
case $1 in
  mod) case $2 in
    download) echo '{"GoMod": "some/go.mod"}' ;;
    edit) [ "$3" != -json ] || echo '{"Require": [{"Path": "k8s.io/api", "Version": "v0.0.0"}]}' ;;
  esac ;;
  build) [ -z "$GO_FAILS" ] || { echo 'no network' >&2; exit 1; }
    while [ "$1" != -o ]; do shift; done; echo built > "$2"; chmod +x "$2" ;;
esac
"""
"""Stands for Go: writes down what it is asked for."""


@pytest.fixture
def calls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What a stand-in for Go was asked for; programs are built in a folder of the test's own."""
    stand_in = tmp_path / "path" / "go"
    stand_in.parent.mkdir()
    stand_in.write_text(GO)
    stand_in.chmod(0o755)
    monkeypatch.setenv("PATH", f"{stand_in.parent}:/usr/bin:/bin")
    monkeypatch.setenv("KUBE_BIN", str(tmp_path / "built" / "bin"))
    monkeypatch.setenv("GO_CALLS", str(tmp_path / "calls"))
    return tmp_path / "calls"


def program(release: str = "v1.2.3") -> Program:
    return Program("peer", "example.org/module", release, "example.org/module/cmd")


def builds(calls: Path) -> int:
    return sum(line.startswith("build") for line in calls.read_text().splitlines()) if calls.exists() else 0


def test_it_is_built_once(calls: Path) -> None:
    assert build(program()).read_text() == "built\n"
    build(program())
    assert builds(calls) == 1


def test_another_release_is_built_anew(calls: Path) -> None:
    build(program())
    build(program("v1.3.0"))
    build(program("v1.3.0"))
    assert builds(calls) == 2


def test_a_program_that_was_not_built_here_is_left_alone(calls: Path) -> None:
    own = program().built
    own.parent.mkdir(parents=True)
    own.write_text("somebody's")
    assert build(program()).read_text() == "somebody's"
    assert builds(calls) == 0


def test_parts_that_are_required_at_no_version_are_those_released_along(calls: Path) -> None:
    build(program("v1.37.2"))
    assert "-replace=k8s.io/api=k8s.io/api@v0.37.2" in calls.read_text()


def test_a_build_that_fails_says_why_and_leaves_nothing(calls: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GO_FAILS", "1")
    with pytest.raises(BuildError, match=r"(?s)peer v1\.2\.3 could not be built.*no network"):
        build(program())
    assert list(program().built.parent.iterdir()) == []


def test_without_go_it_says_so(calls: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(BuildError, match="there is no Go"):
        build(program())

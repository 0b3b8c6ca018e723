"""Commands: what they print, and that a wrong one is one line and exit code 2."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from fetch import cli


def refusal(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    """The one line that is said to these arguments."""
    with pytest.raises(SystemExit) as ended:
        cli.main(arguments)
    (line,) = capsys.readouterr().err.splitlines()
    assert ended.value.code == 2
    return line


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ([], "COMMAND"),
        (["bogus"], "bogus"),
        (["serve", "--bogus"], "--bogus"),
        (["serve", "--max-txn", "1"], "--max-txn"),
        (["serve", "--max-txn-ops"], "--max-txn-ops"),
        (["serve", "--max-txn-ops", "many"], "--max-txn-ops"),
        (["serve", "--config", "none.toml"], "none.toml"),
        (["certs", "a b"], "a b"),
        (["certs", "a/b"], "a/b"),
        (["certs", "ca"], "ca"),
        (["certs", "x" * 65], "64"),
    ],
)
def test_a_wrong_command_is_one_line(
    arguments: list[str],
    named: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert named in refusal(arguments, capsys)


@pytest.mark.parametrize(
    ("arguments", "meant"),
    [
        (["serv"], "serve"),
        (["serve", "--max-txn-op", "1"], "--max-txn-ops"),
        (["serve", "--max-txn-op=1"], "--max-txn-ops"),
        (["serve", "--tenant", "alpha"], "--tenants"),
        (["chain", "--interceptor", "+mine"], "--interceptors"),
        (["certs", "--dirs", "x"], "--dir"),
    ],
)
def test_a_misspelt_command_or_flag_is_told_which_is_meant(
    arguments: list[str], meant: str, capsys: pytest.CaptureFixture[str]
) -> None:
    line = refusal(arguments, capsys)
    assert line.endswith(f"did you mean {meant}?")
    assert f"{arguments[-1]} " not in line, "the value of a misspelt flag is nothing that is wrong"


@pytest.mark.parametrize("change", ["+rate_limi", "-tracin", "metric", "+rate_limit:before=metric"])
def test_a_misspelt_interceptor_is_told_which_is_meant(change: str, capsys: pytest.CaptureFixture[str]) -> None:
    meant = {"+rate_limi": "rate_limit", "-tracin": "tracing"}.get(change, "metrics")
    assert f"did you mean {meant!r}?" in refusal(["chain", f"--interceptors={change}"], capsys)


def test_certs_in_a_folder_that_is_a_file_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "certs").touch()
    assert str(tmp_path / "certs") in refusal(["certs", "--dir", str(tmp_path / "certs")], capsys)


def test_certs_beside_half_an_authority_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "ca.crt").touch()
    assert "ca.key" in refusal(["certs", "--dir", str(tmp_path)], capsys)


def test_certs_makes_alpha_and_beta_when_none_is_named(tmp_path: Path) -> None:
    cli.main(["certs", "--dir", str(tmp_path)])
    assert sorted(path.stem for path in tmp_path.glob("*.crt")) == ["alpha", "beta", "ca", "server"]


def test_certs_makes_the_named_only(tmp_path: Path) -> None:
    cli.main(["certs", "--dir", str(tmp_path), "gamma"])
    assert sorted(path.stem for path in tmp_path.glob("*.crt")) == ["ca", "gamma", "server"]


def test_the_version_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        cli.main(["--version"])
    assert ended.value.code == 0
    assert capsys.readouterr().out.strip()


@pytest.mark.parametrize("arguments", [["chain"], ["--help"], ["serve", "--help"], ["--version"], ["certs"]])
def test_a_command_whose_output_nobody_reads_ends_without_a_word(arguments: list[str], tmp_path: Path) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    command = [sys.executable, "-m", "fetch", *arguments]
    ended = subprocess.run(command, stdout=writing, stderr=subprocess.PIPE, cwd=tmp_path, check=False)
    os.close(writing)
    assert ended.stderr == b""
    assert ended.returncode in (141, 0), "argparse passes over what its help meets"

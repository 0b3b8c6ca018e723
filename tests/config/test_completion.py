"""What `fetch completion` prints makes shells complete what the parsers know."""

import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from fetch import cli
from fetch.cli.completion import commands_of
from fetch.config import declared
from fetch.config.setting import flag_of


def script(shell: str) -> str:
    command = [sys.executable, "-m", "fetch", "completion", shell]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout


@pytest.fixture(scope="module")
def bash(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("completion") / "fetch.bash"
    file.write_text(script("bash"))
    return file


def completed(bash: Path, line: Sequence[str], directory: Path | None = None) -> list[str]:
    """What bash offers for the last word of a line."""
    program = shutil.which("bash") or pytest.skip("there is no bash")
    words = " ".join(f"'{word}'" for word in ("fetch", *line))
    asked = f'source {bash}; COMP_WORDS=({words}); COMP_CWORD={len(line)}; _fetch; printf "%s\\n" "${{COMPREPLY[@]}}"'
    ran = subprocess.run([program, "-c", asked], capture_output=True, text=True, check=True, timeout=60, cwd=directory)
    return ran.stdout.split()


def test_commands_are_offered(bash: Path) -> None:
    assert completed(bash, ["s"]) == ["serve"]


def test_all_flags_of_a_command_are_offered(bash: Path) -> None:
    assert {flag_of(name) for name in declared()} <= set(completed(bash, ["serve", "--"]))


def test_flags_of_other_commands_are_not(bash: Path) -> None:
    assert completed(bash, ["certs", "--max"]) == []


def test_what_a_flag_may_be_is_offered(bash: Path) -> None:
    assert completed(bash, ["serve", "--transport", ""]) == ["auto", "grpcio", "native"]


def test_files_are_offered_where_one_is_meant(bash: Path, tmp_path: Path) -> None:
    (tmp_path / "server.crt").touch()
    assert completed(bash, ["serve", "--cert-file", "serv"], tmp_path) == ["server.crt"]


def test_nothing_is_offered_for_what_nobody_can_guess(bash: Path) -> None:
    assert completed(bash, ["serve", "--max-txn-ops", ""]) == []


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_a_shell_takes_its_script(shell: str, tmp_path: Path) -> None:
    program = shutil.which(shell) or pytest.skip(f"there is no {shell}")
    file = tmp_path / "script"
    file.write_text(script(shell))
    subprocess.run([program, "-n", file], check=True, timeout=60)


def test_every_command_is_in_the_script_of_fish() -> None:
    made = script("fish")
    for command in commands_of(cli.parser()):
        for name in command.below:
            assert f" -a {name} -d '" in made


def test_another_shell_is_one_line() -> None:
    ended = subprocess.run(
        [sys.executable, "-m", "fetch", "completion", "csh"], capture_output=True, text=True, check=False
    )
    assert (ended.returncode, ended.stderr.count("\n")) == (2, 1)

"""The guide's interceptors, taken from its text, work; and whoever writes them so is told of mistakes by mypy."""

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest

from tests.endpoints.fetch import FetchServer
from tests.extensions.conftest import Start
from tests.extensions.installing import installed

ROOT = Path(__file__).parents[2]
GUIDE = (ROOT / "docs" / "interceptors.md").read_text()
README = (ROOT / "README.md").read_text()


def code_of(text: str) -> list[str]:
    return re.findall(r"^```python\n(.*?)^```", text, re.MULTILINE | re.DOTALL)


def block(beginning: str) -> str:
    """The code block that begins with this comment."""
    found = re.search(rf"```\w+\n(# {re.escape(beginning)}.*?)```", GUIDE, re.DOTALL)
    assert found is not None, beginning
    return found.group(1)


@pytest.fixture
def following(tmp_path: Path, start: Start) -> Iterator[FetchServer]:
    """fetch for somebody who does what the guide says."""
    package = tmp_path / "package"
    (package / "greeting").mkdir(parents=True)
    (package / "greeting" / "__init__.py").touch()
    for module in ("lockout.py", "often.py"):
        (package / "greeting" / module).write_text(block(f"greeting/{module}"))
    (package / "pyproject.toml").write_text(block("pyproject.toml"))
    with installed(package, tmp_path / "site"), start(block("fetch.toml")) as server:
        yield server


def test_the_guides_interceptor_refuses_a_tenant(following: FetchServer) -> None:
    with following.connect_as("alpha") as locked, following.connect_as("beta") as free:
        free.put(b"key", b"value")
        with pytest.raises(grpc.RpcError, match="locked out"):
            locked.put(b"key", b"value")


def test_the_guides_link_of_the_operation_chain_keeps_its_own_with_the_changes(following: FetchServer) -> None:
    with following.connect_as("beta") as client:
        client.put(b"key", b"first")
        client.put(b"key", b"second")
        with pytest.raises(grpc.RpcError, match="a key changes 2 times at most"):
            client.put(b"key", b"third")
        client.put(b"another", b"first")


def test_its_code_and_the_readmes_pass_mypy(tmp_path: Path) -> None:
    files = []
    for number, code in enumerate([*code_of(GUIDE), *code_of(README)]):
        files.append(tmp_path / f"block{number}.py")
        files[-1].write_text(code)
    assert len(files) >= 3
    # in the project's folder for its settings, which are strict: whoever writes interceptors sees fetch's types as it does
    checked = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", *map(str, files)],
        cwd=ROOT, capture_output=True, text=True, check=False, timeout=250,
    )  # fmt: skip
    assert checked.returncode == 0, checked.stdout + checked.stderr

"""The guide's interceptor, taken from its text, works."""

import re
from pathlib import Path

import grpc
import pytest

from tests.extensions.conftest import Start
from tests.extensions.installing import installed

GUIDE = (Path(__file__).parents[2] / "docs" / "interceptors.md").read_text()


def block(beginning: str) -> str:
    """The code block that begins with this comment."""
    found = re.search(rf"```\w+\n(# {re.escape(beginning)}.*?)```", GUIDE, re.DOTALL)
    assert found is not None, beginning
    return found.group(1)


def test_following_the_guide_gives_an_interceptor(tmp_path: Path, start: Start) -> None:
    package = tmp_path / "package"
    (package / "greeting").mkdir(parents=True)
    (package / "greeting" / "__init__.py").touch()
    (package / "greeting" / "lockout.py").write_text(block("greeting/lockout.py"))
    (package / "pyproject.toml").write_text(block("pyproject.toml"))
    with (
        installed(package, tmp_path / "site"),
        start(block("fetch.toml")) as server,
        server.connect_as("alpha") as locked,
        server.connect_as("beta") as free,
    ):
        free.put(b"key", b"value")
        with pytest.raises(grpc.RpcError, match="locked out"):
            locked.put(b"key", b"value")

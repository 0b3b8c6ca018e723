"""fetch with a configuration of interceptors."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import grpc
import pytest

from tests.endpoints.fetch import Fetch, FetchServer

Start = Callable[[str], AbstractContextManager[FetchServer]]


def code_of(error: pytest.ExceptionInfo[grpc.RpcError]) -> grpc.StatusCode:
    """The code that a call was refused with."""
    code: grpc.StatusCode = error.value.code()
    return code


@pytest.fixture
def start(tmp_path: Path) -> Start:
    """Starts fetch with the settings of a TOML file, which is this text."""

    @contextmanager
    def start(toml: str) -> Iterator[FetchServer]:
        (tmp_path / "fetch.toml").write_text(toml)
        with Fetch("embedded").start(tmp_path / "fetch", [f"--config={tmp_path / 'fetch.toml'}"]) as server:
            yield server

    return start

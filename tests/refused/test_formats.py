"""A daemon does not start on what a newer release has stored."""

import subprocess
from pathlib import Path

import lmdb
import pytest

from fetch.engine.layout import format_row
from tests.endpoints.fetch import Fetch
from tests.endpoints.process import free_port

_FORMATS = {"what the engine stores": format_row(b""), "how the embedded store does it": b"\x00format"}


@pytest.mark.parametrize("row", _FORMATS.values(), ids=_FORMATS)
def test_a_newer_format_is_one_line_and_exit_code_2(tmp_path: Path, row: bytes) -> None:
    fetch = Fetch("embedded")
    with fetch.start(tmp_path) as server, server.connect() as client:
        client.put(b"key", b"value")
    with lmdb.open(str(tmp_path / "data"), create=False) as environment, environment.begin(write=True) as transaction:
        transaction.put(row, b"99")
    command = [*fetch.command, f"--listen-client-urls=https://127.0.0.1:{free_port()}"]
    command += [*fetch.tls_flags(tmp_path), *fetch.store_flags(tmp_path)]
    ended = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert ended.returncode == 2
    assert ended.stderr.splitlines()[-1].startswith("fetch: ")
    assert "format" in ended.stderr.splitlines()[-1]
    assert "newer" in ended.stderr.splitlines()[-1]

"""`fetch restore` on a store that no daemon serves."""

import signal
import subprocess
import sys
from pathlib import Path

import grpc
import pytest

from tests.endpoints.client import FROM_KEY
from tests.endpoints.fetch import Fetch
from tests.snapshots.restoring import daemons
from tests.snapshots.test_restored_by_fetch import fetch_restore
from tests.snapshots.test_taking import fill, saved

KEYS = 20_000


@pytest.fixture
async def snapshot(tmp_path: Path) -> Path:
    """A file that takes a while to be restored."""
    async with daemons("embedded", tmp_path / "source") as [running]:
        engine = await running.open()
        await fill(engine, KEYS, b"v")
        return await saved(engine, tmp_path)


def test_what_was_killed_is_refused_until_it_is_run_again(snapshot: Path, tmp_path: Path) -> None:
    arguments = [str(snapshot), "--tenant", "alpha", "--data-dir", str(tmp_path / "data")]
    command = [sys.executable, "-m", "fetch", "restore", *arguments]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        for line in process.stderr:
            if line.startswith("storing"):
                process.send_signal(signal.SIGKILL)
    assert process.returncode == -signal.SIGKILL
    with Fetch("embedded").start(tmp_path) as server, server.connect_as("alpha") as client:
        for call in (client.revision, lambda: client.put(b"a"), lambda: client.range(b"a"), client.status):
            with pytest.raises(grpc.RpcError) as caught:
                call()
            assert caught.value.code() == grpc.StatusCode.UNAVAILABLE
            assert "being restored" in caught.value.details()
        in_use = fetch_restore(*arguments)
        assert in_use.returncode == 2
        assert f"another process serves {tmp_path / 'data'} (process {server.process.pid})" in in_use.stderr
    done = fetch_restore(*arguments)
    assert done.returncode == 0, done.stderr
    with Fetch("embedded").start(tmp_path) as server, server.connect_as("alpha") as client:
        assert client.range(FROM_KEY, FROM_KEY, count_only=True).count == KEYS


def test_what_was_terminated_leaves_the_tenant_empty(snapshot: Path, tmp_path: Path) -> None:
    arguments = [str(snapshot), "--tenant", "alpha", "--data-dir", str(tmp_path / "data")]
    with subprocess.Popen(
        [sys.executable, "-m", "fetch", "restore", *arguments], stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stderr is not None
        told = []
        for line in process.stderr:
            told.append(line)
            if line.startswith("storing"):
                process.terminate()
    assert process.returncode == 1
    assert told[-1] == "fetch: interrupted: nothing of it is in tenant alpha\n"
    with Fetch("embedded").start(tmp_path) as server, server.connect_as("alpha") as client:
        assert client.put(b"a").header.revision == 2


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["FILE"], "--tenant"),
        (["FILE", "--tenant", "a b"], "a b"),
        (["FILE", "--tenant", "a", "--bump-revision", "5"], "--mark-compacted"),
        (["FILE", "--tenant", "a", "--mark-compacted"], "--bump-revision"),
        (["FILE", "--tenant", "a", "--bump-revision", "-5", "--mark-compacted"], "--bump-revision"),
        (["--tenant", "a"], "FILE"),
        (["FILE", "--tenant", "a", "--clear"], "--clear"),
        (["FILE", "--tenant", "a", "--tennant", "b"], "did you mean --tenant"),
    ],
)
def test_a_wrong_command_line_is_told_in_one_line(tmp_path: Path, arguments: list[str], told: str) -> None:
    done = fetch_restore(*arguments, "--data-dir", tmp_path / "data")
    assert (done.returncode, done.stderr.count("\n"), told in done.stderr) == (2, 1, True), done.stderr
    assert not (tmp_path / "data").exists()


def test_a_file_that_is_not_there_is_told_in_one_line(tmp_path: Path) -> None:
    done = fetch_restore(tmp_path / "none", "--tenant", "alpha", "--data-dir", tmp_path / "data")
    assert (done.returncode, done.stderr) == (1, f"fetch: {tmp_path / 'none'}: No such file or directory\n")
    assert not (tmp_path / "data").exists()

"""The data directory: closed to other users, refused where it is somebody else's, missed when it is gone."""

import asyncio
import os
import shutil
import stat
import subprocess
from collections.abc import Callable, Collection, Iterator
from pathlib import Path

import pytest

from fetch.stores.embedded.directory import DataDirectory
from fetch.stores.embedded.store import LmdbStore
from fetch.stores.embedded.wakes import Wakes
from fetch.stores.protocol import StoreLost, StoreUnavailable
from tests.stores.steps import read, write

SECONDS = 20


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def modes_in(directory: Path) -> dict[str, int]:
    return {path.name: mode(path) for path in [directory, *directory.iterdir()]}


def names_in(directory: Path, pattern: str = "*") -> list[str]:
    return sorted(path.name for path in directory.glob(pattern))


def open_to_others(directory: Path) -> list[Path]:
    """Lets every user read the directory and its files, which are returned."""
    files = [directory, *directory.iterdir()]
    for file in files:
        file.chmod(mode(file) | 0o055)
    return files


@pytest.fixture
def careless() -> Iterator[None]:
    """The user's own mask lets others in."""
    mask = os.umask(0)
    yield
    os.umask(mask)


@pytest.mark.usefixtures("careless")
async def test_a_new_data_directory_is_closed_to_others(tmp_path: Path) -> None:
    store = LmdbStore(tmp_path / "data", 0, 2)
    modes = modes_in(tmp_path / "data")
    await store.close()
    assert modes == {"data": 0o700, "data.mdb": 0o600, "lock.mdb": 0o600, "fetch.lock": 0o600, "wake-0": 0o600}


async def test_a_data_directory_that_is_open_to_others_is_closed_and_the_log_says_so(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", logger="fetch")
    await LmdbStore(tmp_path).close()
    files = open_to_others(tmp_path)
    await LmdbStore(tmp_path).close()
    assert {mode(file) & 0o077 for file in files} == {0}
    assert {file for file in files if str(file) in caplog.text} == set(files)


@pytest.mark.parametrize(("name", "said"), [("member", "an etcd's data directory"), ("thesis.txt", "thesis.txt")])
async def test_a_directory_of_something_else_is_refused_and_left_as_it_is(tmp_path: Path, name: str, said: str) -> None:
    (tmp_path / name).mkdir()
    open_to_others(tmp_path)
    with pytest.raises(StoreUnavailable, match=said):
        LmdbStore(tmp_path)
    assert names_in(tmp_path) == [name]
    assert mode(tmp_path) == 0o755


@pytest.mark.parametrize("name", ["lost+found", "fetch.lock", "wake-1"])
async def test_a_directory_with_nothing_of_anybodys_is_taken(tmp_path: Path, name: str) -> None:
    (tmp_path / name).touch()
    await LmdbStore(tmp_path).close()


WORKERS = [(0, 1), (0, 2), (1, 2), (1, 4), (3, 4)]
"""(worker, workers)"""


@pytest.mark.parametrize(("worker", "workers"), WORKERS)
@pytest.mark.parametrize("others", [1, 2, 3, 8])
def test_a_daemon_is_refused_while_one_process_of_another_is_there(
    tmp_path: Path, worker: int, workers: int, others: int
) -> None:
    held = DataDirectory(tmp_path, worker, workers)
    started: list[DataDirectory] = []
    with pytest.raises(StoreUnavailable, match="another process serves"):
        started.extend(DataDirectory(tmp_path, other, others) for other in range(others))
    for directory in [held, *started]:
        directory.close()


def test_the_workers_of_one_daemon_share_a_directory(tmp_path: Path) -> None:
    for directory in [DataDirectory(tmp_path, worker, 3) for worker in (2, 0, 1)]:
        directory.close()


@pytest.fixture
def alias(tmp_path: Path) -> Iterator[Callable[[Path], Path]]:
    """Mounts a directory a second time."""
    mounted: list[Path] = []

    def mount(directory: Path) -> Path:
        place = tmp_path / "alias"
        place.mkdir()
        done = subprocess.run(
            ["mount", "--bind", str(directory), str(place)], capture_output=True, text=True, check=False
        )
        if done.returncode != 0:
            pytest.skip(f"NOT TESTED THROUGH A BIND MOUNT, which takes root: {done.stderr.strip()}")
        mounted.append(place)
        return place

    yield mount
    for place in mounted:
        subprocess.run(["umount", str(place)], check=True)


@pytest.mark.parametrize("workers", [1, 2])
def test_a_second_daemon_is_refused_through_a_bind_mount(
    tmp_path: Path, alias: Callable[[Path], Path], workers: int
) -> None:
    held = [DataDirectory(tmp_path / "data", worker, workers) for worker in range(workers)]
    with pytest.raises(StoreUnavailable, match="another process serves"):
        DataDirectory(alias(tmp_path / "data"), 0, workers)
    for directory in held:
        directory.close()


async def test_workers_reach_each_other_however_long_the_path_is(tmp_path: Path) -> None:
    path = tmp_path / ("long" * 60) / "data"
    heard: asyncio.Future[Collection[bytes] | None] = asyncio.get_running_loop().create_future()
    directories = [DataDirectory(path, worker, 2) for worker in range(2)]
    first = Wakes(directories[0], 0, 2, lambda _: None)
    second = Wakes(directories[1], 1, 2, heard.set_result)
    first.tell([b"key"])
    assert await asyncio.wait_for(heard, SECONDS) == [b"key"]
    for end in [first, second, *directories]:
        end.close()


async def test_a_socket_that_a_killed_worker_has_left_is_replaced(tmp_path: Path) -> None:
    for _ in range(2):
        directory = DataDirectory(tmp_path, 1, 2)
        Wakes(directory, 1, 2, lambda _: None).close()
        directory.close()
    assert (tmp_path / "wake-1").is_socket()


async def test_sockets_of_workers_that_there_are_no_more_are_removed(tmp_path: Path) -> None:
    for worker in range(4):
        (tmp_path / f"wake-{worker}").touch()
    directory = DataDirectory(tmp_path, 1, 2)
    assert names_in(tmp_path, "wake-*") == ["wake-0"]
    directory.close()


def remove(directory: Path) -> None:
    shutil.rmtree(directory)


def remove_database(directory: Path) -> None:
    (directory / "data.mdb").unlink()


def replace(directory: Path) -> None:
    directory.rename(directory.with_name("old"))
    shutil.copytree(directory.with_name("old"), directory)


def replace_database(directory: Path) -> None:
    shutil.copy(directory / "data.mdb", directory / "copy.mdb")
    (directory / "copy.mdb").rename(directory / "data.mdb")


GOES = [remove, remove_database, replace, replace_database]


@pytest.mark.parametrize("go", GOES)
async def test_no_write_is_acknowledged_once_the_database_is_not_where_it_was(
    tmp_path: Path, go: Callable[[Path], None]
) -> None:
    store = LmdbStore(tmp_path / "data")
    await write(store, {b"\x02a": b"1"})
    go(tmp_path / "data")
    with pytest.raises(StoreLost, match=r"data\.mdb"):
        await write(store, {b"\x02a": b"2"})
    with pytest.raises(StoreLost):
        await read(store, b"\x02a")
    assert "data.mdb" in str(await asyncio.wait_for(store.lost(), SECONDS))
    await store.close()


@pytest.mark.parametrize("go", [*GOES, lambda directory: (directory / "fetch.lock").unlink()])
async def test_a_store_that_nobody_writes_to_notices_too(tmp_path: Path, go: Callable[[Path], None]) -> None:
    store = LmdbStore(tmp_path / "data")
    await store.check()
    go(tmp_path / "data")
    with pytest.raises(StoreLost):
        await store.check()
    await asyncio.wait_for(store.lost(), SECONDS)
    await store.close()

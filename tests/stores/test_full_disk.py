"""The embedded store on a disk that runs full: a file system of a few megabytes, which takes root to mount."""

import subprocess
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest

from fetch import chain
from fetch.errors import NoSpace
from fetch.stores.embedded.store import LmdbStore
from fetch.stores.protocol import StoreFull
from fetch.stores.transaction import Transaction

MEGABYTE = 1 << 20


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=6m", "tmpfs", str(tmp_path)], capture_output=True, text=True, check=False
    )
    if mounted.returncode != 0:
        pytest.skip(f"a small file system cannot be mounted: {mounted.stderr.strip()}")
    yield tmp_path
    subprocess.run(["umount", str(tmp_path)], check=True)


async def put(store: LmdbStore, key: bytes, value: bytes) -> None:
    async def body(transaction: Transaction) -> None:
        transaction.set(key, value)

    await store.transact(body)


async def fill(store: LmdbStore, acknowledged: list[bytes]) -> None:
    for number in range(8):
        await put(store, b"\x09%d" % number, bytes(MEGABYTE))
        acknowledged.append(b"\x09%d" % number)


async def open_tenants(store: LmdbStore) -> None:
    for number in range(100_000):
        await store.open_tenant(f"tenant-{number}-{'x' * 200}")


async def test_a_write_that_finds_no_room_says_so_and_what_was_acknowledged_stays(small_disk: Path) -> None:
    store = LmdbStore(small_disk / "data")
    acknowledged: list[bytes] = []
    with pytest.raises(StoreFull):
        await fill(store, acknowledged)
    with store.snapshot() as snapshot:
        rows, _ = await snapshot.get_range(b"\x09", b"\x0a", 100)
    assert acknowledged
    assert {key for key, _ in rows} <= set(acknowledged)
    await put(store, b"\x09small", b"value")
    await store.close()


async def test_a_tenant_that_finds_no_room_is_refused_as_a_write_is(small_disk: Path) -> None:
    store = LmdbStore(small_disk / "data")
    with pytest.raises(StoreFull):
        await fill(store, [])
    with pytest.raises(StoreFull) as full:
        await open_tenants(store)
    assert chain.status_of(full.value) == (grpc.StatusCode.RESOURCE_EXHAUSTED, NoSpace.text)
    await store.check()
    await store.close()

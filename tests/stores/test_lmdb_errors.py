"""LMDB's errors: none leaves the store as it is, and each says what it means for who calls and for the daemon."""

import asyncio
import os
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import grpc
import lmdb
import pytest

from fetch import chain
from fetch.stores.embedded import store as embedded
from fetch.stores.embedded.errors import as_store_error
from fetch.stores.embedded.store import LmdbStore
from fetch.stores.protocol import Store, StoreBusy, StoreCorrupt, StoreFull, StoreLost, StoreUnavailable
from fetch.stores.transaction import Transaction
from tests.stores.steps import read, write

SECONDS = 20
ERRORS = [error for error in vars(lmdb).values() if isinstance(error, type) and issubclass(error, lmdb.Error)]


class Broken:
    """LMDB's environment, where every call fails with one error."""

    def __init__(self, environment: lmdb.Environment, error: type[Exception]) -> None:
        self._environment = environment
        self._error = error

    def __getattr__(self, name: str) -> Callable[..., Any]:
        if name == "close":
            return self._environment.close

        def fail(*_: object, **__: object) -> None:
            raise self._error("mdb_something")

        return fail


async def scan(store: Store, key: bytes) -> object:
    with store.snapshot() as snapshot:
        return await snapshot.get_range(key, b"\xff", 1)


OPERATIONS: dict[str, Callable[[LmdbStore], Awaitable[object]]] = {
    "read": lambda store: read(store, b"\x02a"),
    "range": lambda store: scan(store, b"\x02a"),
    "write": lambda store: write(store, {b"\x02a": b"1"}),
    "size": lambda store: store.size(),
    "open": lambda store: store.open_tenant("alpha"),
    "changed": lambda store: store.changed(b"\x02a", b"1"),
    "check": lambda store: store.check(),
}


@pytest.mark.parametrize("operation", OPERATIONS)
async def test_no_error_of_lmdbs_leaves_the_store(tmp_path: Path, operation: str) -> None:
    store = LmdbStore(tmp_path)
    environment = store._environment
    for error in ERRORS:
        store._lost = store._damage = None
        store._environment = Broken(environment, error)
        with pytest.raises((StoreUnavailable, StoreFull)):
            await OPERATIONS[operation](store)
    await store.close()


@pytest.mark.parametrize("method", ["get", "get_many", "get_range", "count_range"])
async def test_no_error_of_lmdbs_leaves_a_snapshot(tmp_path: Path, method: str) -> None:
    store = LmdbStore(tmp_path)
    arguments = {"get": (b"k",), "get_many": ([b"k"],), "get_range": (b"k", b"l", 1), "count_range": (b"k", b"l", 1)}
    with store.snapshot() as snapshot:
        reader = snapshot._reader
        for error in ERRORS:
            snapshot._reader = Broken(environment=store._environment, error=error)
            with pytest.raises((StoreUnavailable, StoreFull)):
                await getattr(snapshot, method)(*arguments[method])
        snapshot._reader = reader
    await store.close()


@pytest.mark.parametrize(
    ("error", "becomes", "status"),
    [
        (lmdb.CorruptedError, StoreCorrupt, grpc.StatusCode.DATA_LOSS),
        (lmdb.PageNotFoundError, StoreCorrupt, grpc.StatusCode.DATA_LOSS),
        (lmdb.InvalidError, StoreCorrupt, grpc.StatusCode.DATA_LOSS),
        (lmdb.PanicError, StoreLost, grpc.StatusCode.UNAVAILABLE),
        (lmdb.ReadersFullError, StoreBusy, grpc.StatusCode.RESOURCE_EXHAUSTED),
        (lmdb.BadRslotError, StoreUnavailable, grpc.StatusCode.UNAVAILABLE),
        (OSError, StoreUnavailable, grpc.StatusCode.UNAVAILABLE),
    ],
)
def test_a_call_ends_with_what_the_error_means(
    error: type[Exception], becomes: type[Exception], status: grpc.StatusCode
) -> None:
    failure = as_store_error(error("mdb_something"))
    assert type(failure) is becomes
    assert chain.status_of(failure)[0] == status


def damage(directory: Path) -> None:
    """Zeroes every page of the database but the two that lead to the others."""
    with (directory / "data.mdb").open("r+b") as file:
        pages = file.seek(0, os.SEEK_END) // 4096
        file.seek(2 * 4096)
        file.write(bytes((pages - 2) * 4096))


async def test_a_damaged_database_is_told_by_reads_writes_and_health(tmp_path: Path) -> None:
    store = LmdbStore(tmp_path)
    await write(store, {b"\x02a": b"1"})
    damage(tmp_path)
    with pytest.raises(StoreCorrupt):
        await read(store, b"\x02a")
    with pytest.raises(StoreCorrupt):
        await write(store, {b"\x02a": b"2"})
    with pytest.raises(StoreCorrupt):
        await store.check()
    await store.close()


async def test_a_file_that_is_no_database_is_refused(tmp_path: Path) -> None:
    (tmp_path / "data.mdb").write_bytes(b"garbage" * 10_000)
    with pytest.raises(StoreCorrupt, match=str(tmp_path)):
        LmdbStore(tmp_path)


async def test_one_that_meets_an_error_of_its_own_does_not_fail_those_it_was_to_be_committed_with(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    apply = embedded.apply

    def apply_all_but_one(transaction: Transaction, writer: lmdb.Transaction) -> bool:
        if b"\x02bad" in transaction.writes:
            raise lmdb.CorruptedError
        return apply(transaction, writer)

    monkeypatch.setattr(embedded, "apply", apply_all_but_one)
    store = LmdbStore(tmp_path)
    keys = [b"\x02%d" % number for number in range(10)]
    writes = [write(store, {key: b"1"}) for key in (*keys[:5], b"\x02bad", *keys[5:])]
    results = await asyncio.gather(*writes, return_exceptions=True)
    assert [type(result) for result in results] == [type(None)] * 5 + [StoreCorrupt] + [type(None)] * 5
    assert [await read(store, key) for key in keys] == [b"1"] * 10
    await store.close()

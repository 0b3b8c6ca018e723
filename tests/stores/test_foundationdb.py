"""What only the store on FoundationDB has to do: split values, refuse what is too much, start or say why not."""

import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from fetch.stores.foundationdb import counting
from fetch.stores.foundationdb.store import FoundationDBStore
from fetch.stores.foundationdb.values import Parts
from fetch.stores.protocol import KeyTooLong, StoreUnavailable, TransactionTooLarge
from fetch.stores.transaction import Transaction
from tests.stores.steps import clear_range, read, rows, write

PARTS = b"\x02fetch\x00\x00"
LARGE = b"v" * 250_000


async def parts(store: FoundationDBStore, key: bytes) -> int:
    """How many parts of the key's value are stored."""
    with store.snapshot() as snapshot:
        values = await snapshot.get_many(Parts(PARTS).keys(key, 100))
    return sum(value is not None for value in values)


async def test_a_large_value_lies_in_parts(fdb_store: FoundationDBStore, name: str) -> None:
    key = await fdb_store.open_tenant(name) + b"a"
    await write(fdb_store, {key: LARGE})
    assert await parts(fdb_store, key) == 3


async def test_parts_are_cleared_with_a_range(fdb_store: FoundationDBStore, name: str) -> None:
    prefix = await fdb_store.open_tenant(name)
    keys = [prefix + key for key in (b"a", b"a\x00", b"a\x00\x00", b"b")]
    await write(fdb_store, dict.fromkeys(keys, LARGE))
    await clear_range(fdb_store, keys[1], keys[3])
    assert [await read(fdb_store, key) == LARGE for key in keys] == [True, False, False, True]
    assert [await parts(fdb_store, key) for key in keys] == [3, 0, 0, 3]


@pytest.mark.parametrize("value", [None, b"small", b"w" * 100_000])
async def test_parts_are_cleared_with_a_row_that_was_read(
    fdb_store: FoundationDBStore, name: str, value: bytes | None
) -> None:
    key = await fdb_store.open_tenant(name) + b"a"
    await write(fdb_store, {key: LARGE})

    async def body(transaction: Transaction) -> None:
        await transaction.get(key)
        if value is None:
            transaction.clear(key)
        else:
            transaction.set(key, value)

    await fdb_store.transact(body)
    assert await parts(fdb_store, key) == (2 if value and len(value) > 90_000 else 0)


async def test_a_key_that_is_too_long_is_refused(fdb_store: FoundationDBStore, name: str) -> None:
    prefix = await fdb_store.open_tenant(name)
    with pytest.raises(KeyTooLong):
        await write(fdb_store, {prefix + b"k" * 10_000: b"v", prefix + b"a": b"v"})
    assert await read(fdb_store, prefix + b"a") is None


async def test_a_key_that_is_too_long_is_absent(fdb_store: FoundationDBStore, name: str) -> None:
    assert await read(fdb_store, await fdb_store.open_tenant(name) + b"k" * 12_000) is None


async def test_a_transaction_that_is_too_large_is_refused(fdb_store: FoundationDBStore, name: str) -> None:
    prefix = await fdb_store.open_tenant(name)
    with pytest.raises(TransactionTooLarge):
        await write(fdb_store, {prefix + b"%d" % number: b"v" * 1_000_000 for number in range(11)})
    assert await rows(fdb_store, prefix, prefix + b"\xff") == []


async def test_a_closed_store_refuses(cluster_file: Path) -> None:
    store = FoundationDBStore.open(cluster_file)
    await store.close()
    with pytest.raises(StoreUnavailable):
        await write(store, {b"\x02fetch\x00\x02": b"v"})


async def test_a_cluster_file_that_is_missing_is_named(cluster_file: Path, tmp_path: Path) -> None:
    with pytest.raises(StoreUnavailable, match=r"cannot read .*nowhere\.cluster: .*No such file"):
        FoundationDBStore.open(tmp_path / "nowhere.cluster")


@pytest.mark.parametrize("content", ["", "# nothing\n", "garbage", "a:b@", "a:b@127.0.0.1:1\nc:d@127.0.0.1:2\n"])
async def test_a_file_that_is_no_cluster_file_is_named(cluster_file: Path, tmp_path: Path, content: str) -> None:
    (tmp_path / "fdb.cluster").write_text(content)
    with pytest.raises(StoreUnavailable, match=r"fdb\.cluster is not a FoundationDB cluster file"):
        FoundationDBStore.open(tmp_path / "fdb.cluster")


async def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "fdb", None)
    with pytest.raises(StoreUnavailable, match=r"the package foundationdb \(pip install"):
        FoundationDBStore.open(tmp_path / "fdb.cluster")


@pytest.mark.parametrize(
    "reason", ["Unable to locate the FoundationDB API shared library!", "not supported by the installed"]
)
async def test_a_library_that_is_missing_or_too_old_is_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, reason: str
) -> None:
    def api_version(version: int) -> None:
        raise RuntimeError(reason)

    monkeypatch.setitem(sys.modules, "fdb", SimpleNamespace(api_version=api_version))
    with pytest.raises(StoreUnavailable, match=f"client library cannot be used: {reason}"):
        FoundationDBStore.open(tmp_path / "fdb.cluster")


async def test_a_count_passes_over_ranges_of_which_nothing_is_left(
    fdb_store: FoundationDBStore, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(counting, "RANGE_BYTES", 1000)
    prefix = await fdb_store.open_tenant(name)

    async def fill(transaction: Transaction) -> None:
        for number in range(200):
            transaction.set(prefix + b"%03d" % number, b"v" * 100)

    async def empty(transaction: Transaction) -> None:
        for number in range(199):
            transaction.clear(prefix + b"%03d" % number)

    await fdb_store.transact(fill)
    await fdb_store.transact(empty)
    with fdb_store.snapshot() as snapshot:
        count, upto = await snapshot.count_range(prefix, prefix + b"\xff", 5000)
    assert count == 1
    assert upto > prefix + b"198"

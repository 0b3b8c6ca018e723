"""The order in which transactions are committed, and what is left when they are."""

import asyncio
import shutil
import tempfile
from pathlib import Path

import lmdb
from hypothesis import given
from hypothesis import strategies as st

from fetch.stores.embedded import commits
from fetch.stores.embedded.commits import Commit, Queue, groups
from fetch.stores.embedded.environment import open_environment
from fetch.stores.embedded.snapshot import LmdbSnapshot
from fetch.stores.embedded.store import LmdbStore
from fetch.stores.transaction import Transaction

KEYS = st.builds(lambda head, byte, size: head + byte * size, st.binary(max_size=3), st.sampled_from([b"a", b"b"]),
                 st.sampled_from([1, 2, 499, 500, 501, 1200]))  # fmt: skip


async def waiting(environment: lmdb.Environment, rows: int) -> Commit:
    transaction = Transaction(LmdbSnapshot(environment.begin(), lambda error: error))
    for number in range(rows):
        transaction.set(b"\x02%d" % number, b"")
    return Commit(transaction, asyncio.get_running_loop().create_future())


async def test_what_is_large_is_committed_alone_and_lets_the_small_ones_pass(tmp_path: Path) -> None:
    environment = open_environment(tmp_path, 128)
    small = [await waiting(environment, 1) for _ in range(4)]
    large = [await waiting(environment, 3000) for _ in range(2)]
    queue = Queue()
    for commit in (large[0], small[0], large[1], small[1]):
        queue.put(commit)
    committed = groups(queue)
    assert next(committed) == [small[0], small[1]]
    assert next(committed) == [large[0]]
    queue.put(small[2])
    assert next(committed) == [small[2]]
    queue.put(small[3])
    queue.put(None)
    assert list(committed) == [[large[1]], [small[3]]]


async def test_values_make_a_transaction_large_too(tmp_path: Path) -> None:
    commit = await waiting(open_environment(tmp_path, 128), 3)
    assert not commit.is_large
    commit.transaction.set(b"\x02value", bytes(5 << 20))
    assert commit.is_large


async def test_what_waits_when_the_store_is_closed_is_committed(tmp_path: Path) -> None:
    store = LmdbStore(tmp_path)

    async def write(transaction: Transaction) -> None:
        for number in range(3000):
            transaction.set(b"\x02%d" % number, b"1")

    writes = [asyncio.create_task(store.transact(write)) for _ in range(3)]
    await asyncio.sleep(0)
    await store.close()
    await asyncio.gather(*writes)


@given(st.lists(st.dictionaries(KEYS, st.one_of(st.none(), st.binary(max_size=9)), max_size=40), max_size=4))
def test_all_writes_are_applied_whatever_their_keys(batches: list[dict[bytes, bytes | None]]) -> None:
    asyncio.run(applied(batches))


async def applied(batches: list[dict[bytes, bytes | None]]) -> None:
    stored = tempfile.mkdtemp()
    environment = open_environment(Path(stored), 128)
    expected: dict[bytes, bytes] = {}
    try:
        for batch in batches:
            with LmdbSnapshot(environment.begin(), lambda error: error) as snapshot:
                transaction = Transaction(snapshot)
                for key, value in batch.items():
                    if value is None:
                        transaction.clear(b"\x02" + key)
                        expected.pop(b"\x02" + key, None)
                    else:
                        transaction.set(b"\x02" + key, value)
                        expected[b"\x02" + key] = value
            with environment.begin(write=True) as writer:
                assert commits.apply(transaction, writer)
        with LmdbSnapshot(environment.begin(), lambda error: error) as snapshot:
            rows, more = await snapshot.get_range(b"\x02", b"\x03", 1000)
        assert (rows, more) == (sorted(expected.items()), False)
    finally:
        environment.close()
        shutil.rmtree(stored)

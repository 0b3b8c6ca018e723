"""FoundationDB may not know whether it has committed. Every transaction still happens once."""

import asyncio
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fetch.stores.foundationdb.binding import Binding
from fetch.stores.foundationdb.store import FoundationDBStore
from fetch.stores.protocol import StoreUnavailable
from fetch.stores.transaction import Transaction
from tests.stores.steps import increment, read, rows

UNKNOWN = 1021
COMMITTED, DROPPED, KNOWN = "committed", "dropped", "known"
LANES = b"\x02fetch\x00\x01l"
LANES_END = b"\x02fetch\x00\x01m"
HEARTBEATS = b"\x02fetch\x00\x01h"


class Doubtful(Binding):
    """Reports commits as unknown: those that were carried out, and those that were not."""

    def __init__(self, cluster_file: Path, fate: Callable[[], str]) -> None:
        super().__init__(cluster_file)
        self.fate = fate
        self.doubts = 0

    async def commit(self, transaction: Any) -> None:
        fate = self.fate()
        if fate != DROPPED:
            await super().commit(transaction)
        if fate != KNOWN:
            self.doubts += 1
            raise self.fdb.FDBError(UNKNOWN)


def one_after_the_other(*fates: str) -> Callable[[], str]:
    remaining = list(fates)
    return lambda: remaining.pop(0) if remaining else KNOWN


async def doubtful_store(cluster_file: Path, name: str) -> tuple[Doubtful, FoundationDBStore, bytes]:
    binding = Doubtful(cluster_file, one_after_the_other())
    store = FoundationDBStore(binding)
    key = await store.open_tenant(name) + b"n"
    assert await increment(store, key) == 1
    return binding, store, key


@pytest.mark.parametrize(
    "fates",
    [
        [COMMITTED],
        [DROPPED],
        [DROPPED, DROPPED, DROPPED],
        [DROPPED, COMMITTED],
        [DROPPED, DROPPED, COMMITTED],
    ],
    ids="-".join,
)
async def test_a_transaction_of_unknown_result_happens_once(cluster_file: Path, name: str, fates: list[str]) -> None:
    binding, store, key = await doubtful_store(cluster_file, name)
    binding.fate = one_after_the_other(*fates)
    assert await increment(store, key) == 2
    assert await read(store, key) == b"2"
    await store.close()


async def test_the_result_is_that_of_the_attempt_that_happened(cluster_file: Path, name: str) -> None:
    binding, store, key = await doubtful_store(cluster_file, name)
    binding.fate = one_after_the_other(DROPPED, COMMITTED)
    attempts = 0

    async def body(transaction: Transaction) -> int:
        nonlocal attempts
        attempts += 1
        transaction.set(key, b"%d" % attempts)
        return attempts

    result = await store.transact(body)
    assert (result, await read(store, key)) == (2, b"2")
    await store.close()


async def test_an_attempt_that_finds_nothing_to_write_keeps_the_unknown_one_from_happening(
    cluster_file: Path, name: str
) -> None:
    binding, store, key = await doubtful_store(cluster_file, name)
    held: list[Any] = []

    async def hold(transaction: Any) -> None:
        held.append(transaction)
        binding.commit = Doubtful.commit.__get__(binding)  # type: ignore[method-assign]
        raise binding.fdb.FDBError(UNKNOWN)

    binding.commit = hold  # type: ignore[method-assign]
    attempts = 0

    async def body(transaction: Transaction) -> int:
        nonlocal attempts
        attempts += 1
        if await transaction.get(key) == b"1" and attempts == 1:
            transaction.set(key, b"late")
        return attempts

    assert await store.transact(body) == 2
    with pytest.raises(binding.fdb.FDBError):
        await Binding.commit(binding, held[0])  # what was still under way arrives
    assert await read(store, key) == b"1"
    await store.close()


async def test_many_transactions_of_unknown_results_happen_once_each(cluster_file: Path, name: str) -> None:
    binding, store, key = await doubtful_store(cluster_file, name)
    chance = random.Random(7)
    binding.fate = lambda: chance.choice([COMMITTED, DROPPED, KNOWN, KNOWN])
    counts = await asyncio.gather(*(increment(store, key + b"%d" % (n % 20)) for n in range(400)))
    assert sorted(counts) == sorted(list(range(1, 21)) * 20)
    assert binding.doubts > 50
    await store.close()


async def test_a_daemon_taken_for_dead_does_not_guess(cluster_file: Path, name: str) -> None:
    binding, store, key = await doubtful_store(cluster_file, name)
    other = FoundationDBStore.open(cluster_file)

    async def forget(transaction: Any) -> None:
        await Binding.commit(binding, transaction)

        async def body(forgetting: Transaction) -> None:
            forgetting.clear_range(LANES, LANES_END)
            forgetting.clear_range(HEARTBEATS, LANES)

        await other.transact(body)
        raise binding.fdb.FDBError(UNKNOWN)

    binding.commit = forget  # type: ignore[method-assign]
    with pytest.raises(StoreUnavailable):
        await increment(store, key)
    await other.close()


async def test_numbers_of_attempts_do_not_pile_up(cluster_file: Path, name: str) -> None:
    store = FoundationDBStore.open(cluster_file)
    key = await store.open_tenant(name) + b"n"
    await increment(store, key)
    before = len(await rows(store, LANES, LANES_END))
    for _ in range(30):
        await increment(store, key)
    assert len(await rows(store, LANES, LANES_END)) == before
    await store.close()


async def test_a_daemon_that_ends_leaves_nothing_behind(cluster_file: Path, name: str) -> None:
    watching = FoundationDBStore.open(cluster_file)
    before = await rows(watching, HEARTBEATS, LANES_END)
    store = FoundationDBStore.open(cluster_file)
    await increment(store, await store.open_tenant(name) + b"n")
    await store.close()
    after = await rows(watching, HEARTBEATS, LANES_END)
    assert {key for key, _ in after} <= {key for key, _ in before} | {
        key for key, _ in after if watching._daemons._id in key
    }
    await watching.close()


async def test_what_a_dead_daemon_leaves_behind_is_removed(
    cluster_file: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    dead = FoundationDBStore.open(cluster_file)
    await increment(dead, await dead.open_tenant(name) + b"n")
    dead._beating.cancel()
    monkeypatch.setattr("fetch.stores.foundationdb.daemons.DEAD_SECONDS", 0.0)
    living = FoundationDBStore.open(cluster_file)
    await living._daemons.register(5)
    await living._daemons.beat()
    left = await rows(living, HEARTBEATS, LANES_END)
    assert not [key for key, _ in left if dead._daemons._id in key]
    await living.close()

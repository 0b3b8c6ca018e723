"""What the engine relies on, of every store."""

import asyncio

import pytest

from fetch.stores.protocol import Store
from fetch.stores.transaction import Transaction
from tests.stores.steps import clear_range, increment, read, rows, write

LARGE = [89_999, 90_000, 90_001, 100_001, 180_001, 1_572_864, 3_145_728]


async def test_a_key_that_was_set_is_read(store: Store, prefix: bytes) -> None:
    await write(store, {prefix + b"a": b"1"})
    assert await read(store, prefix + b"a") == b"1"


async def test_an_absent_key_has_no_value(store: Store, prefix: bytes) -> None:
    assert await read(store, prefix + b"a") is None


async def test_an_empty_value_is_a_value(store: Store, prefix: bytes) -> None:
    await write(store, {prefix + b"a": b""})
    assert await read(store, prefix + b"a") == b""


async def test_a_cleared_key_is_absent(store: Store, prefix: bytes) -> None:
    await write(store, {prefix + b"a": b"1"})
    await write(store, {prefix + b"a": None})
    assert await read(store, prefix + b"a") is None


async def test_many_keys_are_read_in_the_order_asked_for(store: Store, prefix: bytes) -> None:
    await write(store, {prefix + b"a": b"1", prefix + b"c": b"3"})
    with store.snapshot() as snapshot:
        assert await snapshot.get_many([prefix + b"c", prefix + b"b", prefix + b"a", prefix + b"c"]) == [
            b"3",
            None,
            b"1",
            b"3",
        ]


async def test_no_keys_have_no_values(store: Store) -> None:
    with store.snapshot() as snapshot:
        assert await snapshot.get_many([]) == []


async def test_a_range_is_ordered_as_bytes_and_ends_before_its_end(store: Store, prefix: bytes) -> None:
    keys = [prefix + key for key in (b"a", b"a\x00", b"a\x00\xff", b"a\xff", b"b", b"\xff")]
    await write(store, dict.fromkeys(keys, b"v"))
    assert [key for key, _ in await rows(store, keys[0], keys[-1])] == keys[:-1]


@pytest.mark.parametrize(("limit", "more"), [(1, True), (4, True), (5, False), (6, False)])
async def test_a_range_says_whether_there_is_more_than_its_limit(
    store: Store, prefix: bytes, limit: int, more: bool
) -> None:
    await write(store, {prefix + b"%d" % number: b"v" for number in range(5)})
    with store.snapshot() as snapshot:
        page, goes_on = await snapshot.get_range(prefix, prefix + b"\xff", limit)
    assert (len(page), goes_on) == (min(limit, 5), more)


async def test_a_range_of_many_rows_is_read_whole(store: Store, prefix: bytes) -> None:
    await write(store, {prefix + b"%04d" % number: b"v" * 1000 for number in range(900)})
    with store.snapshot() as snapshot:
        page, _ = await snapshot.get_range(prefix, prefix + b"\xff", 900)
    assert [key[-4:] for key, _ in page] == [b"%04d" % number for number in range(900)]


async def test_the_rows_of_a_range_are_counted(store: Store, prefix: bytes) -> None:
    await write(store, {prefix + b"%04d" % number: b"v" * 500 for number in range(700)})
    with store.snapshot() as snapshot:
        assert await snapshot.count_range(prefix + b"0100", prefix + b"0700", 1000) == (600, prefix + b"0700")
        counted, behind = await snapshot.count_range(prefix + b"0100", prefix + b"0700", 250)
        # where the others begin, or what sorts between these and the last that was counted
        assert counted == 250
        assert prefix + b"0349" < behind <= prefix + b"0350"


async def test_an_empty_range_has_no_rows(store: Store, prefix: bytes) -> None:
    with store.snapshot() as snapshot:
        assert await snapshot.get_range(prefix, prefix + b"\xff", 10) == ([], False)
        assert await snapshot.count_range(prefix, prefix + b"\xff", 1) == (0, prefix + b"\xff")


async def test_a_snapshot_does_not_see_what_is_written_after_its_first_read(store: Store, prefix: bytes) -> None:
    await write(store, {prefix + b"a": b"1"})
    with store.snapshot() as snapshot:
        await snapshot.get(prefix + b"a")
        await write(store, {prefix + b"a": b"2", prefix + b"b": b"2"})
        assert await snapshot.get_range(prefix, prefix + b"\xff", 10) == ([(prefix + b"a", b"1")], False)


async def test_every_snapshot_sees_what_was_acknowledged_before_it(store: Store, prefix: bytes) -> None:
    async def write_and_read(number: int) -> bool:
        key = prefix + b"%d" % number
        await write(store, {key: b"v"})
        return await read(store, key) == b"v"

    assert all(await asyncio.gather(*(write_and_read(number) for number in range(200))))


async def test_a_range_is_cleared_before_the_same_transaction_writes_to_it(store: Store, prefix: bytes) -> None:
    await write(store, {prefix + b"a": b"1", prefix + b"b": b"1"})

    async def body(transaction: Transaction) -> None:
        transaction.set(prefix + b"c", b"2")
        transaction.clear_range(prefix, prefix + b"\xff")
        transaction.set(prefix + b"b", b"2")

    await store.transact(body)
    assert await rows(store, prefix, prefix + b"\xff") == [(prefix + b"b", b"2")]


async def test_transactions_that_rely_on_a_key_follow_one_another(store: Store, prefix: bytes) -> None:
    counts = await asyncio.gather(*(increment(store, prefix + b"n") for _ in range(20)))
    assert sorted(counts) == list(range(1, 21))
    assert await read(store, prefix + b"n") == b"20"


async def test_a_transaction_is_not_disturbed_by_a_change_of_what_it_only_read(store: Store, prefix: bytes) -> None:
    runs = 0

    async def body(transaction: Transaction) -> None:
        nonlocal runs
        runs += 1
        await transaction.get(prefix + b"a")
        await write(store, {prefix + b"a": b"%d" % runs})
        transaction.set(prefix + b"b", b"1")

    await store.transact(body)
    assert runs == 1


async def test_a_transaction_runs_again_when_a_key_that_it_relies_on_has_changed(store: Store, prefix: bytes) -> None:
    seen = []

    async def body(transaction: Transaction) -> None:
        seen.append(await transaction.get_for_update(prefix + b"a"))
        if len(seen) == 1:
            await write(store, {prefix + b"a": b"1"})
        transaction.set(prefix + b"b", b"1")

    await store.transact(body)
    assert seen == [None, b"1"]


async def test_a_transaction_that_fails_writes_nothing(store: Store, prefix: bytes) -> None:
    async def body(transaction: Transaction) -> None:
        transaction.set(prefix + b"a", b"1")
        raise LookupError

    with pytest.raises(LookupError):
        await store.transact(body)
    assert await read(store, prefix + b"a") is None


@pytest.mark.parametrize("size", LARGE)
async def test_a_large_value_is_read_by_its_key(store: Store, prefix: bytes, size: int) -> None:
    value = bytes(range(256)) * (size // 256) + b"x" * (size % 256)
    await write(store, {prefix + b"a": value})
    assert await read(store, prefix + b"a") == value


async def test_large_values_are_read_in_ranges(store: Store, prefix: bytes) -> None:
    values = {prefix + b"%02d" % number: b"%02d" % number * 100_000 if number % 3 else b"small" for number in range(20)}
    await write(store, values)
    assert await rows(store, prefix, prefix + b"\xff") == sorted(values.items())


async def test_a_large_value_is_overwritten_by_a_larger_and_a_smaller_one(store: Store, prefix: bytes) -> None:
    found = []
    for size in (200_000, 500_000, 100_000, 10):
        await write(store, {prefix + b"a": b"v" * size})
        found.append(await read(store, prefix + b"a"))
    assert [len(value or b"") for value in found] == [200_000, 500_000, 100_000, 10]


async def test_a_large_value_is_cleared_with_its_range(store: Store, prefix: bytes) -> None:
    await write(store, {prefix + b"a": b"v" * 200_000, prefix + b"b": b"v" * 200_000})
    await clear_range(store, prefix, prefix + b"b")
    assert await rows(store, prefix, prefix + b"\xff") == [(prefix + b"b", b"v" * 200_000)]


async def test_any_bytes_are_a_value(store: Store, prefix: bytes) -> None:
    values = {prefix + b"%d" % number: value for number, value in enumerate(
        [b"\xff", b"\xff\x00", b"\xff\x00fetch split\x00", b"\xff\x00fetch split\x00\x00\x00\x00\x01", b"\x00"])}  # fmt: skip
    await write(store, values)
    assert await rows(store, prefix, prefix + b"\xff") == sorted(values.items())


@pytest.mark.parametrize("length", [500, 501, 511, 512, 1024, 4096])
async def test_a_long_key_is_a_key(store: Store, prefix: bytes, length: int) -> None:
    keys = [prefix + b"k" * length, prefix + b"k" * length + b"\x00", prefix + b"k" * (length - 1)]
    await write(store, {key: b"%d" % number for number, key in enumerate(keys)})
    assert await rows(store, prefix, prefix + b"\xff") == sorted(
        (key, b"%d" % number) for number, key in enumerate(keys)
    )


async def test_keys_that_belong_to_no_tenant_have_the_shared_prefix(store: Store, prefix: bytes) -> None:
    key = store.shared_prefix + b"\x02" + prefix
    await write(store, {key: b"1"})
    assert await rows(store, store.shared_prefix + b"\x02" + prefix, store.shared_prefix + b"\x03") == [(key, b"1")]
    await write(store, {key: None})


async def test_waiting_for_a_change_ends_at_once_when_it_has_happened(store: Store, prefix: bytes) -> None:
    await write(store, {prefix + b"a": b"2"})
    await asyncio.wait_for(store.changed(prefix + b"a", b"1"), 60)


@pytest.mark.parametrize("before", [None, b"1"])
async def test_waiting_for_a_change_ends_when_it_happens(store: Store, prefix: bytes, before: bytes | None) -> None:
    await write(store, {prefix + b"a": before})
    waiting = asyncio.create_task(store.changed(prefix + b"a", before))
    await asyncio.wait([waiting], timeout=0.1)
    assert not waiting.done()
    await write(store, {prefix + b"a": b"2"})
    await asyncio.wait_for(waiting, 60)


async def test_waiting_for_a_change_can_be_given_up(store: Store, prefix: bytes) -> None:
    waiting = asyncio.create_task(store.changed(prefix + b"a", None))
    await asyncio.wait([waiting], timeout=0.1)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting


async def test_a_tenant_keeps_its_prefix(store: Store, name: str) -> None:
    assert await store.open_tenant(name) == await store.open_tenant(name)


async def test_a_tenant_is_found_where_it_was_opened(store: Store, name: str) -> None:
    assert await store.find_tenant(name) is None
    assert await store.open_tenant(name) == await store.find_tenant(name)


async def test_a_tenant_is_not_made_by_looking_for_it(store: Store, name: str) -> None:
    await store.find_tenant(name)
    assert await store.find_tenant(name) is None


async def test_no_tenants_prefix_begins_with_anothers(store: Store, name: str) -> None:
    prefixes = [await store.open_tenant(f"{name}-{number}") for number in range(20)]
    assert not any(a.startswith(b) for a in prefixes for b in prefixes if a is not b)


async def test_the_size_is_a_number_of_bytes(store: Store, prefix: bytes) -> None:
    await write(store, {prefix + b"a": b"v" * 1000})
    assert await store.size() >= 0

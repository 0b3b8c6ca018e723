"""What a client of FoundationDB does and does not do: one suite for the model of it and for the real one."""

import asyncio
import itertools
import secrets
from collections.abc import AsyncIterator
from typing import Any

import pytest

from fetch.stores.foundationdb.binding import Binding

TRANSACTION_TOO_OLD, NOT_COMMITTED, TRANSACTION_TIMED_OUT = 1007, 1020, 1031
USED_DURING_COMMIT, TRANSACTION_TOO_LARGE, KEY_TOO_LARGE, VALUE_TOO_LARGE = 2017, 2101, 2102, 2103
LONGER_THAN_A_SNAPSHOT = 6.0


@pytest.fixture
async def prefix(binding: Binding) -> AsyncIterator[bytes]:
    """Where a test may write."""
    prefix = b"test-" + secrets.token_bytes(8)
    yield prefix
    transaction = binding.begin()
    transaction.clear_range(prefix, prefix + b"\xff")
    await binding.commit(transaction)


async def put(binding: Binding, rows: dict[bytes, bytes]) -> None:
    transaction = binding.begin()
    for key, value in rows.items():
        transaction.set(key, value)
    await binding.commit(transaction)


async def get(binding: Binding, key: bytes) -> bytes | None:
    [value] = await binding.values(binding.begin(), [key])
    return value


async def code_of(binding: Binding, answer: Any) -> int:
    with pytest.raises(binding.fdb.FDBError) as refused:
        await answer
    return int(refused.value.code)


async def test_what_was_committed_is_read(binding: Binding, prefix: bytes) -> None:
    await put(binding, {prefix + b"a": b"1", prefix + b"b": b""})
    values = await binding.values(binding.begin(), [prefix + b"b", prefix + b"c", prefix + b"a"])
    assert values == [b"", None, b"1"]


async def test_a_transaction_reads_at_the_version_of_its_first_read(binding: Binding, prefix: bytes) -> None:
    await put(binding, {prefix + b"a": b"1"})
    transaction = binding.begin()
    await binding.values(transaction, [prefix])
    await put(binding, {prefix + b"a": b"2"})
    assert await binding.values(transaction, [prefix + b"a"]) == [b"1"]


async def test_a_transaction_does_not_read_what_it_writes(binding: Binding, prefix: bytes) -> None:
    transaction = binding.begin()
    transaction.set(prefix + b"a", b"1")
    assert await binding.values(transaction, [prefix + b"a"]) == [None]


async def test_reads_are_no_conflicts(binding: Binding, prefix: bytes) -> None:
    transaction = binding.begin()
    await binding.values(transaction, [prefix + b"a"])
    await put(binding, {prefix + b"a": b"2"})
    transaction.set(prefix + b"b", b"1")
    await binding.commit(transaction)
    assert await get(binding, prefix + b"b") == b"1"


@pytest.mark.parametrize("how", ["set", "clear", "clear_range"])
async def test_a_key_that_is_relied_on_and_written_by_another_is_a_conflict(
    binding: Binding, prefix: bytes, how: str
) -> None:
    transaction = binding.begin()
    await binding.values(transaction, [prefix + b"a"])
    other = binding.begin()
    match how:
        case "set":
            other.set(prefix + b"a", b"same or not")
        case "clear":
            other.clear(prefix + b"a")
        case _:
            other.clear_range(prefix, prefix + b"b")
    await binding.commit(other)
    transaction.add_read_conflict_key(prefix + b"a")
    transaction.set(prefix + b"b", b"1")
    assert await code_of(binding, binding.commit(transaction)) == NOT_COMMITTED
    assert await get(binding, prefix + b"b") is None


async def test_a_key_beside_is_no_conflict(binding: Binding, prefix: bytes) -> None:
    transaction = binding.begin()
    await binding.values(transaction, [prefix + b"a"])
    await put(binding, {prefix + b"a\x00": b"1"})
    transaction.add_read_conflict_key(prefix + b"a")
    transaction.set(prefix + b"b", b"1")
    await binding.commit(transaction)


async def test_a_transaction_that_writes_nothing_meets_no_conflict(binding: Binding, prefix: bytes) -> None:
    transaction = binding.begin()
    await binding.values(transaction, [prefix + b"a"])
    await put(binding, {prefix + b"a": b"1"})
    transaction.add_read_conflict_key(prefix + b"a")
    await binding.commit(transaction)


async def test_what_is_set_behind_a_clear_stays(binding: Binding, prefix: bytes) -> None:
    await put(binding, {prefix + b"a": b"1", prefix + b"b": b"1"})
    transaction = binding.begin()
    transaction.set(prefix + b"c", b"gone")
    transaction.clear_range(prefix, prefix + b"\xff")
    transaction.set(prefix + b"b", b"2")
    await binding.commit(transaction)
    rows, more = await binding.rows(binding.begin(), prefix, prefix + b"\xff", 10)
    assert (rows, more) == ([(prefix + b"b", b"2")], False)


@pytest.mark.parametrize(("limit", "more"), [(1, True), (4, True), (5, False), (9, False)])
async def test_a_range_ends_at_its_limit_and_says_whether_there_is_more(
    binding: Binding, prefix: bytes, limit: int, more: bool
) -> None:
    await put(binding, {prefix + b"%d" % number: b"v" for number in range(5)})
    rows, goes_on = await binding.rows(binding.begin(), prefix, prefix + b"\xff", limit)
    assert ([key[-1:] for key, _ in rows], goes_on) == ([b"%d" % number for number in range(min(limit, 5))], more)


async def test_a_page_of_large_rows_ends_before_its_limit(binding: Binding, prefix: bytes) -> None:
    for first in range(0, 40, 10):
        await put(binding, {prefix + b"%02d" % number: b"v" * 90_000 for number in range(first, first + 10)})
    rows, more = await binding.rows(binding.begin(), prefix, prefix + b"\xff", 100)
    assert 1 <= len(rows) < 40
    assert more


async def test_rows_are_counted(binding: Binding, prefix: bytes) -> None:
    await put(binding, {prefix + b"%04d" % number: b"v" * 300 for number in range(700)})
    begin, end = prefix + b"0100", prefix + b"0600"
    assert await binding.count(binding.begin(), begin, end, 1000) == (500, end)


async def test_a_count_ends_at_its_limit_and_says_where_the_others_begin(binding: Binding, prefix: bytes) -> None:
    await put(binding, {prefix + b"%04d" % number: b"v" * 300 for number in range(700)})
    counts, position = [], prefix
    while position < prefix + b"\xff":
        count, position = await binding.count(binding.begin(), position, prefix + b"\xff", 300)
        counts.append(count)
    assert counts == [300, 300, 100]


async def test_a_range_is_split_into_pieces_of_about_one_size(binding: Binding, prefix: bytes) -> None:
    for first in range(0, 4000, 1000):
        await put(binding, {prefix + b"%04d" % number: b"v" * 1000 for number in range(first, first + 1000)})
    begin, end = prefix, prefix + b"\xff"
    edges = sorted({begin, *await binding.splits(binding.begin(), begin, end, 1_000_000), end})
    assert 3 <= len(edges) <= 10
    sizes = [(await binding.count(binding.begin(), *pair, 4001))[0] for pair in itertools.pairwise(edges)]
    assert sum(sizes) == 4000
    assert max(sizes) <= 2500


async def test_an_empty_range_is_one_piece(binding: Binding, prefix: bytes) -> None:
    splits = await binding.splits(binding.begin(), prefix, prefix + b"\xff", 1_000_000)
    assert set(splits) <= {prefix, prefix + b"\xff"}


@pytest.mark.parametrize(
    ("rows", "code"),
    [
        ({b"k" * 10_000: b"v"}, KEY_TOO_LARGE),
        ({b"a": b"v" * 100_001}, VALUE_TOO_LARGE),
        ({b"%03d" % number: b"v" * 99_000 for number in range(102)}, TRANSACTION_TOO_LARGE),
    ],
    ids=["key", "value", "transaction"],
)
async def test_what_is_too_large_is_refused_whole(
    binding: Binding, prefix: bytes, rows: dict[bytes, bytes], code: int
) -> None:
    written = {prefix + key: value for key, value in rows.items()} | {prefix + b"small": b"v"}
    assert await code_of(binding, put(binding, written)) == code
    assert await get(binding, prefix + b"small") is None


@pytest.mark.parametrize("size", [100_000, 0])
async def test_the_largest_value_is_stored(binding: Binding, prefix: bytes, size: int) -> None:
    await put(binding, {prefix + b"a": b"v" * size})
    assert len(await get(binding, prefix + b"a") or b"") == size


async def test_a_snapshot_expires(binding: Binding, prefix: bytes) -> None:
    transaction = binding.begin()
    transaction.options.set_timeout(0)
    await binding.values(transaction, [prefix])
    await asyncio.sleep(LONGER_THAN_A_SNAPSHOT)  # the one thing here that only time brings about
    await put(binding, {prefix + b"a": b"1"})
    assert await code_of(binding, binding.values(transaction, [prefix + b"a"])) == TRANSACTION_TOO_OLD
    late = binding.begin()
    late.set_read_version(int(transaction.get_read_version().wait()))
    late.add_read_conflict_key(prefix + b"a")
    late.set(prefix + b"b", b"1")
    assert await code_of(binding, binding.commit(late)) == TRANSACTION_TOO_OLD


async def test_a_transaction_ends_when_its_time_is_up(binding: Binding, prefix: bytes) -> None:
    transaction = binding.begin()
    await binding.values(transaction, [prefix])
    transaction.options.set_timeout(1)
    await asyncio.sleep(0.05)
    assert await code_of(binding, binding.values(transaction, [prefix + b"a"])) == TRANSACTION_TIMED_OUT


async def watching(binding: Binding, key: bytes) -> Any:
    transaction = binding.begin(reads_own_writes=True)
    transaction.options.set_timeout(0)
    watch = transaction.watch(key)
    await binding.commit(transaction)
    return watch


async def test_a_watch_ends_when_the_value_is_another(binding: Binding, prefix: bytes) -> None:
    watch = await watching(binding, prefix + b"a")
    assert not watch.is_ready()
    await put(binding, {prefix + b"a": b"1"})
    async with asyncio.timeout(10):
        await binding.ready(watch)


async def test_a_watch_sees_what_came_between_its_version_and_its_commit(binding: Binding, prefix: bytes) -> None:
    transaction = binding.begin(reads_own_writes=True)
    transaction.options.set_timeout(0)
    await binding.values(transaction, [prefix + b"a"])
    await put(binding, {prefix + b"a": b"1"})
    watch = transaction.watch(prefix + b"a")
    await binding.commit(transaction)
    async with asyncio.timeout(10):
        await binding.ready(watch)


async def test_a_watch_can_be_given_up(binding: Binding, prefix: bytes) -> None:
    watch = await watching(binding, prefix + b"a")
    waiting = asyncio.create_task(binding.ready(watch))
    await asyncio.sleep(0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting


async def test_a_directory_is_opened_where_it_was_made(binding: Binding) -> None:
    name = secrets.token_hex(8)
    prefixes = await asyncio.gather(*(binding.open_directory(("fetch-tests", name)) for _ in range(5)))
    assert len(set(prefixes)) == 1
    assert prefixes[0] != await binding.open_directory(("fetch-tests", name + "-other"))


async def test_a_directory_is_found_once_it_has_been_made(binding: Binding) -> None:
    path = ("fetch-tests", secrets.token_hex(8))
    assert await binding.find_directory(path) is None
    assert await binding.open_directory(path) == await binding.find_directory(path)


async def test_a_transaction_is_committed_once(binding: Binding, prefix: bytes) -> None:
    transaction = binding.begin()
    transaction.set(prefix + b"a", b"1")
    await binding.commit(transaction)
    assert await get(binding, prefix + b"a") == b"1"

"""A transaction's reads see its own writes, whatever was written, cleared and undone before, and cost what they read."""

import asyncio
import random
import sys
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from types import FrameType

import pytest

from fetch.stores.snapshot import Row
from fetch.stores.transaction import Transaction, all_rows

KEYS = [b"%02d" % number for number in range(40)]


@dataclass
class Stored:
    """A snapshot of a dictionary."""

    rows: dict[bytes, bytes]
    read: list[int] = field(default_factory=list)

    async def get(self, key: bytes) -> bytes | None:
        return self.rows.get(key)

    async def get_many(self, keys: Sequence[bytes]) -> list[bytes | None]:
        return [self.rows.get(key) for key in keys]

    async def get_range(self, begin: bytes, end: bytes, limit: int) -> tuple[list[Row], bool]:
        within = [(key, value) for key, value in sorted(self.rows.items()) if begin <= key < end]
        self.read.append(len(within[:limit]))
        return within[:limit], len(within) > limit

    async def count_range(self, begin: bytes, end: bytes, limit: int) -> tuple[int, bytes]:
        within = sorted(key for key in self.rows if begin <= key < end)
        return len(within[:limit]), within[limit] if len(within) > limit else end


async def read_everywhere(transaction: Transaction, state: dict[bytes, bytes]) -> None:
    for begin, end in [(b"", b"\xff"), (b"05", b"06"), (b"10", b"30"), (b"30", b"10"), (b"20", b"20")]:
        there = [(key, value) for key, value in sorted(state.items()) if begin <= key < end]
        assert [row async for row in all_rows(transaction, begin, end)] == there
        for limit in (1, 3, 100):
            assert await counted(transaction, begin, end, limit) == len(there)
            assert await transaction.get_range(begin, end, limit) == (there[:limit], len(there) > limit)
    assert await transaction.get_many(KEYS) == [state.get(key) for key in KEYS]


@pytest.mark.parametrize("seed", range(40))
async def test_a_transaction_reads_what_a_dictionary_would_have(seed: int) -> None:
    choice = random.Random(seed)
    rows = {key: b"stored" for key in KEYS if choice.random() < 0.5}
    transaction, state = Transaction(Stored(rows)), dict(rows)
    marks: list[tuple[int, dict[bytes, bytes]]] = []
    for number in range(60):
        key = choice.choice(KEYS)
        match choice.randrange(7):
            case 0 | 1 | 2:
                transaction.set(key, b"%d" % number)
                state[key] = b"%d" % number
            case 3:
                transaction.clear(key)
                state.pop(key, None)
            case 4:
                end = choice.choice(KEYS)
                transaction.clear_range(key, end)
                state = {there: value for there, value in state.items() if not key <= there < end}
                marks.clear()  # it cannot be undone
            case 5:
                marks.append((transaction.mark(), dict(state)))
            case 6 if marks:
                mark, state = marks.pop()
                while not transaction.rollback(mark, most=2):
                    pass
        if choice.random() < 0.3:
            await read_everywhere(transaction, state)
    await read_everywhere(transaction, state)


async def lines_run(work: Callable[[], Awaitable[object]]) -> int:
    """How many lines of Python some work runs: its cost, on any machine."""
    lines = 0

    def trace(frame: FrameType, event: str, _: object) -> Callable[..., object]:
        nonlocal lines
        lines += event == "line"
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        await work()
    finally:
        sys.settrace(before)
    return lines


async def wrote(many: int, *, cleared: int = 0) -> Transaction:
    """A transaction that has written and cleared so much, and has read a range since."""
    transaction = Transaction(Stored({b"k%d" % number: b"" for number in range(10)}))
    for number in range(cleared):
        transaction.clear_range(b"c%06d" % number, b"c%06d\x00" % number)
    for number in range(many):
        transaction.set(b"w%06d" % number, b"")
    await transaction.get_range(b"w", b"x", 1)
    return transaction


async def read_range(transaction: Transaction) -> None:
    await transaction.get_range(b"k", b"l", 100)


async def read_one_of_many(transaction: Transaction) -> None:
    await transaction.get_range(b"w", b"x", 1)


async def read_key(transaction: Transaction) -> None:
    await transaction.get(b"absent")


async def counted(transaction: Transaction, begin: bytes, end: bytes, limit: int) -> int:
    """All rows of [begin, end), counted piece by piece."""
    total = 0
    while begin < end:
        count, begin = await transaction.count_range(begin, end, limit)
        total += count
    return total


async def count(transaction: Transaction) -> None:
    await transaction.count_range(b"k", b"l", 1000)


async def write(transaction: Transaction) -> None:
    transaction.set(b"new", b"")


async def clear(transaction: Transaction) -> None:
    transaction.clear_range(b"k", b"l")


@pytest.mark.parametrize("step", [read_range, read_one_of_many, read_key, count, write, clear])
async def test_a_step_costs_the_same_however_much_was_written(step: Callable[[Transaction], Awaitable[None]]) -> None:
    few, many = await wrote(100, cleared=10), await wrote(20_000, cleared=2000)
    # an ordered list splits in two now and then
    assert await lines_run(lambda: step(many)) <= await lines_run(lambda: step(few)) + 50


async def test_a_long_range_is_passed_over_in_pages_between_which_others_run() -> None:
    transaction = Transaction(Stored({b"k%06d" % number: b"" for number in range(20_000)}))
    pauses = 0

    async def pause() -> None:
        nonlocal pauses
        pauses += 1
        await asyncio.sleep(0)

    transaction.pause = pause
    transaction.clear_range(b"k", b"l")
    assert await transaction.get_range(b"k", b"l", 1) == ([], False)
    assert pauses >= 20


async def test_putting_what_was_written_in_order_gives_way() -> None:
    transaction = Transaction(Stored({}))
    pauses = 0

    async def pause() -> None:
        nonlocal pauses
        pauses += 1

    transaction.pause = pause
    for number in range(20_000):
        transaction.set(b"w%06d" % number, b"")
    await transaction.get_range(b"a", b"b", 1)
    assert pauses >= 20

"""What a daemon makes of a tenant's claim: who writes, and when that changes."""

import asyncio
from collections.abc import Callable

import pytest

from fetch.engine.layout import unpack_claim
from fetch.peers.claims import FRESH_MS, IDLE_SECONDS, WINDOW_SECONDS, Writing
from tests.simulation.loop import run

OWN, OTHER, THIRD = 1, 2, 3


class Clock:
    """The time served."""

    def __init__(self) -> None:
        self.now = 1000

    def __call__(self) -> int:
        return self.now


def test_whoever_finds_no_claim_takes_it() -> None:
    async def test() -> None:
        written = Writing(OWN, Clock(), lambda _: False).renewed(None)
        assert written is not None
        assert unpack_claim(written)[0] == OWN

    run(0, test())


@pytest.mark.parametrize(("age", "taken"), [(0, False), (FRESH_MS - 1, False), (FRESH_MS, True), (-50, False)])
def test_anothers_claim_is_left_as_long_as_it_is_fresh(age: int, taken: bool) -> None:
    async def test() -> None:
        clock = Clock()
        stored = Writing(OTHER, clock, lambda _: False).renewed(None)
        clock.now += age
        writing = Writing(OWN, clock, lambda _: False)
        written = writing.renewed(stored)
        assert (written is not None) == taken
        writing.committed(stored, written)
        assert writing.elsewhere() == (None if taken else OTHER)

    run(0, test())


def test_the_claim_of_one_that_cannot_be_reached_is_taken() -> None:
    async def test() -> None:
        clock = Clock()
        stored = Writing(OTHER, clock, lambda _: False).renewed(None)
        assert Writing(OWN, clock, lambda daemon: daemon == OTHER).renewed(stored) is not None

    run(0, test())


def test_what_is_known_of_the_writer_lasts_as_long_as_writes_go_there() -> None:
    async def test() -> None:
        writing = Writing(OWN, Clock(), lambda _: False)
        writing.moved_to(OTHER)
        for _ in range(5):
            await asyncio.sleep(IDLE_SECONDS * 0.9)
            assert writing.elsewhere() == OTHER
        await asyncio.sleep(IDLE_SECONDS * 1.1)
        assert writing.elsewhere() is None

    run(0, test())


@pytest.mark.parametrize(
    ("origins", "moves"),
    [
        (lambda _: OTHER, True),
        (lambda _: None, False),
        (lambda number: OTHER if number % 10 else None, True),
        (lambda number: OTHER if number % 2 else None, False),
        (lambda number: OTHER if number % 2 else THIRD, False),
        (lambda number: OTHER if number < 60 else None, False),
    ],
)
def test_a_claim_goes_to_whom_nearly_all_writes_come_from(origins: Callable[[int], int | None], moves: bool) -> None:
    async def test() -> int | None:
        writing = Writing(OWN, Clock(), lambda _: False)
        for number in range(int((WINDOW_SECONDS + 0.1) * 50)):
            writing.count(origins(number))
            await asyncio.sleep(0.02)
        return writing.writer

    assert run(0, test()) == (OTHER if moves else None)


def test_a_claim_that_was_handed_on_is_not_renewed() -> None:
    async def test() -> None:
        clock = Clock()
        writing = Writing(OWN, clock, lambda _: False)
        stored = writing.renewed(None)
        writing.committed(None, stored)
        writing.moved_to(OTHER)
        assert writing.renewed(stored) is None
        await asyncio.sleep(IDLE_SECONDS * 1.1)
        assert writing.renewed(stored) is not None  # nobody has taken it

    run(0, test())


def test_who_is_told_to_write_takes_a_fresh_claim() -> None:
    async def test() -> None:
        clock = Clock()
        stored = Writing(OTHER, clock, lambda _: False).renewed(None)
        writing = Writing(OWN, clock, lambda _: False)
        writing.moved_to(OWN)
        written = writing.renewed(stored)
        assert written is not None
        assert unpack_claim(written)[0] == OWN

    run(0, test())

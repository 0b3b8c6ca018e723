"""The way to another daemon: what was sent has an unknown fate until it is answered, and what was not has none."""

import asyncio
from collections.abc import Coroutine
from typing import Any

import pytest

from fetch.peers.channels import ChannelClosed
from fetch.peers.link import CONNECT_SECONDS, FIRST_PAUSE_SECONDS, SILENT_SECONDS, Link, NotTaken, Unanswered
from fetch.peers.operations import carry_out
from fetch.v1.peers_pb2 import Done, Moved, Result, Results, Write, Writes
from tests.daemons.simulated import until
from tests.simulation.loop import run


class Wire:
    """A channel whose other side a test plays."""

    def __init__(self) -> None:
        self.sent: asyncio.Queue[Writes] = asyncio.Queue()
        self.said: asyncio.Queue[bytes | None] = asyncio.Queue()
        self.room = asyncio.Event()
        self.room.set()

    async def send(self, message: bytes) -> None:
        await self.room.wait()
        self.sent.put_nowait(Writes.FromString(message))

    async def receive(self) -> bytes:
        message = await self.said.get()
        if message is None:
            raise ChannelClosed
        return message

    def close(self) -> None:
        self.said.put_nowait(None)

    def say(self, **what: Any) -> None:
        self.said.put_nowait(Results(**what).SerializeToString())


class Way:
    """A link over a wire, ready."""

    def __init__(self) -> None:
        self.wire = Wire()
        self.moved: list[tuple[str, int]] = []
        self.link = Link(7, self._connect, lambda tenant, writer: self.moved.append((tenant, writer)))

    async def _connect(self) -> Wire:
        return self.wire

    async def ready(self) -> "Way":
        self.wire.say()
        self.link.open()
        await until(lambda: self.link.is_ready)
        return self

    def write(self) -> "asyncio.Task[Result]":
        return asyncio.create_task(self.link.exchange(Write(tenant="alpha", put=b"")))


def simulated(test: Coroutine[Any, Any, None]) -> None:
    run(0, test)


def test_an_answer_is_that_of_its_write() -> None:
    async def test() -> None:
        way = await Way().ready()
        one, other = way.write(), way.write()
        message = await way.wire.sent.get()
        numbers = [write.number for write in message.writes]
        assert message.origin == 7
        for number, revision in zip(reversed(numbers), (20, 10), strict=True):
            way.wire.say(results=[Result(number=number, done=Done(revision=revision))])
        assert [(await one).done.revision, (await other).done.revision] == [10, 20]

    simulated(test())


def test_a_write_that_was_sent_is_unanswered_when_the_channel_breaks() -> None:
    async def test() -> None:
        way = await Way().ready()
        sent = way.write()
        await way.wire.sent.get()
        way.wire.close()
        with pytest.raises(Unanswered):
            await sent
        assert way.link.is_broken

    simulated(test())


def test_a_write_that_was_not_sent_is_not_taken() -> None:
    async def test() -> None:
        way = await Way().ready()
        first = way.write()
        await way.wire.sent.get()
        way.wire.room.clear()  # the next message does not leave: what it holds may have, for all that is known
        second = way.write()
        await asyncio.sleep(0.01)
        third = way.write()
        await asyncio.sleep(0.01)
        way.wire.close()
        with pytest.raises(Unanswered):
            await first
        with pytest.raises(Unanswered):
            await second
        with pytest.raises(NotTaken):
            await third

    simulated(test())


def test_a_way_over_which_nothing_comes_is_broken() -> None:
    async def test() -> None:
        way = await Way().ready()
        began = asyncio.get_running_loop().time()
        with pytest.raises(Unanswered):
            await way.write()
        assert asyncio.get_running_loop().time() - began == pytest.approx(SILENT_SECONDS, abs=0.1)

    simulated(test())


@pytest.mark.parametrize("said", [b"\xff\xff", b"no message"])
def test_who_cannot_be_understood_is_left(said: bytes) -> None:
    async def test() -> None:
        way = await Way().ready()
        sent = way.write()
        await way.wire.sent.get()
        way.wire.said.put_nowait(said)
        with pytest.raises(Unanswered):
            await sent
        assert way.link.is_broken

    simulated(test())


def test_who_leaves_answers_what_it_was_sent_and_gets_no_more() -> None:
    async def test() -> None:
        way = await Way().ready()
        sent = way.write()
        [write] = (await way.wire.sent.get()).writes
        way.wire.say(leaving=True)
        await asyncio.sleep(0.01)
        with pytest.raises(NotTaken):
            await way.write()
        way.wire.say(results=[Result(number=write.number, done=Done(revision=5))])
        assert (await sent).done.revision == 5
        assert way.link.is_broken

    simulated(test())


def test_nobody_there_is_found_out_within_a_second_and_tried_again_later() -> None:
    async def test() -> None:
        way = Way()
        way.link.open()  # nothing is said
        await asyncio.sleep(CONNECT_SECONDS * 1.1)
        assert way.link.is_broken
        way.wire = Wire()
        way.wire.say()
        way.link.open()
        await asyncio.sleep(0.01)
        assert not way.link.is_ready  # it is too early
        await asyncio.sleep(FIRST_PAUSE_SECONDS)
        await way.ready()
        assert not way.link.is_broken

    simulated(test())


def test_what_is_said_of_the_writer_is_told() -> None:
    async def test() -> None:
        way = await Way().ready()
        way.wire.say(moved=[Moved(tenant="alpha", writer=9)])
        await asyncio.sleep(0.01)
        assert way.moved == [("alpha", 9)]

    simulated(test())


def test_a_write_of_a_kind_that_is_not_known_is_given_back() -> None:
    async def test() -> None:
        engine: Any = None  # it is not asked
        assert (await carry_out(engine, Write(number=3, tenant="alpha"))).declined

    simulated(test())

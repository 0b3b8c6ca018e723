"""Memory: what waits, what is refused, and that nothing stays counted."""

import asyncio
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, cast

import grpc
import pytest

from fetch.chain import Call, Setup
from fetch.config import Settings
from fetch.errors import TooManyRequests
from interceptors.memory import Memory

MIB = 1 << 20
BOUND = 16 * MIB
SETTINGS = Settings(listen_client_urls=("http://127.0.0.1:1",), anonymous_tenant="alpha")


class Context:
    """A client that takes its answers when it is told to."""

    def __init__(self) -> None:
        self.callbacks: list[Callable[[Any], None]] = []
        self.taken = asyncio.Event()

    def add_done_callback(self, callback: Callable[[Any], None]) -> None:
        self.callbacks.append(callback)

    async def write(self, message: bytes) -> None:
        await self.taken.wait()

    def take(self) -> None:
        self.taken.set()
        for callback in self.callbacks:
            callback(self)


@pytest.fixture
def memory() -> Memory:
    return Memory(Setup({"bytes": BOUND}, SETTINGS))


def call_of(tenant: str, kind: str = "get", request: bytes = b"", *, streaming: bool = False) -> Call:
    call = Call("/etcdserverpb.KV/Range", request, cast(grpc.aio.ServicerContext, Context()))
    call.tenant, call.kind, call.response_streaming = cast(Any, SimpleNamespace(tenant=tenant)), kind, streaming
    return call


def take(call: Call) -> None:
    cast(Context, call.context).take()


async def turns() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


async def answered_with(size: int, memory: Memory, call: Call) -> bytes:
    async def proceed(_: Call) -> bytes:
        return b"x" * size

    answer: bytes = await memory.intercept(call, proceed)
    return answer


async def fill(memory: Memory, tenant: str) -> list[Call]:
    """Answers that nobody takes, until the tenant holds more than it may."""
    calls = [call_of(tenant) for _ in range(17)]
    for call in calls:
        await answered_with(MIB, memory, call)
    return calls


async def test_a_call_of_a_tenant_at_its_bound_waits_until_an_answer_is_taken(memory: Memory) -> None:
    unread = await fill(memory, "alpha")
    waiting = asyncio.create_task(answered_with(1, memory, call_of("alpha")))
    await turns()
    assert not waiting.done()
    take(unread[0])
    assert await waiting == b"x"


async def test_another_tenant_goes_on(memory: Memory) -> None:
    await fill(memory, "alpha")
    assert await answered_with(1, memory, call_of("beta")) == b"x"


async def test_a_waiting_call_whose_client_goes_does_not_keep_others_waiting(memory: Memory) -> None:
    unread = await fill(memory, "alpha")
    waiting = [asyncio.create_task(answered_with(1, memory, call_of("alpha"))) for _ in range(3)]
    await turns()
    waiting[0].cancel()
    take(unread[0])
    waiting[1].cancel()  # its turn has just come
    assert await waiting[2] == b"x"


@pytest.mark.parametrize("kind", ["list", "txn"])
async def test_eight_answers_of_unknown_size_are_made_at_once(memory: Memory, kind: str) -> None:
    making = 0
    most = 0
    go_on = asyncio.Event()

    async def make(_: Call) -> bytes:
        nonlocal making, most
        making += 1
        most = max(most, making)
        await go_on.wait()
        making -= 1
        return b""

    lists = [asyncio.create_task(memory.intercept(call_of("alpha", kind), make)) for _ in range(40)]
    await turns()
    assert await answered_with(1, memory, call_of("alpha")) == b"x"
    go_on.set()
    await asyncio.gather(*lists)
    assert most == 8


async def test_answers_of_lists_that_nobody_takes_stay_within_the_bound_and_what_was_being_made(memory: Memory) -> None:
    made: list[Call] = []

    async def make(call: Call) -> bytes:
        await asyncio.sleep(0)
        made.append(call)
        return b"x" * (4 * MIB)

    lists = [asyncio.create_task(memory.intercept(call_of("alpha", "list"), make)) for _ in range(40)]
    for _ in range(10):
        await turns()
    assert len(made) == 8
    while made:
        take(made.pop())
        await turns()
    await asyncio.wait_for(asyncio.gather(*lists), 10)


async def test_requests_beyond_a_quarter_of_the_bound_are_refused(memory: Memory) -> None:
    never = asyncio.Event()

    async def wait(_: Call) -> None:
        await never.wait()

    writes = [asyncio.create_task(memory.intercept(call_of("alpha", "put", b"x" * MIB), wait)) for _ in range(4)]
    await turns()
    with pytest.raises(TooManyRequests):
        await memory.intercept(call_of("alpha", "put", b"x" * MIB), wait)
    never.set()
    await asyncio.gather(*writes)
    assert await answered_with(1, memory, call_of("alpha", "put", b"x" * MIB)) == b"x"


async def test_messages_of_streams_that_nobody_reads_are_bounded(memory: Memory) -> None:
    streams = [call_of("alpha", "watch", streaming=True) for _ in range(20)]

    async def write(call: Call) -> None:
        await call.write(b"x" * MIB)

    tasks = [asyncio.create_task(memory.intercept(stream, write)) for stream in streams]
    await turns()
    refused = [task for task in tasks if task.done()]
    assert len(refused) == 4
    assert all(isinstance(task.exception(), TooManyRequests) for task in refused)
    for stream in streams:
        take(stream)
    await asyncio.gather(*(set(tasks) - set(refused)))
    assert await answered_with(1, memory, call_of("alpha", "list")) == b"x"


async def test_a_call_that_fails_gives_everything_back(memory: Memory) -> None:
    async def fail(_: Call) -> None:
        raise TooManyRequests

    for _ in range(50):
        with pytest.raises(TooManyRequests):
            await memory.intercept(call_of("alpha", "list", b"x" * MIB), fail)
    assert await answered_with(1, memory, call_of("alpha", "list")) == b"x"


@pytest.mark.parametrize("value", [0, -1, True, "1", 1 << 20])
def test_a_bound_that_no_answer_would_fit_in_is_refused(value: object) -> None:
    with pytest.raises(ValueError, match="bytes must be"):
        Memory(Setup({"bytes": value}, SETTINGS))

"""Writes that take long: others go on meanwhile, each tenant gets its share, and what is written is as if none had."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

from fetch import errors
from fetch.api.rpc_pb2 import Compare, DeleteRangeRequest, PutRequest, RangeRequest, RequestOp, TxnRequest
from fetch.chain import Link, ProceedMutation, compose
from fetch.engine import turns
from fetch.engine.batch import Committed, Mutation
from fetch.engine.engine import StoredEngine
from fetch.engine.mutations import apply
from fetch.engine.tenants import Tenants
from tests.engine.engines import Daemon, daemon, delete, listed, operation_chain, put

KEYS = 400
EVERYTHING = RangeRequest(key=b"\0", range_end=b"\0")
LEASE = 7
CHECKS_IN_A_SLICE = 20
A_SLICE = CHECKS_IN_A_SLICE + 4
"""Mutations in a slice at most, with those of a batch that has just begun."""


class Mutations:
    """Sees every mutation behind the rest of the chain, and in which iteration of the event loop it took place."""

    def __init__(self) -> None:
        self.iteration = 0
        self.seen: list[tuple[int, bytes]] = []
        self.then: Callable[[], Awaitable[object]] | None = None
        self.awaited: list[tuple[bytes, asyncio.Event]] = []

    async def intercept(self, mutation: Mutation, proceed: ProceedMutation) -> None:
        await proceed(mutation)
        self.seen.append((self.iteration, mutation.batch.layout.prefix))
        if self.then is not None and len(self.seen) == KEYS // 2:
            await self.then()
        for tenant, happened in self.awaited:
            if tenant == mutation.batch.layout.prefix and len(self.seen) >= KEYS // 4:
                happened.set()

    async def midway(self, engine: StoredEngine) -> None:
        """Returns when a quarter of a long write is done, and the engine has just done some of it."""
        happened = asyncio.Event()
        self.awaited.append((engine._layout.prefix, happened))
        await happened.wait()

    def most_in_an_iteration(self) -> int:
        return max(Counter(iteration for iteration, _ in self.seen).values())

    def clear(self) -> None:
        self.seen.clear()

    def turn(self) -> None:
        self.iteration += 1
        asyncio.get_running_loop().call_soon(self.turn)


@pytest.fixture
def mutations() -> Mutations:
    return Mutations()


@pytest.fixture
async def watched(tmp_path: Path, mutations: Mutations) -> AsyncIterator[Daemon]:
    async with daemon(tmp_path, inner=[Link("mutations", "tests", mutations)]) as started:
        yield started


@pytest.fixture
def slow_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """Time passes by asking for it, so that slices end after so many checks on any machine."""
    now = 0.0

    def perf_counter() -> float:
        nonlocal now
        now += turns.SLICE_SECONDS / CHECKS_IN_A_SLICE
        return now

    monkeypatch.setattr(turns, "time", SimpleNamespace(perf_counter=perf_counter))


async def fill(engine: StoredEngine, keys: int = KEYS, lease: int = 0) -> None:
    await asyncio.gather(*(engine.put(PutRequest(key=b"%04d" % key, lease=lease)) for key in range(keys)))


def txn(keys: range) -> TxnRequest:
    return TxnRequest(success=[RequestOp(request_put=PutRequest(key=b"%04d" % key)) for key in keys])


def nested(keys: range) -> TxnRequest:
    """As many transactions within each other as there are keys in 20."""
    outermost = within = TxnRequest()
    for first in range(0, len(keys), 20):
        within.success.extend(txn(keys[first : first + 20]).success)
        within = within.success.add().request_txn
    return outermost


async def delete_range(engine: StoredEngine) -> None:
    await engine.delete_range(DeleteRangeRequest(key=b"0", range_end=b"9", prev_kv=True))


async def revoke(engine: StoredEngine) -> None:
    await engine.revoke_lease(LEASE)


async def expire(engine: StoredEngine) -> None:
    granted, *_ = await engine.find_lease(LEASE, keys=False)
    assert granted is not None
    due = granted.expires
    engine._served = SimpleNamespace(is_current=True, now=lambda: due + 1)
    assert await engine.expire_leases([(LEASE, due)]) == 1


async def put_in_one_transaction(engine: StoredEngine) -> None:
    await engine.txn(txn(range(KEYS)))


async def put_in_many_transactions(engine: StoredEngine) -> None:
    await asyncio.gather(*(engine.txn(txn(range(first, first + 20))) for first in range(0, KEYS, 20)))


async def put_in_nested_transactions(engine: StoredEngine) -> None:
    await engine.txn(nested(range(KEYS)))


async def put_one_by_one(engine: StoredEngine) -> None:
    await asyncio.gather(*(put(engine, b"%04d" % key) for key in range(KEYS)))


async def fail_at_the_end(engine: StoredEngine) -> None:
    request = txn(range(KEYS))
    request.success.add().request_delete_range.key = b"absent"
    request.success.add().request_put.MergeFrom(PutRequest(key=b"0000", ignore_value=True))
    request.success.add().request_delete_range.MergeFrom(DeleteRangeRequest(key=b"0", range_end=b"9"))
    request.success.add().request_put.MergeFrom(PutRequest(key=b"0001", ignore_value=True))
    with pytest.raises(errors.KeyNotFound):
        await engine.txn(request)


LONG = [
    delete_range,
    revoke,
    expire,
    put_in_one_transaction,
    put_in_many_transactions,
    put_in_nested_transactions,
    put_one_by_one,
    fail_at_the_end,
]


@pytest.mark.parametrize("write", LONG)
@pytest.mark.usefixtures("slow_clock")
async def test_a_slice_of_mutations_is_all_that_happens_before_others_run(
    watched: Daemon, mutations: Mutations, write: Callable[[StoredEngine], Awaitable[None]]
) -> None:
    engine = await watched.open()
    await engine.grant_lease(LEASE, 3600)
    await fill(engine, lease=LEASE)
    mutations.turn()
    mutations.clear()
    await write(engine)
    assert len(mutations.seen) >= KEYS
    assert mutations.most_in_an_iteration() <= A_SLICE


@pytest.mark.usefixtures("slow_clock")
async def test_what_follows_a_commit_gives_way_too(watched: Daemon, mutations: Mutations) -> None:
    engine = await watched.open()
    ran: list[int] = []

    async def follow(mutation: Mutation) -> None:
        mutation.event = b"event"
        mutation.batch.after_commit.append(lambda: ran.append(mutations.iteration))

    engine._writer._mutate = follow
    mutations.turn()
    await engine.txn(txn(range(KEYS)))
    assert len(ran) == KEYS
    assert max(Counter(ran).values()) <= A_SLICE


@pytest.mark.usefixtures("slow_clock")
async def test_compares_of_a_long_range_give_way(watched: Daemon, mutations: Mutations) -> None:
    engine = await watched.open()
    await fill(engine, 3000)
    mutations.turn()
    before = mutations.iteration
    compare = Compare(key=b"0", range_end=b"9", target=Compare.VERSION, result=Compare.EQUAL, version=1)
    response = await engine.txn(TxnRequest(compare=[compare] * 5, success=txn(range(1)).success))
    assert response.succeeded
    # a check for each page of 250 rows
    assert mutations.iteration - before >= 5 * 3000 / 250 / CHECKS_IN_A_SLICE


async def test_a_compare_stops_at_the_first_key_that_fails(running: Daemon, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = await running.open()
    await fill(engine, 3000)
    rows = counting_rows(running, monkeypatch)
    compare = Compare(key=b"0", range_end=b"9", target=Compare.VERSION, result=Compare.EQUAL, version=2)
    assert not (await engine.txn(TxnRequest(compare=[compare], failure=txn(range(1)).success))).succeeded
    assert sum(rows) <= 250


def counting_rows(running: Daemon, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many rows each read of a range gives, from now on."""
    rows: list[int] = []
    kind = type(running.store.snapshot())
    read = kind.get_range

    async def get_range(self: object, begin: bytes, end: bytes, limit: int) -> object:
        page = await read(self, begin, end, limit)
        rows.append(len(page[0]))
        return page

    monkeypatch.setattr(kind, "get_range", get_range)
    return rows


@pytest.mark.usefixtures("slow_clock")
async def test_ten_busy_tenants_get_a_tenth_each(watched: Daemon, mutations: Mutations) -> None:
    engines = [await watched.open(f"tenant {number}") for number in range(10)]
    for engine in engines:
        await fill(engine)
    mutations.clear()
    await asyncio.gather(*(delete_range(engine) for engine in engines))
    done: Counter[bytes] = Counter()
    for _, tenant in mutations.seen:
        done[tenant] += 1
        if len(done) == 10:
            assert max(done.values()) - min(done.values()) <= 2 * CHECKS_IN_A_SLICE
    assert set(done.values()) == {KEYS}


@pytest.mark.usefixtures("slow_clock")
async def test_a_small_write_does_not_wait_for_the_turns_of_long_ones(watched: Daemon, mutations: Mutations) -> None:
    long, short = await watched.open("long"), await watched.open("short")
    await fill(long)
    mutations.clear()
    mutations.turn()
    deleting = asyncio.create_task(delete_range(long))
    await mutations.midway(long)
    before = mutations.iteration
    putting = asyncio.create_task(put(short, b"key"))
    await mutations.midway(short)
    assert mutations.iteration - before <= 3
    await asyncio.gather(deleting, putting)


@pytest.mark.usefixtures("slow_clock")
async def test_reads_see_the_state_before_a_write_that_is_under_way(watched: Daemon, mutations: Mutations) -> None:
    engine = await watched.open()
    await fill(engine)
    mutations.clear()
    deleting = asyncio.create_task(delete_range(engine))
    await mutations.midway(engine)
    # each of them at once: a long list would take turns with the write
    for key in (b"0000", b"%04d" % (KEYS - 1)):
        assert (await engine.get_latest(key)).succeeded
    assert not deleting.done()
    await deleting
    assert await listed(engine, EVERYTHING) == []


@pytest.mark.usefixtures("slow_clock")
async def test_a_write_that_comes_meanwhile_sees_what_the_long_one_did(watched: Daemon, mutations: Mutations) -> None:
    engine = await watched.open()
    await fill(engine)
    mutations.clear()
    deleting = asyncio.create_task(delete(engine, b"0", b"9"))
    await mutations.midway(engine)
    created = await engine.create_if_absent(b"0000", b"anew", 0)
    assert created.succeeded
    assert created.revision == await deleting + 1


@pytest.mark.usefixtures("slow_clock")
async def test_a_write_that_another_daemon_overtakes_is_evaluated_anew(watched: Daemon, mutations: Mutations) -> None:
    engine = await watched.open()
    await fill(engine)
    revision = await engine.revision()
    others = Tenants(watched.store, 0, None, compose(operation_chain(), apply), lambda *_: None)
    other = await others.open("alpha")
    mutations.clear()
    mutations.then = lambda: put(other, b"0000new")
    assert await delete(engine, b"0", b"9") == revision + 2
    assert await listed(engine, EVERYTHING) == []
    commit = [report for report in watched.reports if isinstance(report, Committed)][-1]
    assert commit.attempts == 2
    await others.close()


async def test_no_more_writes_join_a_batch_that_has_many_rows(running: Daemon) -> None:
    engine = await running.open()
    answers = await asyncio.gather(*(engine.txn(txn(range(first, first + 128))) for first in range(0, 12_800, 128)))
    assert [answer.revision for answer in answers] == list(range(2, 102))
    sizes = [report.writes for report in running.reports if isinstance(report, Committed)]
    assert sum(sizes) == 100
    assert max(sizes) <= 20


async def test_what_cannot_be_stored_of_one_write_fails_no_other_of_its_batch(running: Daemon) -> None:
    engine = await running.open()
    answers = await asyncio.gather(
        put(engine, b"before"),
        engine.change_alarms(activate=frozenset({(1, 300)})),
        put(engine, b"after"),
        return_exceptions=True,
    )
    assert (answers[0], answers[2]) == (2, 3)
    assert isinstance(answers[1], Exception)
    assert (await engine.status()).alarms == frozenset()


async def test_what_fails_the_whole_batch_fails_only_the_write_that_causes_it(running: Daemon) -> None:
    engine = await running.open()

    async def stores_what_no_store_can(batch: object) -> None:
        batch.stored_bytes = 1 << 80  # type: ignore[attr-defined]
        batch.transaction.set(b"x", b"")  # type: ignore[attr-defined]

    answers = await asyncio.gather(
        put(engine, b"before"),
        engine._writer.submit(stores_what_no_store_can),
        put(engine, b"after"),
        return_exceptions=True,
    )
    assert (answers[0], answers[2]) == (2, 3)
    assert isinstance(answers[1], Exception)


async def test_who_has_committed_is_answered_whatever_fails_afterwards(
    running: Daemon, caplog: pytest.LogCaptureFixture
) -> None:
    engine = await running.open()

    async def fails_afterwards(batch: object) -> None:
        batch.after_commit.append(lambda: 1 / 0)  # type: ignore[attr-defined]

    answers = await asyncio.gather(engine._writer.submit(fails_afterwards), put(engine, b"key"))
    assert answers == [None, 2]
    assert "ZeroDivisionError" in caplog.text


async def test_writes_go_on_when_their_observer_fails(running: Daemon, caplog: pytest.LogCaptureFixture) -> None:
    engine = await running.open()

    def fails(_: object) -> None:
        raise ZeroDivisionError

    engine._writer._committed = fails
    assert await asyncio.gather(*(put(engine, b"%d" % number) for number in range(600))) == list(range(2, 602))
    assert "ZeroDivisionError" in caplog.text

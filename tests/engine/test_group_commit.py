"""Writes that wait share a storage transaction, and one that is refused leaves the others as if it had never come."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from fetch import errors
from fetch.api.rpc_pb2 import PutRequest as Put
from fetch.api.rpc_pb2 import RangeRequest, RequestOp, TxnRequest
from fetch.chain import Link, ProceedMutation
from fetch.engine.batch import Committed, Mutation
from fetch.engine.engine import StoredEngine
from tests.engine.engines import Daemon, daemon, delete, listed, put, take, watch

BAD = b"bad"
EVERYTHING = RangeRequest(key=b"\0", range_end=b"\0")


class RefusesOneKey:
    """Refuses a key behind everything else in the chain, when its mutation has been prepared in full."""

    async def intercept(self, mutation: Mutation, proceed: ProceedMutation) -> None:
        await proceed(mutation)
        if mutation.key == BAD:
            raise errors.LeaseExists


@pytest.fixture
async def refusing(tmp_path: Path) -> AsyncIterator[Daemon]:
    async with daemon(tmp_path, inner=[Link("refuses", "tests", RefusesOneKey())]) as started:
        yield started


async def write_one_batch(engine: StoredEngine) -> list[Any]:
    """Three writes of one batch, of which the second mutates a key before it is refused; what each is answered."""
    operations = [RequestOp(request_put=Put(key=key, value=b"x")) for key in (b"good", BAD)]
    writes = [put(engine, b"before"), engine.txn(TxnRequest(success=operations)), put(engine, b"after")]
    return list(await asyncio.gather(*writes, return_exceptions=True))


@pytest.fixture
async def one_batch(refusing: Daemon) -> tuple[StoredEngine, list[Any]]:
    """A tenant with one batch, and what its writes were answered."""
    engine = await refusing.open()
    return engine, await write_one_batch(engine)


def commits(running: Daemon) -> list[Committed]:
    return [report for report in running.reports if isinstance(report, Committed)]


async def test_writes_that_wait_share_one_transaction(running: Daemon) -> None:
    engine = await running.open()
    await asyncio.gather(*(put(engine, b"%d" % number) for number in range(20)))
    assert [commit.writes for commit in commits(running)] == [20]


async def test_each_write_of_a_batch_has_a_revision_of_its_own(engine: StoredEngine) -> None:
    revisions = await asyncio.gather(*(put(engine, b"key") for _ in range(20)))
    assert revisions == list(range(2, 22))


async def test_each_write_sees_what_the_one_before_it_left(engine: StoredEngine) -> None:
    created = await asyncio.gather(*(engine.create_if_absent(b"key", b"%d" % number, 0) for number in range(5)))
    assert [outcome.succeeded for outcome in created] == [True, False, False, False, False]


async def test_only_the_refused_write_fails(one_batch: tuple[StoredEngine, list[Any]]) -> None:
    _, answers = one_batch
    assert [isinstance(answer, errors.LeaseExists) for answer in answers] == [False, True, False]


async def test_a_refused_write_takes_no_revision(one_batch: tuple[StoredEngine, list[Any]]) -> None:
    _, (before, _, after) = one_batch
    assert (before, after) == (2, 3)


async def test_nothing_of_a_refused_write_is_stored(one_batch: tuple[StoredEngine, list[Any]]) -> None:
    engine, _ = one_batch
    assert [key for key, _ in await listed(engine, EVERYTHING)] == [b"after", b"before"]


async def test_nothing_of_a_refused_write_is_counted(
    one_batch: tuple[StoredEngine, list[Any]], refusing: Daemon
) -> None:
    counted = await one_batch[0].status()
    undisturbed = await refusing.open("beta")
    await asyncio.gather(put(undisturbed, b"before"), put(undisturbed, b"after"))
    expected = await undisturbed.status()
    assert (counted.stored_bytes, counted.keys) == (expected.stored_bytes, expected.keys)


async def test_no_watch_hears_of_a_refused_write(refusing: Daemon) -> None:
    engine = await refusing.open()
    watcher = await watch(engine, b"\0", b"\0")
    await write_one_batch(engine)
    assert [event.kv.key for event in await take(engine, watcher)] == [b"before", b"after"]


async def test_the_log_has_nothing_of_a_refused_write(one_batch: tuple[StoredEngine, list[Any]]) -> None:
    engine, _ = one_batch
    watcher = await watch(engine, b"\0", b"\0", start_revision=1)
    assert [event.kv.key for event in await take(engine, watcher)] == [b"before", b"after"]


async def test_a_batch_in_which_all_is_refused_changes_nothing(refusing: Daemon) -> None:
    engine = await refusing.open()
    with pytest.raises(errors.LeaseExists):
        await put(engine, BAD)
    assert (await engine.status()).revision == 1


async def test_a_delete_that_is_undone_leaves_the_key(refusing: Daemon) -> None:
    engine = await refusing.open()
    await put(engine, b"aaa", b"kept")
    operations = [
        RequestOp(request_delete_range={"key": b"aaa"}),
        RequestOp(request_put=Put(key=BAD)),
    ]
    with pytest.raises(errors.LeaseExists):
        await engine.txn(TxnRequest(success=operations))
    assert await listed(engine, EVERYTHING) == [(b"aaa", b"kept")]


async def test_what_was_acknowledged_is_there_after_a_restart(tmp_path: Path) -> None:
    async with daemon(tmp_path) as first:
        engine = await first.open()
        await put(engine, b"key", b"value")
        await delete(engine, b"absent")
    async with daemon(tmp_path) as second:
        assert await listed(await second.open(), EVERYTHING) == [(b"key", b"value")]

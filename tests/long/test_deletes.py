"""Deletes of more than FoundationDB commits at once: of a range, and with a lease."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from fetch import errors
from fetch.api.rpc_pb2 import DeleteRangeRequest, PutRequest, RangeRequest, RequestOp, TxnRequest
from fetch.engine.engine import StoredEngine
from tests.engine.engines import put, take, watch
from tests.long.cluster import (
    LARGEST_TRANSACTION,
    SmallCluster,
    engines,
    fill,
    key,
    keys_of,
    run,
    until_changed,
    until_empty,
)

KEYS = 600
SIZE = 1000
EVERYTHING = DeleteRangeRequest(key=b"/key/", range_end=b"/key0", prev_kv=True)
LEASE = 7

assert KEYS * SIZE > 2 * LARGEST_TRANSACTION


def test_a_range_is_deleted_in_order_in_steps_that_are_revisions() -> None:
    async def test() -> None:
        async with engines(SmallCluster(snapshot_seconds=5.0)) as (engine,):
            await fill(engine, KEYS, size=SIZE)
            before = await engine.revision()
            watcher = await watch(engine, b"/key/", b"/key0", start_revision=before + 1)
            response = await engine.delete_range(EVERYTHING)
            after = await engine.revision()
            assert response.deleted == KEYS
            assert [kv.key for kv in response.prev_kvs] == [key(number) for number in range(KEYS)]
            assert response.header.revision == after
            assert 3 < after - before < 12
            events = await take(engine, watcher)
            assert [event.kv.key for event in events] == [key(number) for number in range(KEYS)]
            assert {event.kv.mod_revision for event in events} == set(range(before + 1, after + 1))
            assert await keys_of(engine) == []
            assert len(await keys_of(engine, before)) == KEYS

    run(test)


def test_a_range_that_is_committed_at_once_is_deleted_at_one_revision() -> None:
    async def test() -> None:
        async with engines(SmallCluster(snapshot_seconds=5.0)) as (engine,):
            await fill(engine, 60, size=SIZE)
            before = await engine.revision()
            assert (await engine.delete_range(EVERYTHING)).deleted == 60
            assert await engine.revision() == before + 1

    run(test)


def test_others_write_between_the_steps() -> None:
    async def test() -> None:
        async with engines(SmallCluster(snapshot_seconds=5.0)) as (engine,):
            await fill(engine, KEYS, size=SIZE)
            deleting = asyncio.create_task(engine.delete_range(EVERYTHING))
            written = 0
            while not deleting.done():
                await put(engine, b"/other")
                written += 1
            assert written > 1

    run(test)


def test_a_transaction_deletes_all_or_nothing() -> None:
    async def test() -> None:
        async with engines(SmallCluster(snapshot_seconds=5.0)) as (engine,):
            await fill(engine, KEYS, size=SIZE)
            before = await engine.revision()
            request = TxnRequest(
                success=[
                    RequestOp(request_put=PutRequest(key=b"/other")),
                    RequestOp(request_delete_range=EVERYTHING),
                ]
            )
            with pytest.raises(errors.RequestTooLarge):
                await engine.txn(request)
            assert await engine.revision() == before
            assert len(await keys_of(engine)) == KEYS

    run(test)


async def revoke(engine: StoredEngine) -> None:
    await engine.revoke_lease(LEASE)


async def expire(engine: StoredEngine) -> None:
    await until_empty(engine)


@pytest.mark.parametrize("end", [revoke, expire])
def test_a_lease_with_more_keys_than_are_committed_at_once_ends(
    end: Callable[[StoredEngine], Awaitable[None]],
) -> None:
    async def test() -> None:
        async with engines(SmallCluster(snapshot_seconds=5.0)) as (engine,):
            await engine.grant_lease(LEASE, 60)
            await fill(engine, KEYS, size=SIZE, lease=LEASE)
            before = await engine.revision()
            watcher = await watch(engine, b"/key/", b"/key0", start_revision=before + 1)
            await end(engine)
            assert await keys_of(engine) == []
            assert [event.kv.key for event in await take(engine, watcher)] == [key(number) for number in range(KEYS)]
            assert await engine.leases() == ([], await engine.revision())

    run(test)


def test_a_lease_whose_keys_are_being_deleted_is_gone() -> None:
    async def test() -> None:
        async with engines(SmallCluster(snapshot_seconds=5.0), 2) as (engine, other):
            await engine.grant_lease(LEASE, 60)
            await fill(engine, KEYS, size=SIZE, lease=LEASE)
            before = await other.revision()
            revoking = asyncio.create_task(engine.revoke_lease(LEASE))
            await until_changed(other, before)
            with pytest.raises(errors.LeaseNotFound):
                await other.put(PutRequest(key=b"/new", lease=LEASE))
            with pytest.raises(errors.LeaseNotFound):
                await other.revoke_lease(LEASE)
            assert (await other.renew_leases([LEASE]))[0] == [None]
            assert (await other.leases())[0] == []
            assert not revoking.done()
            await revoking
            assert await keys_of(other) == []

    run(test)


def test_what_a_daemon_has_begun_to_revoke_another_ends() -> None:
    async def test() -> None:
        async with engines(SmallCluster(snapshot_seconds=5.0), 2) as (engine, other):
            await engine.grant_lease(LEASE, 600)
            await fill(engine, KEYS, size=SIZE, lease=LEASE)
            before = await other.revision()
            revoking = asyncio.create_task(engine.revoke_lease(LEASE))
            await until_changed(other, before)
            revoking.cancel()
            await asyncio.wait([revoking])
            await until_empty(other)
            with pytest.raises(errors.LeaseNotFound):
                await other.revoke_lease(LEASE)

    run(test)


def test_an_old_revision_is_read_between_the_steps() -> None:
    async def test() -> None:
        async with engines(SmallCluster(snapshot_seconds=5.0)) as (engine,):
            await fill(engine, KEYS, size=SIZE)
            before = await engine.revision()
            deleting = asyncio.create_task(engine.delete_range(EVERYTHING))
            while not deleting.done():
                count = RangeRequest(key=b"/", range_end=b"0", revision=before, count_only=True)
                assert (await engine.range_keys(count)).count == KEYS
            await deleting

    run(test)

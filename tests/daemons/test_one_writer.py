"""A tenant's writes have one writer, wherever they come in: daemons on the simulated cluster, in virtual time."""

import asyncio
from collections import Counter

import grpc
import pytest
from opentelemetry import trace

from fetch.api.rpc_pb2 import (
    LeaseGrantRequest,
    LeaseGrantResponse,
    PutRequest,
    PutResponse,
    RangeRequest,
    RangeResponse,
)
from fetch.engine.batch import Committed
from tests.daemons.simulated import TENANT, CallError, Site, create, load, simulate, until
from tests.simulation import clients
from tests.simulation.daemon import Daemon


def attempts(site: Site) -> Counter[str]:
    """What batches there are from now on, and how often they are evaluated."""
    counted: Counter[str] = Counter()
    for daemon in site.daemons:
        stored = daemon.tenants.get(TENANT)
        assert stored is not None

        def report(committed: object, name: str = daemon.name) -> None:
            if isinstance(committed, Committed):
                counted["batches"] += 1
                counted["attempts"] += committed.attempts
                counted[name] += committed.writes
                counted[f"{name} again"] += committed.attempts - 1

        stored._writer._committed = report
    return counted


@pytest.mark.parametrize("count", [8, 64])
def test_three_daemons_write_as_much_as_one_and_no_later(count: int) -> None:
    async def through_one(site: Site) -> list[float]:
        await load(lambda _: site.daemons[0], count, 1)
        return await load(lambda _: site.daemons[0], count, 4)

    async def through_all(site: Site) -> list[float]:
        await load(lambda number: site.daemons[number % 3], count, 1)  # they find out who writes
        return await load(lambda number: site.daemons[number % 3], count, 4)

    one, three = simulate(1, through_one), simulate(3, through_all)
    assert len(three) >= 0.9 * len(one)
    assert three[len(three) * 99 // 100] <= 1.5 * one[len(one) * 99 // 100]


def test_batches_of_several_daemons_rarely_collide() -> None:
    async def test(site: Site) -> Counter[str]:
        await load(lambda number: site.daemons[number % 3], 16, 1)
        counted = attempts(site)
        await load(lambda number: site.daemons[number % 3], 16, 4)
        return counted

    counted = simulate(3, test)
    assert counted["attempts"] <= 1.05 * counted["batches"]


def test_without_a_network_between_them_daemons_write_themselves() -> None:
    async def test(site: Site) -> Counter[str]:
        names = [daemon.name for daemon in site.daemons]
        site.network.held |= {(one, other) for one in names for other in names}
        await load(lambda number: site.daemons[number % 2], 4, 1)
        counted = attempts(site)
        await load(lambda number: site.daemons[number % 2], 4, 4)
        return counted

    counted = simulate(2, test)
    assert counted["daemon-0"] > 100
    assert counted["daemon-1"] > 100


def test_a_writer_that_is_killed_is_replaced_within_a_second() -> None:
    async def test(site: Site) -> float:
        await load(lambda number: site.daemons[number % 3], 8, 2)
        writer = await site.writer()
        left = [daemon for daemon in site.daemons if daemon is not writer]
        killed = clients.now()
        loading = asyncio.create_task(load(lambda number: left[number % 2], 8, 0))  # under way when it happens
        await asyncio.sleep(0)
        writer.kill()
        await asyncio.gather(loading, return_exceptions=True)
        for daemon in left:
            for number in range(5):
                while True:
                    try:
                        await create(daemon, b"/after/%s/%d" % (daemon.name.encode(), number))
                    except CallError:
                        continue
                    break
        return clients.now() - killed

    assert simulate(3, test) < 1


def test_a_writer_that_stops_in_order_fails_no_write_of_others() -> None:
    async def test(site: Site) -> int:
        await load(lambda number: site.daemons[number % 3], 8, 2)
        writer = await site.writer()
        left = [daemon for daemon in site.daemons if daemon is not writer]
        loading = asyncio.create_task(load(lambda number: left[number % 2], 8, 4))
        await asyncio.sleep(1)
        await writer.stop()
        return len(await loading)

    assert simulate(3, test) > 1000


def test_a_write_that_the_writer_took_along_has_an_unknown_result() -> None:
    async def test(site: Site) -> grpc.StatusCode | None:
        await load(lambda number: site.daemons[number % 2], 4, 2)
        writer = await site.writer()
        [other] = [daemon for daemon in site.daemons if daemon is not writer]
        writing = asyncio.create_task(create(other, b"/taken/along"))
        await asyncio.sleep(0.004)  # it has been sent, and is not durable yet
        writer.kill()
        [met] = await asyncio.gather(writing, return_exceptions=True)
        assert isinstance(met, CallError), met
        assert met.details == "etcdserver: request timed out"
        return met.code

    assert simulate(2, test) is grpc.StatusCode.UNAVAILABLE


def test_a_read_sees_a_write_that_was_sent_on() -> None:
    async def test(site: Site) -> None:
        await load(lambda number: site.daemons[number % 2], 4, 2)
        for number in range(20):
            for daemon in site.daemons:
                key = b"/seen/%s/%d" % (daemon.name.encode(), number)
                written = (await create(daemon, key)).header.revision
                for reader in site.daemons:
                    found = await reader.call(TENANT, clients.KV + "Range", RangeRequest(key=key), RangeResponse)
                    assert found.header.revision >= written
                    assert [kv.mod_revision for kv in found.kvs] == [written]

    simulate(2, test)


def test_the_writer_is_where_the_load_is() -> None:
    async def test(site: Site) -> None:
        await load(lambda number: site.daemons[number % 2], 4, 2)
        first = await site.writer()
        [other] = [daemon for daemon in site.daemons if daemon is not first]
        await load(lambda _: other, 4, 6)
        assert await site.writer() is other

    simulate(2, test)


def test_the_writer_stays_while_the_load_is_everywhere() -> None:
    async def test(site: Site) -> None:
        await load(lambda number: site.daemons[number % 3], 9, 2)
        first = await site.writer()
        for _ in range(10):
            await load(lambda number: site.daemons[number % 3], 9, 1)
            assert await site.writer() is first

    simulate(3, test)


def test_an_idle_tenant_is_written_by_whoever_gets_the_write() -> None:
    async def test(site: Site) -> None:
        for number in range(6):
            daemon = site.daemons[number % 3]
            await create(daemon, b"/idle/%d" % number)
            assert await site.writer() is daemon
            await asyncio.sleep(5)

    simulate(3, test)


def test_what_cannot_be_reached_is_passed_over_at_once() -> None:
    async def test(site: Site) -> float:
        await load(lambda number: site.daemons[number % 2], 4, 2)
        writer = await site.writer()
        [other] = [daemon for daemon in site.daemons if daemon is not writer]
        site.network.vanish(writer.name)  # it lives, and its tenant is written by it, but nobody gets there
        await asyncio.sleep(0.01)
        took = await load(lambda _: other, 4, 1)
        return took[-1]

    assert simulate(2, test) < 0.2


def test_a_writer_that_says_nothing_any_more_is_left_within_seconds() -> None:
    async def test(site: Site) -> float:
        await load(lambda number: site.daemons[number % 2], 4, 2)
        writer = await site.writer()
        [other] = [daemon for daemon in site.daemons if daemon is not writer]
        site.network.held |= {(writer.name, other.name)}  # it hears, and carries out, and cannot answer
        began = clients.now()
        [met] = await asyncio.gather(create(other, b"/silent"), return_exceptions=True)
        assert isinstance(met, CallError)
        silent = clients.now() - began
        await create(other, b"/written/here")
        found = await other.call(TENANT, clients.KV + "Range", RangeRequest(key=b"/silent"), RangeResponse)
        assert found.count == 1  # what is not known may have happened
        return silent

    assert simulate(2, test) < 5


def test_two_that_both_send_to_each_other_agree() -> None:
    async def test(site: Site) -> Counter[str]:
        await load(lambda number: site.daemons[number % 2], 4, 2)
        one, other = site.daemons
        assert one.writers is not None
        assert other.writers is not None
        one.writers.of(TENANT).moved_to(other.writers.members.own.daemon)
        other.writers.of(TENANT).moved_to(one.writers.members.own.daemon)
        await load(lambda number: site.daemons[number % 2], 4, 1)
        counted = attempts(site)
        await load(lambda number: site.daemons[number % 2], 4, 2)
        return counted

    counted = simulate(2, test)
    assert min(counted["daemon-0"], counted["daemon-1"]) == 0


def test_leases_are_expired_by_the_daemon_that_writes() -> None:
    async def test(site: Site) -> int:
        await load(lambda number: site.daemons[number % 2], 4, 2)
        writer = await site.writer()
        [other] = [daemon for daemon in site.daemons if daemon is not writer]
        for number in range(5):
            await leased(other, number, 20)
        counted = attempts(site)
        await load(lambda _: writer, 4, 12)
        span = RangeRequest(key=b"/l/", range_end=b"/l0")
        assert (await other.call(TENANT, clients.KV + "Range", span, RangeResponse)).count == 0
        return counted[f"{other.name} again"]

    assert simulate(2, test) == 0


async def leased(daemon: Daemon, number: int, count: int) -> None:
    """Puts so many keys that end with a lease of five seconds."""
    request = LeaseGrantRequest(TTL=5)
    granted = await daemon.call(TENANT, clients.LEASE + "LeaseGrant", request, LeaseGrantResponse)
    for key in range(count):
        put = PutRequest(key=b"/l/%d/%d" % (number, key), value=b"value", lease=granted.ID)
        await daemon.call(TENANT, clients.KV + "Put", put, PutResponse)


def test_a_write_belongs_to_the_trace_that_it_was_called_in() -> None:
    async def test(site: Site) -> list[int]:
        await load(lambda number: site.daemons[number % 2], 4, 2)
        writer = await site.writer()
        [other] = [daemon for daemon in site.daemons if daemon is not writer]
        stored = writer.tenants.get(TENANT)
        assert stored is not None
        traces: list[int] = []

        def report(committed: object) -> None:
            if isinstance(committed, Committed):
                traces.extend(
                    caller.run(trace.get_current_span).get_span_context().trace_id for caller in committed.callers
                )

        stored._writer._committed = report
        span = trace.NonRecordingSpan(trace.SpanContext(7, 11, is_remote=False, trace_flags=trace.TraceFlags(1)))
        with trace.use_span(span):
            await create(other, b"/traced")
        return traces

    assert simulate(2, test) == [7]


def test_a_call_that_is_cancelled_is_cancelled_where_it_was_sent() -> None:
    async def test(site: Site) -> int:
        await load(lambda number: site.daemons[number % 2], 4, 2)
        writer = await site.writer()
        [other] = [daemon for daemon in site.daemons if daemon is not writer]
        stored = writer.tenants.get(TENANT)
        assert stored is not None
        writing = asyncio.create_task(create(writer, b"/first"))  # its batch is under way when the others come
        await asyncio.sleep(0.001)
        waiting = [asyncio.create_task(create(other, b"/cancelled/%d" % number)) for number in range(5)]
        await until(lambda: stored.waiting_writes == 5)
        for task in waiting:
            task.cancel()
        await writing
        await asyncio.sleep(0.1)
        span = RangeRequest(key=b"/cancelled/", range_end=b"/cancelled0")
        return (await other.call(TENANT, clients.KV + "Range", span, RangeResponse)).count

    assert simulate(2, test) < 5

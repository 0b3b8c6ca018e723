"""Long work takes turns by tenant, and holds nothing while it waits to begin."""

import asyncio
import itertools
import time

import pytest

from fetch.engine.turns import SLICE_SECONDS, Turns


async def spend(turns: Turns, tenant: str, slices: int, ran: list[str]) -> None:
    async with turns.work(tenant) as work:
        for _ in range(slices):
            ran.append(tenant)
            await work.give_way()


async def test_tenants_take_turns_however_many_works_each_has():
    turns, ran = Turns(), []
    await asyncio.gather(*(spend(turns, "many", 5, ran) for _ in range(10)), spend(turns, "one", 5, ran))
    assert ran.index("one") <= 2
    ones = [at for at, tenant in enumerate(ran) if tenant == "one"]
    assert max(after - before for before, after in itertools.pairwise(ones)) <= 2


async def test_one_slice_runs_in_an_iteration_of_the_loop():
    turns = Turns()
    loop = asyncio.get_running_loop()
    slices = most = 0

    def iteration() -> None:
        nonlocal slices, most
        most, slices = max(most, slices), 0
        loop.call_soon(iteration)

    async def work() -> None:
        nonlocal slices
        async with turns.work("busy") as work:
            for _ in range(3):
                slices += 1
                await work.give_way()

    loop.call_soon(iteration)
    await asyncio.gather(*(work() for _ in range(20)))
    assert most == 1


@pytest.mark.parametrize(("places", "of_a_tenant", "at_once"), [(3, 2, 3), (10, 2, 6)])
async def test_only_so_many_works_have_begun_at_once(places: int, of_a_tenant: int, at_once: int):
    turns = Turns(places, of_a_tenant)
    begun = {"a": 0, "b": 0, "c": 0}
    most = dict.fromkeys([*begun, "all"], 0)

    async def work(tenant: str) -> None:
        async with turns.work(tenant) as work:
            begun[tenant] += 1
            most[tenant] = max(most[tenant], begun[tenant])
            most["all"] = max(most["all"], sum(begun.values()))
            for _ in range(20):  # a round trip to a store, in which the loop is others'
                await asyncio.sleep(0)
            begun[tenant] -= 1
            await work.give_way()

    await asyncio.gather(*(work(tenant) for tenant in "abc" for _ in range(5)))
    assert most["all"] == at_once
    assert max(most["a"], most["b"], most["c"]) == of_a_tenant


@pytest.mark.parametrize("rounds", range(4))
async def test_work_that_is_cancelled_wherever_it_is_gives_its_place_back(rounds: int):
    turns, ran = Turns(places=1), []
    works = [asyncio.create_task(spend(turns, "gone", 5, ran)) for _ in range(4)]
    for _ in range(rounds):
        await asyncio.sleep(0)
    for work in works:
        work.cancel()
    await asyncio.gather(*works, return_exceptions=True)
    async with asyncio.timeout(5):
        await spend(turns, "next", 3, ran)
    assert turns.waiting == 0


async def test_a_slice_ends():
    async with Turns().work("busy") as work:
        started = time.perf_counter()
        while not work.is_spent():
            pass
        assert time.perf_counter() - started >= SLICE_SECONDS * 0.9

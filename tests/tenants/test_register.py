"""Tenants are registered, closed, opened, deleted and brought back, whatever daemon is asked."""

import asyncio
import itertools
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress

import pytest

from fetch.engine.layout import Closed, Layout
from fetch.engine.loading import Granted, Loader
from fetch.engine.protocol import UnknownTenant
from fetch.errors import LoadingElsewhere, TenantClosed, TenantDeleted, TenantDisabled
from fetch.tenants.records import Conflict, NoSuchTenant, TenantExists, changes_since
from fetch.tenants.rows import KEPT, pack
from tests.stores.steps import write
from tests.tenants.daemons import Daemon, Site, put

WEEK = 7 * 86400.0


@asynccontextmanager
async def following(*daemons: Daemon) -> AsyncIterator[None]:
    """The daemons follow the register meanwhile."""
    tasks = [asyncio.create_task(daemon.following.follow()) for daemon in daemons]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)


async def until(holds: Callable[[], bool]) -> None:
    """Returns when it holds, which others see to."""
    while not holds():  # noqa: ASYNC110  nothing tells of it
        await asyncio.sleep(0)


async def rows_of(daemon: Daemon, keyspace: str) -> list[bytes]:
    """The keys that are stored of a keyspace, without its prefix."""
    prefix = await daemon.store.open_tenant(keyspace)
    with daemon.store.snapshot() as snapshot:
        rows, _ = await snapshot.get_range(prefix, prefix + b"\xff", 1000)
    return [row[len(prefix) :] for row, _ in rows]


# who there is


async def test_a_tenant_is_registered_when_it_is_first_asked_for(daemon: Daemon) -> None:
    await daemon.tenants.open("alpha")
    record = (await daemon.register.get("alpha")).record
    assert (record.name, record.keyspace, record.created) == ("alpha", "alpha", int(daemon.clock.wall() * 1000))


async def test_a_tenant_that_was_there_before_there_were_records_has_one_when_it_is_asked_for(daemon: Daemon) -> None:
    await daemon.store.open_tenant("alpha")
    record = (await daemon.register.get("alpha")).record
    assert (record.keyspace, record.created) == ("alpha", 0)


async def test_who_asks_for_a_tenant_that_there_is_not_makes_none(daemon: Daemon) -> None:
    with pytest.raises(NoSuchTenant):
        await daemon.register.get("alpha")
    assert await daemon.register.page("", 10) == ([], False)


async def test_where_unknown_ones_are_refused_a_tenant_has_to_be_made_first(here: Site) -> None:
    daemon = await here.daemon(makes_unknown=False)
    with pytest.raises(UnknownTenant):
        await daemon.tenants.open("alpha")
    await daemon.register.create("alpha")
    assert await daemon.put("alpha") == 2


async def test_where_unknown_ones_are_refused_those_that_were_there_before_are_served(here: Site) -> None:
    daemon = await here.daemon(makes_unknown=False)
    await daemon.store.open_tenant("alpha")
    assert await daemon.put("alpha") == 2


async def test_there_is_one_tenant_of_a_name(daemon: Daemon) -> None:
    await daemon.register.create("alpha")
    with pytest.raises(TenantExists):
        await daemon.register.create("alpha")


async def test_a_tenant_that_was_there_before_there_were_records_is_there(daemon: Daemon) -> None:
    await daemon.store.open_tenant("alpha")
    with pytest.raises(TenantExists):
        await daemon.register.create("alpha")


async def test_of_two_who_make_a_tenant_at_once_one_does(daemon: Daemon, other: Daemon) -> None:
    made = await asyncio.gather(daemon.register.create("alpha"), other.register.create("alpha"), return_exceptions=True)
    assert [type(it) for it in made].count(TenantExists) == 1


async def test_no_tenant_is_called_as_none_can_be(daemon: Daemon) -> None:
    with pytest.raises(ValueError, match="letters, digits"):
        await daemon.register.create("alpha#1")


async def test_a_keyspace_that_was_given_up_is_no_tenant(daemon: Daemon) -> None:
    await daemon.register.create("alpha")
    await daemon.register.delete("alpha", 0)
    await daemon.register.create("alpha")
    await daemon.put("alpha")
    with pytest.raises(NoSuchTenant):
        await daemon.register.get("alpha#1")


async def test_an_administrator_is_no_tenant_and_has_a_keyspace(here: Site) -> None:
    daemon = await here.daemon(administrators=["root"])
    assert await daemon.put("root") == 2
    assert await daemon.register.page("", 10) == ([], False)
    with pytest.raises(Conflict, match="administrator"):
        await daemon.register.create("root")
    with pytest.raises(NoSuchTenant):
        await daemon.register.delete("root")


async def test_no_tenant_is_made_that_would_not_be_let_in(here: Site) -> None:
    daemon = await here.daemon(allowed=["alpha"])
    with pytest.raises(Conflict, match="--tenants"):
        await daemon.register.create("beta")


async def test_tenants_are_listed_page_by_page(daemon: Daemon) -> None:
    for name in ("c", "a", "b/x", "b"):
        await daemon.register.create(name)
    first, more = await daemon.register.page("", 3)
    assert ([it.record.name for it in first], more) == (["a", "b", "b/x"], True)
    rest, more = await daemon.register.page("b/x", 3)
    assert ([it.record.name for it in rest], more) == (["c"], False)


async def test_what_is_said_of_a_tenant_is_kept(daemon: Daemon, other: Daemon) -> None:
    await daemon.register.create("alpha", 100, "of Anna", {"team": "a", "stage": "x"})
    await daemon.register.change("alpha", labels={"team": "b"})
    record = (await other.register.get("alpha")).record
    assert (record.quota, record.notes, dict(record.labels)) == (100, "of Anna", {"team": "b"})


async def test_a_record_of_a_newer_release_is_shown_and_not_changed(daemon: Daemon) -> None:
    record = await daemon.register.create("alpha")
    record.version += 1
    await write(daemon.store, {daemon.register.rows.tenant("alpha"): record.SerializeToString()})
    assert (await daemon.register.get("alpha")).record.version == 2
    with pytest.raises(Conflict, match="newer release"):
        await daemon.register.disable("alpha")


async def test_use_is_noted_once_an_hour(daemon: Daemon) -> None:
    await daemon.put("alpha")
    times = []
    for _ in range(5):
        daemon.tenants.get("alpha")
        await daemon.following.note_use_once()
        times.append((await daemon.register.get("alpha")).used)
        daemon.clock.monotonic += 1200
    assert [at - times[0] for at in times] == [0, 0, 0, 3600, 3600]


async def test_a_tenant_that_is_not_served_is_not_used(daemon: Daemon) -> None:
    daemon.tenants.get("alpha")
    await daemon.following.note_use_once()
    await daemon.register.create("alpha")
    assert (await daemon.register.get("alpha")).used == 0


# who is served


@pytest.mark.parametrize(
    ("change", "error"),
    [
        (lambda register: register.disable("alpha"), TenantDisabled),
        (lambda register: register.delete("alpha"), TenantDeleted),
        (lambda register: register.delete("alpha", 0), TenantDeleted),
    ],
    ids=["disabled", "deleted", "given up"],
)
async def test_a_daemon_that_has_not_heard_of_it_refuses_reads_and_writes_at_once(
    daemon: Daemon, other: Daemon, change: Callable[..., Awaitable[object]], error: type[Exception]
) -> None:
    await other.put("alpha")
    engine = await other.tenants.open("alpha")
    await change(daemon.register)
    with pytest.raises(error):
        await put(engine)
    with pytest.raises(error):
        await engine.get_latest(b"a")
    with pytest.raises(error):
        await engine.revision()
    with pytest.raises(error):
        await engine.grant_lease(0, 60)


async def test_a_daemon_ends_what_it_has_of_a_tenant_that_another_has_closed(daemon: Daemon, other: Daemon) -> None:
    engine = await other.tenants.open("alpha")
    async with following(other):
        await daemon.register.disable("alpha")
        await until(lambda: bool(other.ended))
    assert other.ended == [(engine, TenantDisabled)]
    assert other.tenants.get("alpha") is None
    with pytest.raises(TenantDisabled):
        await other.tenants.open("alpha")


async def test_a_daemon_ends_what_was_closed_before_it_followed(daemon: Daemon, other: Daemon) -> None:
    await other.tenants.open("alpha")
    await daemon.register.disable("alpha")
    async with following(other):
        await until(lambda: bool(other.ended))


async def test_a_daemon_that_has_missed_too_much_looks_at_all(daemon: Daemon) -> None:
    with daemon.store.snapshot() as snapshot:
        assert await changes_since(snapshot, daemon.register.rows, 1, 1 + KEPT) is None
        assert await changes_since(snapshot, daemon.register.rows, 1, KEPT) == []


async def test_the_changes_that_are_kept_are_bounded(daemon: Daemon) -> None:
    await daemon.register.create("alpha")
    rows = daemon.register.rows
    await write(daemon.store, {rows.revision: pack(2 + KEPT - 1)})
    await daemon.register.create("beta")
    with daemon.store.snapshot() as snapshot:
        assert await snapshot.get(rows.change(2)) is None


async def test_others_go_on_when_one_is_closed(daemon: Daemon) -> None:
    engine = await daemon.tenants.open("beta")
    async with following(daemon):
        await daemon.tenants.open("alpha")
        await daemon.register.disable("alpha")
        await until(lambda: bool(daemon.ended))
        assert daemon.tenants.get("beta") is engine
        assert await put(engine) == 2


async def test_an_enabled_tenant_goes_on_where_it_was(daemon: Daemon, other: Daemon) -> None:
    await daemon.put("alpha", value=b"1")
    await other.tenants.open("alpha")
    async with following(daemon, other):
        await other.register.disable("alpha")
        await until(lambda: bool(daemon.ended and other.ended))
        await daemon.register.enable("alpha")
        assert await other.put("alpha", b"b") == 3
        assert await daemon.value("alpha") is not None


async def test_a_deleted_tenant_comes_back_as_it_was(daemon: Daemon, other: Daemon) -> None:
    await daemon.put("alpha")
    await daemon.register.delete("alpha")
    await other.register.undelete("alpha")
    assert await other.put("alpha", b"b") == 3


async def test_a_tenant_that_was_disabled_comes_back_disabled(daemon: Daemon) -> None:
    await daemon.register.create("alpha")
    await daemon.register.disable("alpha")
    await daemon.register.delete("alpha")
    record = await daemon.register.undelete("alpha")
    assert record.disabled
    with pytest.raises(TenantDisabled):
        await daemon.tenants.open("alpha")


@pytest.mark.parametrize("action", ["disable", "enable", "delete", "undelete", "change"])
async def test_nothing_is_done_to_a_tenant_that_there_is_not(daemon: Daemon, action: str) -> None:
    with pytest.raises(NoSuchTenant):
        await getattr(daemon.register, action)("alpha")


@pytest.mark.parametrize("action", ["disable", "enable", "delete"])
async def test_a_deleted_tenant_is_brought_back_first(daemon: Daemon, action: str) -> None:
    await daemon.register.create("alpha")
    await daemon.register.delete("alpha")
    with pytest.raises(Conflict, match="deleted"):
        await getattr(daemon.register, action)("alpha")


async def test_what_is_not_deleted_is_not_brought_back(daemon: Daemon) -> None:
    await daemon.register.create("alpha")
    with pytest.raises(Conflict, match="not deleted"):
        await daemon.register.undelete("alpha")


async def test_the_quota_of_a_tenant_holds_on_every_daemon(daemon: Daemon, other: Daemon) -> None:
    engine = await other.tenants.open("alpha")
    async with following(other):
        await daemon.register.change("alpha", 1000)
        await until(lambda: engine.quota == 1000)
        await daemon.register.change("alpha", default_quota=True)
        await until(lambda: engine.quota == 0)


async def test_a_tenant_is_opened_with_its_quota(daemon: Daemon) -> None:
    await daemon.register.create("alpha", 1000)
    assert (await daemon.tenants.open("alpha")).quota == 1000


# who is given up


async def test_a_new_tenant_of_a_deleted_ones_name_has_nothing_of_it(daemon: Daemon, other: Daemon) -> None:
    await daemon.put("alpha", value=b"old")
    old = await other.tenants.open("alpha")
    await daemon.register.delete("alpha")
    record = await daemon.register.create("alpha", gives_up_deleted=True)
    async with following(daemon, other):
        await until(lambda: bool(daemon.ended and other.ended))
        assert record.keyspace == "alpha#1"
        assert await daemon.value("alpha") is None
        assert await other.put("alpha") == 2
    with pytest.raises(TenantDeleted):
        await put(old)


async def test_a_deleted_tenant_is_not_given_up_by_accident(daemon: Daemon) -> None:
    await daemon.register.create("alpha")
    await daemon.register.delete("alpha")
    with pytest.raises(Conflict, match="brought back"):
        await daemon.register.create("alpha")


async def test_a_tenant_is_given_up_when_its_time_has_come_and_no_earlier(here: Site, daemon: Daemon) -> None:
    await daemon.put("alpha")
    await daemon.register.delete("alpha", WEEK)
    await here.pass_by(WEEK - 60)
    await daemon.clearing.give_up_due()
    assert (await daemon.register.get("alpha")).record.deleted
    await here.pass_by(120)
    await daemon.clearing.give_up_due()
    with pytest.raises(NoSuchTenant):
        await daemon.register.get("alpha")


async def test_a_tenant_that_was_brought_back_is_not_given_up(here: Site, daemon: Daemon) -> None:
    await daemon.register.create("alpha")
    await daemon.register.delete("alpha", 60)
    await daemon.register.undelete("alpha")
    await here.pass_by(120)
    await daemon.clearing.give_up_due()
    assert not (await daemon.register.get("alpha")).record.deleted


async def test_nothing_stays_of_what_is_given_up_but_that_it_is(daemon: Daemon) -> None:
    engine = await daemon.tenants.open("alpha")
    granted, _ = await engine.grant_lease(0, 600)
    for number in range(50):
        await put(engine, b"%d" % (number % 7), b"v" * number)
    await put(engine, b"k" * 3000)
    await daemon.register.delete("alpha", 0)
    await daemon.clear()
    assert await rows_of(daemon, "alpha") == [b"r"]
    prefix = await daemon.store.open_tenant("alpha")
    layout = Layout(prefix, daemon.store.shared_prefix)
    with daemon.store.snapshot() as snapshot:
        assert await snapshot.get(layout.expiry(granted.expires, granted.lease)) is None
        assert (await snapshot.get(layout.revision) or b"")[-1] == Closed.CLEARED
        assert await snapshot.get_range(*daemon.register.rows.all_cleared(), 1) == ([], False)


async def test_a_tenant_of_many_rows_is_cleared_in_steps(daemon: Daemon, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fetch.tenants.clearing.STEP", 10)
    engine = await daemon.tenants.open("alpha")
    for number in range(30):
        await put(engine, b"%d" % number)
    await daemon.register.delete("alpha", 0)
    left = await daemon.clearing._next()
    assert left is not None
    counts = [len(await rows_of(daemon, "alpha"))]
    while counts[-1] > 1:
        await daemon.clearing.step(*left)
        counts.append(len(await rows_of(daemon, "alpha")))
    assert max(before - after for before, after in itertools.pairwise(counts)) == 10


async def test_one_daemon_clears_and_another_takes_over_when_it_has_gone(
    here: Site, daemon: Daemon, other: Daemon, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fetch.tenants.clearing.STEP", 10)
    for number in range(30):
        await daemon.put("alpha", b"%d" % number)
    await daemon.register.delete("alpha", 0)
    left = await daemon.clearing._next()
    assert left is not None
    await daemon.clearing.step(*left)
    assert not await other.clearing._is_mine()
    before = await rows_of(daemon, "alpha")
    await other.clear()
    assert await rows_of(daemon, "alpha") == before
    here.clock.monotonic += 60
    await other.clear()
    assert await rows_of(daemon, "alpha") == [b"r"]


async def test_of_two_daemons_that_clear_at_once_each_step_is_one_ones(daemon: Daemon, other: Daemon) -> None:
    for number in range(300):
        await daemon.put("alpha", b"%d" % number)
    await daemon.register.delete("alpha", 0)
    await asyncio.gather(daemon.clear(), other.clear())
    assert await rows_of(daemon, "alpha") == [b"r"]
    assert min(daemon.clearing._steps, other.clearing._steps) <= 1


@pytest.mark.parametrize("action", ["disable", "delete"])
async def test_a_tenant_that_is_being_restored_is_given_up_and_no_less(daemon: Daemon, action: str) -> None:
    engine = await daemon.tenants.open("alpha")
    loader = Loader(daemon.store, engine._layout, "alpha", daemon.tenants.served, engine.turns.short("alpha"), -1)
    await loader.begin()
    with pytest.raises(Conflict, match="being restored"):
        await getattr(daemon.register, action)("alpha")
    await daemon.register.delete("alpha", 0)
    with pytest.raises(LoadingElsewhere):
        await loader.grant([Granted(1, 60, 60)])


async def test_leases_of_a_closed_tenant_run_out(here: Site, daemon: Daemon) -> None:
    engine = await daemon.tenants.open("alpha")
    granted, _ = await engine.grant_lease(0, 10)
    await daemon.register.disable("alpha")
    for _ in range(15):
        await here.pass_by(1)  # more at once would be a gap in the service, behind which a lease has its time anew
        await daemon.tenants.reaper.round()
        await daemon.tenants.reaper.idle()
    await daemon.register.enable("alpha")
    found, *_ = await (await daemon.tenants.open("alpha")).find_lease(granted.lease, keys=False)
    assert found is None


async def test_a_write_that_was_under_way_takes_place_before_it_is_closed_or_not_at_all(
    daemon: Daemon, other: Daemon
) -> None:
    engine = await other.tenants.open("alpha")
    last = 1

    async def write_on() -> None:
        nonlocal last
        with suppress(TenantClosed):
            while True:
                last = await put(engine)

    writing = asyncio.create_task(write_on())
    try:
        await until(lambda: last > 3)
        await daemon.register.delete("alpha")
        await writing
    finally:
        writing.cancel()
    await daemon.register.undelete("alpha")
    assert await (await daemon.tenants.open("alpha")).revision() == last

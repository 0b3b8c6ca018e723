"""A snapshot is restored as a whole, or not at all."""

import asyncio
import filecmp
import random
import tracemalloc
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from fetch import errors
from fetch.api.rpc_pb2 import AlarmType, PutRequest, RequestOp, TxnRequest
from fetch.engine.engine import StoredEngine
from fetch.engine.layout import NEVER
from fetch.snapshots import schema
from fetch.snapshots.reader import BrokenFileError, FileReader
from fetch.snapshots.restoring import clear, look_through
from fetch.stores.protocol import StoreUnavailable
from tests.engine.engines import delete, put, take, watch
from tests.snapshots.restoring import STORES, Daemon, daemons, restored
from tests.snapshots.test_files import HASH_BYTES, hashed, written
from tests.snapshots.test_taking import fill, saved

LEASE = 42
CORRUPT = (7, int(AlarmType.CORRUPT))
PLAIN_KEYS = 300
MEBIBYTE = 1 << 20


@pytest.fixture(params=STORES)
def kind(request: pytest.FixtureRequest) -> str:
    """The store that is restored into."""
    return str(request.param)


@pytest.fixture
async def daemon(kind: str, tmp_path: Path) -> AsyncIterator[Daemon]:
    async with daemons(kind, tmp_path / "data") as [running]:
        yield running


async def write(engine: StoredEngine) -> None:
    """A tenant with everything that a snapshot may have."""
    await engine.grant_lease(LEASE, 600)
    await engine.grant_lease(-LEASE, 60)
    await fill(engine, PLAIN_KEYS, b"0")
    await fill(engine, PLAIN_KEYS, b"1")
    await engine.put(PutRequest(key=b"leased", lease=LEASE))
    await engine.put(PutRequest(key=b"moved", lease=LEASE))
    await put(engine, b"000007", b"2")
    await engine.put(PutRequest(key=b"moved", lease=-LEASE))
    await delete(engine, b"000001", b"0000011")
    await engine.change_alarms(activate=frozenset({CORRUPT}))


async def written_as(running: Daemon, tenant: str, compacted: int | None) -> StoredEngine:
    engine = await running.open(tenant)
    await write(engine)
    if compacted is not None:
        await engine.compact(compacted, physical=True)
    return engine


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A file, compacted at a revision that put many keys, with events behind it."""
    directory = tmp_path_factory.mktemp("source")

    async def save() -> bytes:
        async with daemons("embedded", directory / "data") as [running]:
            return (await saved(await written_as(running, "source", 3), directory)).read_bytes()

    return asyncio.run(save())


@pytest.fixture
def snapshot(whole: bytes, tmp_path: Path) -> Path:
    """A copy of it."""
    path = tmp_path / "whole"
    path.write_bytes(whole)
    return path


@pytest.mark.parametrize("compacted", [None, 2, 3, 5, 8])
async def test_a_snapshot_of_what_was_restored_is_the_same_file(
    daemon: Daemon, tmp_path: Path, compacted: int | None
) -> None:
    source = await written_as(daemon, "source", compacted)
    path = await saved(source, tmp_path)
    engine = await daemon.open()
    await restored(engine, path)
    (tmp_path / "again").mkdir()
    assert filecmp.cmp(path, await saved(engine, tmp_path / "again"), shallow=False)


@pytest.mark.parametrize("compacted", [None, 5])
async def test_what_was_restored_has_the_hash_and_the_state_of_the_source(
    daemon: Daemon, tmp_path: Path, compacted: int | None
) -> None:
    source = await written_as(daemon, "source", compacted)
    engine = await daemon.open()
    await restored(engine, await saved(source, tmp_path))
    assert await engine.hash_keys(0) == await source.hash_keys(0)
    before, after = await source.status(), await engine.status()
    assert (after.revision, after.keys, after.alarms, after.compacted) == (
        before.revision,
        before.keys,
        before.alarms,
        before.compacted,
    )


async def test_usage_is_what_is_given_back_when_all_is_deleted_and_compacted(daemon: Daemon, snapshot: Path) -> None:
    engine = await daemon.open()
    await restored(engine, snapshot)
    await delete(engine, b"\x00", b"\x00")
    revision = await put(engine, b"k", b"")
    await engine.compact(revision, physical=True)
    frame = (await engine.get_latest(b"k")).current
    assert frame is not None
    # the key, and its event in the log
    assert (await engine.status()).stored_bytes == len(b"k") + len(frame) + len(frame)


async def test_leases_have_their_whole_time_and_their_keys(daemon: Daemon, snapshot: Path) -> None:
    engine = await daemon.open()
    await restored(engine, snapshot)
    granted, remaining, keys, _ = await engine.find_lease(LEASE, keys=True)
    assert (granted and granted.ttl, remaining, keys) == (600, 599, [b"leased"])
    assert (await engine.find_lease(-LEASE, keys=True))[2] == [b"moved"]


async def test_a_lease_that_was_restored_runs_out(daemon: Daemon, snapshot: Path) -> None:
    engine = await daemon.open()
    await restored(engine, snapshot)
    await engine.revoke_lease(LEASE)
    assert not (await engine.get_latest(b"leased")).succeeded


async def test_the_revision_is_bumped_and_compacted(daemon: Daemon, snapshot: Path) -> None:
    engine = await daemon.open()
    before = await restored(await daemon.open("plain"), snapshot)
    after = await restored(engine, snapshot, bump=1000)
    assert (after.revision, after.compacted) == (before.revision + 1000, before.revision + 1000)
    with pytest.raises(errors.Compacted):
        await engine.get_at_revision(b"leased", before.revision)
    assert await put(engine, b"more") == after.revision + 1


@pytest.mark.parametrize("what", ["key", "deleted key", "lease", "alarm"])
async def test_a_tenant_that_is_not_empty_is_left_as_it_is(daemon: Daemon, snapshot: Path, what: str) -> None:
    engine = await daemon.open()
    if "key" in what:
        await put(engine, b"a")
        if what == "deleted key":
            await delete(engine, b"a")
            await engine.compact(3, physical=True)
    elif what == "lease":
        await engine.grant_lease(1, 60)
    else:
        await engine.change_alarms(activate=frozenset({(7, 1)}))
    before = await engine.status(), await engine.leases()
    with pytest.raises(errors.NotEmpty):
        await restored(engine, snapshot)
    assert (await engine.status(), await engine.leases()) == before


async def test_a_tenant_that_had_a_lease_is_empty(daemon: Daemon, snapshot: Path) -> None:
    engine = await daemon.open()
    await engine.grant_lease(1, 60)
    await engine.revoke_lease(1)
    await restored(engine, snapshot)
    assert [lease for lease in (await engine.leases())[0] if lease == 1] == []


# interrupted


async def count_of_transactions(kind: str, directory: Path, snapshot: Path) -> int:
    async with daemons(kind, directory) as [running]:
        engine = await running.open()
        before = running.store.transactions
        await restored(engine, snapshot)
        return running.store.transactions - before


@pytest.mark.parametrize("share", [0.0, 0.1, 0.3, 0.5, 0.7, 0.9, 1.0])
async def test_what_was_interrupted_is_not_served_until_it_is_restored_again(
    kind: str, tmp_path: Path, snapshot: Path, share: float
) -> None:
    steps = await count_of_transactions(kind, tmp_path / "counted", snapshot)
    async with daemons(kind, tmp_path / "data", 2) as [broken, other]:
        engine, seen = await broken.open(), await other.open()
        broken.store.last = broken.store.transactions + 1 + int(share * (steps - 2))
        with pytest.raises(StoreUnavailable):
            await restored(engine, snapshot)
        for refused in (seen.revision(), put(seen, b"a"), seen.get_latest(b"leased"), seen.leases(), seen.status()):
            with pytest.raises(errors.Loading):
                await refused
        assert (await restored(seen, snapshot)).keys == PLAIN_KEYS + 1


async def test_what_was_interrupted_can_be_cleared(kind: str, tmp_path: Path, snapshot: Path) -> None:
    async with daemons(kind, tmp_path / "data", 2) as [broken, other]:
        engine, seen = await broken.open(), await other.open()
        broken.store.last = broken.store.transactions + 6
        with pytest.raises(StoreUnavailable):
            await restored(engine, snapshot)
        await clear(seen)
        assert (await seen.status()).keys == 0
        assert (await seen.leases()) == ([], 1)
        assert await put(seen, b"a") == 2


async def test_a_restoring_that_fails_leaves_the_tenant_empty(
    daemon: Daemon, snapshot: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = await daemon.open()
    monkeypatch.setattr("fetch.engine.loading.Loader.hashed", lambda *_: asyncio.sleep(0, 1))
    with pytest.raises(Exception, match="nothing is kept of it"):
        await restored(engine, snapshot)
    assert (await engine.status()).keys == 0
    assert await put(engine, b"a") == 2


async def test_a_restoring_that_is_cancelled_leaves_the_tenant_empty(daemon: Daemon, snapshot: Path) -> None:
    engine = await daemon.open()
    running = asyncio.create_task(restored(engine, snapshot))

    async def interrupt(number: int) -> None:
        if number > 5:
            running.cancel()
            daemon.store.before = None

    daemon.store.transactions, daemon.store.before = 0, interrupt
    await asyncio.wait([running])
    assert running.cancelled()
    assert await put(engine, b"a") == 2


async def test_of_two_who_restore_a_tenant_one_does(kind: str, tmp_path: Path, snapshot: Path) -> None:
    async with daemons(kind, tmp_path / "data", 2) as [first, second]:
        outcomes = await asyncio.gather(
            restored(await first.open(), snapshot), restored(await second.open(), snapshot), return_exceptions=True
        )
        refused = [it for it in outcomes if isinstance(it, Exception)]
        assert [type(it) for it in refused] in ([errors.LoadingElsewhere], [errors.NotEmpty])
        assert (await (await first.open()).hash_keys(0))[2] == 8


async def test_one_daemon_restores_a_tenant_once_at_a_time(daemon: Daemon, snapshot: Path) -> None:
    engine = await daemon.open()
    async with engine.loading(NEVER) as loader:
        await loader.begin()
        with pytest.raises(errors.LoadingElsewhere):
            await restored(engine, snapshot)
        await loader.clear()


@pytest.mark.parametrize("place", range(1, 4))
async def test_what_is_written_while_a_restoring_begins_is_in_time_or_too_late(
    daemon: Daemon, snapshot: Path, place: int
) -> None:
    """A lease leaves the revision as it is, so that nothing else tells."""
    engine = await daemon.open()
    await engine.grant_lease(1, 60)
    await engine.revoke_lease(1)
    granted: list[object] = []

    async def interrupt(number: int) -> None:
        if number == place:
            daemon.store.before = None
            try:
                granted.append(await engine.grant_lease(2, 60))
            except errors.Loading as error:
                granted.append(error)

    daemon.store.transactions, daemon.store.before = 0, interrupt
    try:
        await restored(engine, snapshot)
    except errors.NotEmpty:
        assert (await engine.leases())[0] == [2]
    else:
        assert isinstance(granted[0], errors.Loading)


# others


@pytest.mark.parametrize("compacted", [None, 5])
async def test_who_has_watched_the_empty_tenant_is_told_what_there_is(
    kind: str, tmp_path: Path, compacted: int | None
) -> None:
    async with daemons(kind, tmp_path / "data", 2 if kind == "simulated" else 1) as running:
        source = await written_as(running[0], "source", compacted)
        path = await saved(source, tmp_path)
        engine, other = await running[0].open(), await running[-1].open()
        watcher = await watch(other, b"leased")
        await restored(engine, path)
        await other.watches.caught_up()
        if compacted is None:
            assert [event.kv.mod_revision for event in await take(other, watcher)] == [4]
        else:
            with pytest.raises(errors.Compacted):
                await take(other, watcher)


async def test_others_are_served_while_a_tenant_is_restored(daemon: Daemon, tmp_path: Path) -> None:
    source, engine, other = [await daemon.open(name) for name in ("source", "alpha", "other")]
    await fill(source, 5000, b"v")
    restoring = asyncio.create_task(restored(engine, await saved(source, tmp_path)))
    revisions = []
    while not restoring.done():
        revisions.append(await put(other, b"a"))
    await restoring
    assert len(revisions) > 10


async def test_many_keys_are_restored_in_little_memory(tmp_path: Path) -> None:
    async with daemons("embedded", tmp_path / "data") as [running]:
        source = await running.open("source")
        await fill(source, 4000, b"v" * 8000)
        path = await saved(source, tmp_path)
        engine = await running.open()
        tracemalloc.start()
        try:
            await restored(engine, path)
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert path.stat().st_size > 30 * MEBIBYTE
        assert peak < 20 * MEBIBYTE


async def test_a_step_is_bounded_by_what_it_supersedes(daemon: Daemon, tmp_path: Path) -> None:
    """Deletions are small, and have large values before them: FoundationDB takes ten megabytes at once."""
    source = await daemon.open("source")
    for number in range(15):
        await put(source, b"large/%02d" % number, bytes([number]) * MEBIBYTE)
    for number in range(15):
        await delete(source, b"large/%02d" % number)
    engine = await daemon.open()
    await restored(engine, await saved(source, tmp_path))
    assert await engine.hash_keys(0) == await source.hash_keys(0)


@pytest.mark.parametrize("operations", [["delete", "put"], ["put", "delete"], ["put", "delete", "put"]])
async def test_a_key_that_one_revision_changes_twice_has_its_history(
    daemon: Daemon, tmp_path: Path, operations: list[str]
) -> None:
    source = await daemon.open("source")
    await put(source, b"a", b"1")
    nested = [
        RequestOp(
            request_txn=TxnRequest(
                success=[
                    RequestOp(request_put=PutRequest(key=b"a", value=b"2"))
                    if it == "put"
                    else RequestOp(request_delete_range={"key": b"a"})
                ]
            )
        )
        for it in operations
    ]
    await source.txn(TxnRequest(success=nested))
    await put(source, b"b")
    engine = await daemon.open()
    await restored(engine, await saved(source, tmp_path))
    for revision in range(2, 5):
        before, after = [await it.get_at_revision(b"a", revision) for it in (source, engine)]
        assert after == before
    watchers = [await watch(it, b"a", start_revision=2) for it in (source, engine)]
    assert await take(engine, watchers[1]) == await take(source, watchers[0])


# what is broken


async def test_a_broken_file_is_refused_before_anything_is_written(
    daemon: Daemon, tmp_path: Path, whole: bytes
) -> None:
    engine = await daemon.open()
    broken = hashed(tmp_path / "broken", whole[: -HASH_BYTES - 4096])
    before = daemon.store.transactions
    with pytest.raises(BrokenFileError):
        await restored(engine, broken)
    assert daemon.store.transactions == before


@pytest.mark.parametrize("seed", range(60))
async def test_garbage_in_a_page_is_refused_or_is_a_tenant(tmp_path: Path, whole: bytes, seed: int) -> None:
    """Values cannot be told from other values. Whatever else becomes of the file, it raises nothing but what it may."""
    chosen = random.Random(seed)
    content = bytearray(whole[:-HASH_BYTES])
    page = chosen.randrange(len(content) // 4096) * 4096
    at = page + chosen.choice((chosen.randrange(16), chosen.randrange(16, 400), chosen.randrange(4096)))
    for offset in range(chosen.choice((1, 1, 4, 64))):
        content[min(at + offset, len(content) - 1)] = chosen.randrange(256)
    path = hashed(tmp_path / "broken", bytes(content))
    async with daemons("embedded", tmp_path / "data") as [running]:
        engine = await running.open()
        before = running.store.transactions
        try:
            await restored(engine, path)
        except BrokenFileError:
            assert running.store.transactions == before
        assert await put(engine, b"more") >= 2


@pytest.mark.parametrize("share", [0.0, 0.3, 0.9, 0.999])
async def test_a_file_that_is_cut_off_is_refused(tmp_path: Path, whole: bytes, share: float) -> None:
    cut = tmp_path / "cut"
    cut.write_bytes(whole[: int(share * len(whole))])
    async with daemons("embedded", tmp_path / "data") as [running]:
        for skipped in (True, False):
            with pytest.raises(BrokenFileError), FileReader(cut, hashed=skipped) as file:
                async with (await running.open()).turns.work("alpha") as work:
                    await look_through(file, work, lambda *_: None)


KV = schema.KEY.decode()


@pytest.mark.parametrize(
    "row",
    [
        pytest.param((b"short", b""), id="no revision"),
        pytest.param((schema.revision_key(1, 0), b"\x0a\x01a"), id="before the first"),
        pytest.param((schema.revision_key(5, 0), b"\x0a\x01a\x10\x05\x18\x04\x20\x01"), id="another mod revision"),
        pytest.param((schema.revision_key(5, 0), b"\x0a\x01a\x10\x06\x18\x05\x20\x01"), id="created later"),
        pytest.param((schema.revision_key(5, 0), b"\x0a\x01a\x10\x05\x18\x05"), id="no version"),
        pytest.param((schema.revision_key(5, 0), b"\x10\x05\x18\x05\x20\x01"), id="no key"),
        pytest.param((schema.revision_key(5, 0), b"\x10\x05\x18\x05\x20\x01\x0a\x01a"), id="another order"),
        pytest.param((schema.revision_key(5, 0), b"\xff"), id="no message"),
        pytest.param((schema.revision_key(5, 0, deleted=True), b"\x0a\x01a\x10\x05"), id="a deletion with more"),
        pytest.param((schema.revision_key(5, 0, deleted=True), b""), id="a deletion of nothing"),
        pytest.param((schema.revision_key(1 << 63, 0), b"\x0a\x01a"), id="beyond all revisions"),
        pytest.param((schema.revision_key(5, 1 << 32), b"\x0a\x01a\x10\x05\x18\x05\x20\x01"), id="a large sub"),
    ],
)
async def test_a_change_that_etcd_would_not_have_written_is_refused(tmp_path: Path, row: tuple[bytes, bytes]) -> None:
    path = written(tmp_path / "file", meta=[], **{KV: [row]})
    async with daemons("embedded", tmp_path / "data") as [running]:
        with pytest.raises(BrokenFileError):
            await restored(await running.open(), path)


@pytest.mark.parametrize(
    ("bucket", "row"),
    [
        ("lease", (b"\x00" * 7 + b"\x05", b"\x08\x06\x10\x01")),
        ("lease", (b"\x00" * 7 + b"\x05", b"\x08\x05\x10")),
        ("lease", (b"\x00" * 7 + b"\x05", b"\x08\x05\x10" + b"\xff" * 9 + b"\x01")),
        ("lease", (b"\x00" * 7 + b"\x05", b"\x0a\x01a")),
        ("alarm", (b"\xff", b"")),
        ("alarm", (b"\x08\x01\x10\x09", b"")),
        ("meta", (schema.FINISHED_COMPACTION, b"\x05")),
    ],
)
async def test_a_lease_or_alarm_that_etcd_would_not_have_written_is_refused(
    tmp_path: Path, bucket: str, row: tuple[bytes, bytes]
) -> None:
    path = written(tmp_path / "file", **({"meta": [], KV: []} | {bucket: [row]}))
    async with daemons("embedded", tmp_path / "data") as [running]:
        with pytest.raises(BrokenFileError):
            await restored(await running.open(), path)


async def test_a_file_of_another_program_is_refused(tmp_path: Path) -> None:
    async with daemons("embedded", tmp_path / "data") as [running]:
        with pytest.raises(BrokenFileError, match="no etcd's"):
            await restored(await running.open(), written(tmp_path / "file", a=[(b"a", b"b")]))

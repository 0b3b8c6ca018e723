"""What the protocol promises beyond what a client of etcd can see, of both engines."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from fetch import errors
from fetch.api.rpc_pb2 import PutRequest, WatchResponse
from fetch.engine.memory.engine import MemoryEngine
from fetch.engine.protocol import KeyWatch, StorageEngine, WatchInstance
from fetch.engine.records import key_value
from tests.engine.engines import daemon


@pytest.fixture(params=["stored", "memory"])
async def engine(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[StorageEngine]:
    if request.param == "memory":
        yield MemoryEngine("alpha")
        return
    async with daemon(tmp_path) as running:
        yield await running.open()


async def put(engine: StorageEngine, key: bytes, value: bytes = b"") -> int:
    return (await engine.put(PutRequest(key=key, value=value))).header.revision


async def watch(instance: WatchInstance[Any], key: bytes, start_revision: int = 0) -> KeyWatch:
    watching: KeyWatch = await instance.register_key_watch(
        key, b"", start_revision, prev_kv=False, puts=True, deletes=True
    )
    return watching


async def test_a_key_at_a_revision_is_as_it_was_then(engine: StorageEngine) -> None:
    then = await put(engine, b"a", b"1")
    now = await put(engine, b"a", b"2")
    found = await engine.get_at_revision(b"a", then)
    assert found.current is not None
    assert (key_value(found.current).value, found.succeeded, found.revision) == (b"1", True, now)


async def test_a_key_before_it_was_put_is_not_there(engine: StorageEngine) -> None:
    before = await put(engine, b"b")
    await put(engine, b"a")
    found = await engine.get_at_revision(b"a", before)
    assert (found.succeeded, found.current) == (False, None)


async def test_a_key_at_a_compacted_revision_is_refused(engine: StorageEngine) -> None:
    before = await put(engine, b"a")
    await engine.compact(await put(engine, b"a"), physical=True)
    with pytest.raises(errors.Compacted):
        await engine.get_at_revision(b"a", before)


async def test_keys_are_counted_at_a_revision(engine: StorageEngine) -> None:
    then = await put(engine, b"a")
    now = await put(engine, b"b")
    assert [await engine.count_keys(b"\x00", b"\x00", at) for at in (then, 0)] == [(1, now), (2, now)]


async def test_the_listener_of_an_instance_is_told_of_the_watch_that_has_something(engine: StorageEngine) -> None:
    told: list[KeyWatch] = []
    instance = engine.create_watch_instance()
    instance.register_watch_listener(told.append)
    watching, _ = await watch(instance, b"a"), await watch(instance, b"b")
    await put(engine, b"a")
    assert told == [watching]


async def test_nothing_is_told_of_what_other_instances_watch(engine: StorageEngine) -> None:
    told: list[KeyWatch] = []
    one, other = engine.create_watch_instance(), engine.create_watch_instance()
    one.register_watch_listener(told.append)
    await watch(one, b"a")
    await watch(other, b"b")
    await put(engine, b"b")
    assert told == []


async def test_a_watch_takes_no_more_than_it_is_asked_to(engine: StorageEngine) -> None:
    instance = engine.create_watch_instance()
    watching = await watch(instance, b"a")
    first = await put(engine, b"a")
    await put(engine, b"a")
    taken = await instance.take(watching, up_to=first)
    assert taken is not None
    events = WatchResponse.FromString(b"".join(taken.frames)).events
    assert ([event.kv.mod_revision for event in events], watching.position) == ([first], first)
    assert (instance.is_synced(watching, first), instance.is_synced(watching)) == (True, False)


async def test_a_deleted_instance_ends_its_watches_and_tells_nothing_more(engine: StorageEngine) -> None:
    told: list[KeyWatch] = []
    instance = engine.create_watch_instance()
    instance.register_watch_listener(told.append)
    watching = await watch(instance, b"a")
    engine.delete_watch_instance(instance)
    engine.delete_watch_instance(instance)
    await put(engine, b"a")
    assert (watching.ended, told, await instance.take(watching)) == (True, [], None)


async def test_equal_contents_have_equal_checksums(engine: StorageEngine) -> None:
    specified = MemoryEngine("alpha")
    for each in (engine, specified):
        await put(each, b"a", b"1")
        await put(each, b"b", b"2")
    assert await engine.hash_keys(0) == await specified.hash_keys(0)

"""Sorted, filtered and stripped answers, against what a plain list, sorted whole, gives."""

import asyncio
import itertools
import random
from pathlib import Path

import pytest

from fetch.api.kv_pb2 import KeyValue
from fetch.api.rpc_pb2 import RangeRequest, RangeResponse
from fetch.engine import reads
from fetch.engine.answers import Found
from fetch.engine.engine import StoredEngine
from fetch.engine.reads import bounds
from tests.engine.engines import daemon, put

KEYS = 60
TARGETS = {"KEY": "key", "VERSION": "version", "CREATE": "create_revision", "MOD": "mod_revision", "VALUE": "value"}
LIMITS = [0, 1, 7, KEYS - 1, KEYS, KEYS + 1]
FILTERS = [{}, {"min_mod_revision": KEYS // 2}, {"max_create_revision": KEYS // 2, "min_create_revision": 10}]


@pytest.fixture(params=[3, 1000], ids=["small_pages", "one_page"], autouse=True)
def _pages(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("PAGE", "BRIEF", "MOST_PIECES"):
        monkeypatch.setattr(bounds, name, request.param)


async def filled(engine: StoredEngine) -> list[KeyValue]:
    """Puts keys in some order, some of them more often, with few different values; what a plain list gives."""
    choice = random.Random(3)
    keys = [b"%02d" % number for number in range(KEYS)]
    written = [*choice.sample(keys, KEYS), *choice.choices(keys, k=KEYS)]
    await asyncio.gather(*(put(engine, key, choice.choice([b"", b"a", b"b" * 200, b"c"])) for key in written))
    return kvs(await engine.range_keys(RangeRequest(key=b"0", range_end=b"\x00")))


def kvs(found: Found) -> list[KeyValue]:
    return list(RangeResponse.FromString(b"".join(found.frames)).kvs)


def expected(plain: list[KeyValue], request: RangeRequest) -> tuple[list[KeyValue], bool]:
    """The keys of the answer and whether there are more: filtered, then sorted, then cut."""
    chosen = [
        kv
        for kv in plain
        if (not request.min_mod_revision or kv.mod_revision >= request.min_mod_revision)
        and (not request.min_create_revision or kv.create_revision >= request.min_create_revision)
        and (not request.max_create_revision or kv.create_revision <= request.max_create_revision)
    ]
    descending = request.sort_order == RangeRequest.DESCEND
    target = TARGETS[RangeRequest.SortTarget.Name(request.sort_target)]
    if request.limit and request.sort_order == RangeRequest.NONE and len(chosen) == len(plain):
        chosen = chosen[: request.limit + 1]  # as etcd does it: a target without an order sorts what the limit leaves
    chosen.sort(key=lambda kv: getattr(kv, target), reverse=descending)
    more = 0 < request.limit < len(chosen)
    chosen = [KeyValue.FromString(kv.SerializeToString()) for kv in chosen[: request.limit or None]]
    if request.keys_only:
        for kv in chosen:
            kv.ClearField("value")
    return chosen, more


async def test_every_order_target_limit_and_filter_gives_what_sorting_the_whole_gives(tmp_path: Path) -> None:
    async with daemon(tmp_path) as running:
        engine = await running.open()
        plain = await filled(engine)
        orders = ("NONE", "ASCEND", "DESCEND")
        for target, order, limit, filtered, bare in itertools.product(TARGETS, orders, LIMITS, FILTERS, (False, True)):
            request = RangeRequest(
                key=b"0", range_end=b"\x00", sort_target=target, sort_order=order, limit=limit, keys_only=bare,
                **filtered,
            )  # fmt: skip
            found = await engine.range_keys(request)
            assert (kvs(found), found.more) == expected(plain, request), request
            assert found.count == KEYS, request
            assert found.size == sum(map(len, found.frames)), request


async def test_what_a_limit_will_cut_is_not_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kept: list[int] = []
    require_room = reads.View.require_room

    def observed(view: reads.View, size: int) -> None:
        kept.append(size)
        require_room(view, size)

    monkeypatch.setattr(reads.View, "require_room", observed)
    monkeypatch.setattr(bounds, "PAGE_BYTES", 1000)
    monkeypatch.setattr(bounds, "PAGE", 10)
    async with daemon(tmp_path) as running:
        engine = await running.open()
        await asyncio.gather(*(put(engine, b"%03d" % number, b"v" * 1000) for number in range(200)))
        for target, order in (("MOD", "ASCEND"), ("VALUE", "DESCEND"), ("KEY", "DESCEND")):
            await engine.range_keys(
                RangeRequest(key=b"0", range_end=b"\x00", sort_target=target, sort_order=order, limit=5)
            )
    # of 200 kB: what an answer is, twice, and what is kept before it is looked at
    assert max(kept) <= 2 * 5 * 1050 + 10 * 1050 + 4 * 1000


async def test_a_stream_by_another_target_than_the_key_gives_every_key_once_in_that_order(tmp_path: Path) -> None:
    async with daemon(tmp_path) as running:
        engine = await running.open()
        await filled(engine)
        request = RangeRequest(key=b"0", range_end=b"\x00", sort_target="MOD")
        pieces = [piece async for piece in engine.stream_range(request)]
        found = await engine.range_keys(request)
        assert b"".join(stored for piece in pieces for stored in piece.frames) == b"".join(found.frames)
        assert [piece.last for piece in pieces] == [False] * (len(pieces) - 1) + [True]

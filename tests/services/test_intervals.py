"""What changes a key twice, against the rule as etcd's source states it, on random transactions."""

import random
from collections.abc import Sequence

import pytest

from fetch import errors
from fetch.api.rpc_pb2 import RequestOp
from fetch.engine.turns import Turns
from fetch.services.intervals import check_intervals

KEYS = [b"a", b"b", b"c", b"d", b"e"]
ENDS = [b"", b"", b"c", b"e", b"\x00"]


def operations(choice: random.Random, depth: int = 0) -> list[RequestOp]:
    return [operation(choice, depth) for _ in range(choice.randrange(4))]


def operation(choice: random.Random, depth: int) -> RequestOp:
    made = RequestOp()
    match choice.randrange(4 if depth < 3 else 2):
        case 0:
            made.request_put.key = choice.choice(KEYS) + b"%d" % choice.randrange(4)
        case 1:
            made.request_delete_range.key = choice.choice(KEYS) + b"%d" % choice.randrange(4)
            made.request_delete_range.range_end = choice.choice(ENDS) if choice.random() < 0.3 else b""
        case _:
            made.request_txn.success.extend(operations(choice, depth + 1))
            made.request_txn.failure.extend(operations(choice, depth + 1))
            made.request_txn.SetInParent()
    return made


def changed(branch: Sequence[RequestOp]) -> tuple[set[bytes], list[tuple[bytes, bytes]]]:
    """The keys that a branch puts and the spans that it deletes; the rule, with no thought for its cost."""
    deletes = [
        (delete.key, delete.range_end or delete.key + b"\x00")
        for delete in (it.request_delete_range for it in branch if it.HasField("request_delete_range"))
    ]
    puts: set[bytes] = set()

    def add(key: bytes) -> None:
        if key in puts or any(begin <= key < end for begin, end in deletes):
            raise errors.DuplicateKey
        puts.add(key)

    for it in branch:
        if it.HasField("request_txn"):
            then, otherwise = changed(it.request_txn.success), changed(it.request_txn.failure)
            for key in then[0] | otherwise[0]:
                add(key)
            deletes += then[1] + otherwise[1]
    for it in branch:
        if it.HasField("request_put"):
            add(it.request_put.key)
    return puts, deletes


@pytest.mark.parametrize("seed", range(300))
async def test_what_is_refused_is_what_etcd_refuses(seed: int) -> None:
    branch = operations(random.Random(seed))
    try:
        changed(branch)
        expected = False
    except errors.DuplicateKey:
        expected = True
    async with Turns().work("any") as work:
        try:
            await check_intervals(branch, work)
            refused = False
        except errors.DuplicateKey:
            refused = True
    assert refused == expected

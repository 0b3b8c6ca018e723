"""Whether what a transaction compares is so, as `applyCompare` of etcd's `server/etcdserver/txn/txn.go` tells."""

from collections.abc import AsyncIterator, Iterable

from fetch.api.rpc_pb2 import Compare
from fetch.engine.reads import View
from fetch.engine.records import key_values
from fetch.engine.turns import Work
from fetch.stores.snapshot import Row
from fetch.stores.transaction import Source

_PAGE = 250

_TARGETS = {
    Compare.VERSION: "version",
    Compare.CREATE: "create_revision",
    Compare.MOD: "mod_revision",
    Compare.VALUE: "value",
    Compare.LEASE: "lease",
}


async def all_hold(view: View, compares: Iterable[Compare], work: Work) -> bool:
    """Whether all of a transaction's compares hold."""
    for compare in compares:
        if not await _holds(view, compare, work):
            return False
        if work.is_spent():
            await work.give_way()
    return True


async def _holds(view: View, compare: Compare, work: Work) -> bool:
    """Whether the compare holds for every key of its range; a range without keys compares as zeros, a value never.

    Reads the range up to the first key that fails.
    """
    target = _TARGETS.get(compare.target)
    if target is None:
        return _compared(compare.result, 0, 0)
    result, wanted = compare.result, getattr(compare, target)
    found = False
    async for rows in rows_of(view.source, *view.layout.key_range(compare.key, compare.range_end), work):
        found = True
        if not all(_compared(result, getattr(kv, target), wanted) for kv in key_values(stored for _, stored in rows)):
            return False
    return found or (compare.target != Compare.VALUE and _compared(result, 0, wanted))


async def rows_of(source: Source, begin: bytes, end: bytes, work: Work) -> AsyncIterator[list[Row]]:
    """The rows of a range in pages that are not empty. A range of one key is a get, which the batch has prefetched."""
    if end == begin + b"\x00":
        stored = await source.get(begin)
        if stored is not None:
            yield [(begin, stored)]
        return
    more = True
    while more:
        rows, more = await source.get_range(begin, end, _PAGE)
        if rows:
            yield rows
            begin = rows[-1][0] + b"\x00"
        if work.is_spent():
            await work.give_way()


def _compared(result: int, found: int | bytes, wanted: int | bytes) -> bool:
    match result:
        case Compare.EQUAL:
            return found == wanted
        case Compare.NOT_EQUAL:
            return found != wanted
        case Compare.GREATER:
            return found > wanted  # type: ignore[operator]  # both are of the target's type
        case Compare.LESS:
            return found < wanted  # type: ignore[operator]
    return True

"""Counting rows, which FoundationDB cannot do: it sends them. Several ranges at once it sends faster than one."""

import asyncio
import itertools
from typing import Any

from fetch.stores.foundationdb.binding import Binding

MANY = 1000
"""Rows from which on a count is made of several ranges."""

RANGE_BYTES = 1 << 20
RANGES = 4
"""How many ranges at once, of about how many bytes each."""


async def count(binding: Binding, transaction: Any, begin: bytes, end: bytes, limit: int) -> tuple[int, bytes]:
    """The rows of [begin, end), and `end`; or of its first ones, and where the others begin: `limit` of them where that
    is small, else those of the next `RANGES` ranges of about `RANGE_BYTES`. At least one, if there is one.

    :raises FDBError:
    """
    if limit < MANY:
        return await binding.count(transaction, begin, end, limit)
    found, position = 0, begin
    while not found and position < end:  # what ranges are thought to hold may have been deleted
        found, position = await _count_side_by_side(binding, transaction, position, end, limit)
    return found, position


async def _count_side_by_side(
    binding: Binding, transaction: Any, begin: bytes, end: bytes, limit: int
) -> tuple[int, bytes]:
    inner = [key for key in await binding.splits(transaction, begin, end, RANGE_BYTES) if begin < key < end]
    edges = [begin, *inner[:RANGES]] if len(inner) >= RANGES else [begin, *inner, end]
    ranges = [
        asyncio.ensure_future(binding.count(transaction, first, last, limit))
        for first, last in itertools.pairwise(edges)
    ]
    try:
        counted = await asyncio.gather(*ranges)
    finally:
        for each in ranges:
            each.cancel()
    total = 0
    for (found, position), last in zip(counted, edges[1:], strict=True):
        total += found
        if position < last:  # what of the ranges behind it was counted is counted again
            return total, position
    return total, edges[-1]

"""Which ranges hold a key, however many there are."""

import math
import random

from fetch.engine.watches.index import Index, _Node

MANY = 20_000


def key(number: int) -> bytes:
    return b"%06d" % number


def index_of(ranges: list[tuple[bytes, bytes]]) -> Index[tuple[bytes, bytes]]:
    index: Index[tuple[bytes, bytes]] = Index()
    for span in ranges:
        index.add(*span, span)
    return index


def depth(node: _Node[tuple[bytes, bytes]] | None) -> int:
    deepest, waiting = 0, [(node, 1)]
    while waiting:
        visited, level = waiting.pop()
        if visited is not None:
            deepest = max(deepest, level)
            waiting += [(visited.left, level + 1), (visited.right, level + 1)]
    return deepest


def test_every_range_that_holds_a_key_is_found_and_no_other():
    choice = random.Random(3)
    ranges = {(min(pair), max(pair)) for pair in (choice.sample([key(n) for n in range(200)], 2) for _ in range(500))}
    index = index_of(list(ranges))
    for gone in choice.sample(sorted(ranges), 300):
        index.remove(*gone)
        ranges.discard(gone)
        point = key(choice.randrange(200))
        assert sorted(index.at(point)) == sorted(span for span in ranges if span[0] <= point < span[1])


def test_ranges_that_begin_alike_are_told_apart():
    index = index_of([(b"a", b"b"), (b"a", b"c"), (b"a", b"d")])
    index.remove(b"a", b"c")
    assert sorted(index.at(b"aa")) == [(b"a", b"b"), (b"a", b"d")]


def test_an_index_that_has_lost_its_last_range_is_empty():
    index = index_of([(b"a", b"b")])
    index.remove(b"a", b"b")
    assert not index


def test_ranges_that_come_in_order_make_no_deep_tree():
    index = index_of([(key(number), key(number + 1)) for number in range(MANY)])
    assert depth(index._root) < 5 * math.log2(MANY)

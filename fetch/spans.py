"""A set of keys made of spans: half-open intervals of bytes, in order and apart from each other."""

from bisect import bisect_left, bisect_right
from collections.abc import Iterator
from operator import itemgetter

Span = tuple[bytes, bytes]

_begin, _end = itemgetter(0), itemgetter(1)


class Spans:
    """Spans that grow by being added to. To add one or to look a key up takes the logarithm of how many there are."""

    __slots__ = ("_spans",)

    def __init__(self) -> None:
        self._spans: list[Span] = []

    def __bool__(self) -> bool:
        return bool(self._spans)

    def __len__(self) -> int:
        return len(self._spans)

    def __iter__(self) -> Iterator[Span]:
        return iter(self._spans)

    def __contains__(self, key: bytes) -> bool:
        at = bisect_right(self._spans, key, key=_begin) - 1
        return at >= 0 and key < self._spans[at][1]

    def add(self, begin: bytes, end: bytes) -> None:
        """Adds [begin, end), joined with what it meets."""
        if begin >= end:
            return
        first = bisect_left(self._spans, begin, key=_end)
        last = bisect_right(self._spans, end, key=_begin)
        if first < last:
            begin, end = min(begin, self._spans[first][0]), max(end, self._spans[last - 1][1])
        self._spans[first:last] = [(begin, end)]

    def within(self, begin: bytes, end: bytes) -> list[Span]:
        """What the spans have of [begin, end)."""
        if begin >= end:
            return []
        first = bisect_right(self._spans, begin, key=_end)
        last = bisect_left(self._spans, end, key=_begin)
        return [(max(begin, low), min(end, high)) for low, high in self._spans[first:last]]

"""Writes a bbolt file from its rows in order, in memory that does not grow with them.

Pages are made bottom-up: a leaf when it is full, a branch when so many pages are below it. So each is finished before
the one that leads to it, and the file is written from its third page on; only the two meta pages at its beginning
have to be put there at the end, since they say where the root is. Nothing here reads or writes: what is finished is
taken.
"""

import struct
from collections.abc import Sequence
from dataclasses import dataclass, field

from fetch.snapshots.bolt import (
    BRANCH,
    BRANCH_ELEMENT,
    BUCKET,
    CHECKSUM,
    FREELIST,
    IN_BUCKET,
    LEAF,
    LEAF_ELEMENT,
    MAGIC,
    META,
    META_FIELDS,
    MOST_INLINE_BYTES,
    PAGE,
    PAGE_BYTES,
    VERSION,
    checksum,
)

_FEWEST_BRANCHES = 2
_FIRST_PAGE = 2
_TRANSACTION = 2


class FileWriter:
    """A file in the making: its buckets one after the other, then its meta pages."""

    def __init__(self) -> None:
        self._pages = _Pages()
        self._buckets: dict[bytes, bytes] = {}

    @property
    def ready_bytes(self) -> int:
        """The bytes of the pages that are finished and have not been taken."""
        return self._pages.ready_bytes

    def take(self) -> list[bytes]:
        """The pages that have been finished since the last time. They lie behind those, the first at `beginning`."""
        return self._pages.take()

    @property
    def beginning(self) -> int:
        """Where the first page that is taken belongs in the file; what comes before are the meta pages."""
        return _FIRST_PAGE * PAGE_BYTES

    def bucket(self) -> "Tree":
        """The rows of a bucket, to be given to `close` when it has all of them. One at a time is open."""
        return Tree(self._pages)

    def close(self, name: bytes, bucket: "Tree") -> None:
        """Names a bucket that has all of its rows."""
        inline = bucket.inline()
        self._buckets[name] = IN_BUCKET.pack(0, 0) + inline if inline else IN_BUCKET.pack(bucket.root(), 0)

    def finish(self) -> bytes:
        """The meta pages, which belong at the beginning of the file; there are some more pages to take then."""
        tree = Tree(self._pages)
        for name, value in sorted(self._buckets.items()):
            tree.add(name, value, BUCKET)
        root = tree.root()
        freelist = self._pages.append(FREELIST, 0, b"")
        return b"".join(
            self._meta(number, transaction, root, freelist)
            for number, transaction in enumerate((_TRANSACTION, _TRANSACTION - 1))
        )

    def _meta(self, number: int, transaction: int, root: int, freelist: int) -> bytes:
        fields = META_FIELDS.pack(
            MAGIC, VERSION, PAGE_BYTES, 0, root, 0, freelist, self._pages.next_number, transaction
        )
        page = PAGE.pack(number, META, 0, 0) + fields + CHECKSUM.pack(checksum(fields))
        return page.ljust(PAGE_BYTES, b"\x00")


class _Pages:
    """Pages that are finished, numbered in their order."""

    def __init__(self) -> None:
        self.next_number = _FIRST_PAGE
        self.ready_bytes = 0
        self._ready: list[bytes] = []

    def append(self, kind: int, count: int, body: bytes) -> int:
        """Adds a page; its number."""
        number = self.next_number
        pages = -(-(PAGE.size + len(body)) // PAGE_BYTES)
        self._ready.append((PAGE.pack(number, kind, count, pages - 1) + body).ljust(pages * PAGE_BYTES, b"\x00"))
        self.ready_bytes += pages * PAGE_BYTES
        self.next_number += pages
        return number

    def take(self) -> list[bytes]:
        ready, self._ready, self.ready_bytes = self._ready, [], 0
        return ready


@dataclass(slots=True)
class _Level:
    """The branch page in the making at one height of a tree."""

    keys: list[bytes] = field(default_factory=list)
    numbers: list[int] = field(default_factory=list)
    size: int = PAGE.size


class Tree:
    """The rows of a bucket, added in order of their keys."""

    def __init__(self, pages: _Pages) -> None:
        self._pages = pages
        self._elements: list[tuple[int, bytes, bytes]] = []
        self._size = PAGE.size
        self._levels: list[_Level] = []

    def add(self, key: bytes, value: bytes, flags: int = 0) -> None:
        """Adds a row, whose key is not empty and behind all those that were added."""
        size = LEAF_ELEMENT.size + len(key) + len(value)
        if self._size + size > PAGE_BYTES and self._elements:
            self._finish_leaf()
        self._elements.append((flags, key, value))
        self._size += size

    def inline(self) -> bytes | None:
        """The only page, if the tree is small enough to lie in the root."""
        if self._levels or self._size > MOST_INLINE_BYTES:
            return None
        return PAGE.pack(0, LEAF, len(self._elements), 0) + _leaf(self._elements)

    def root(self) -> int:
        """Finishes the tree; the page of its root."""
        self._finish_leaf()
        height = 0
        while height + 1 < len(self._levels) or len(self._levels[height].keys) > 1:
            self._finish_branch(height)
            height += 1
        return self._levels[height].numbers[0]

    def _finish_leaf(self) -> None:
        first = self._elements[0][1] if self._elements else b""
        number = self._pages.append(LEAF, len(self._elements), _leaf(self._elements))
        self._elements, self._size = [], PAGE.size
        self._lead_to(0, first, number)

    def _finish_branch(self, height: int) -> None:
        level = self._levels[height]
        number = self._pages.append(BRANCH, len(level.keys), _branch(level.keys, level.numbers))
        first = level.keys[0]
        self._levels[height] = _Level()
        self._lead_to(height + 1, first, number)

    def _lead_to(self, height: int, key: bytes, number: int) -> None:
        """Adds an element to the branch page at a height."""
        if height == len(self._levels):
            self._levels.append(_Level())
        level = self._levels[height]
        size = BRANCH_ELEMENT.size + len(key)
        if level.size + size > PAGE_BYTES and len(level.keys) >= _FEWEST_BRANCHES:
            self._finish_branch(height)
            level = self._levels[height]
        level.keys.append(key)
        level.numbers.append(number)
        level.size += size


def _leaf(elements: Sequence[tuple[int, bytes, bytes]]) -> bytes:
    """The body of a leaf page."""
    table: list[int] = []
    data: list[bytes] = []
    position = LEAF_ELEMENT.size * len(elements)
    for flags, key, value in elements:
        table += (flags, position, len(key), len(value))
        data += (key, value)
        position += len(key) + len(value) - LEAF_ELEMENT.size
    return struct.pack(f"<{len(table)}I", *table) + b"".join(data)


def _branch(keys: Sequence[bytes], numbers: Sequence[int]) -> bytes:
    """The body of a branch page."""
    table: list[bytes] = []
    position = BRANCH_ELEMENT.size * len(keys)
    for key, number in zip(keys, numbers, strict=True):
        table.append(BRANCH_ELEMENT.pack(position, len(key), number))
        position += len(key) - BRANCH_ELEMENT.size
    return b"".join(table) + b"".join(keys)

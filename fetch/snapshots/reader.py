"""Reads a bbolt file: the rows of its buckets in order, in memory that does not grow with them.

Nothing that the file says about itself is believed before it has been looked at: what is broken, cut off, or is none of
bbolt's files raises `BrokenFileError`, and neither loops nor takes memory for a size that it only claims to have.
"""

import hashlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from fetch.snapshots.bolt import (
    BRANCH,
    BRANCH_ELEMENT,
    BUCKET,
    CHECKSUM,
    IN_BUCKET,
    LEAF,
    LEAF_ELEMENT,
    MAGIC,
    META,
    META_FIELDS,
    PAGE,
    VERSION,
    checksum,
)

_HASH_BYTES = 32
_SECTOR = 512
_READ_BYTES = 1 << 20
_PAGE_SIZES = tuple(1 << bits for bits in range(10, 17))
_DEEPEST = 32
"""No tree of a file that is there has so many levels."""

_MOST_PAGE_BYTES = 256 << 20
"""What is read at once. A page may have two values, and etcd takes no request that is nearly so large."""

Row = tuple[bytes, bytes]


class BrokenFileError(Exception):
    """The file is not what it should be: a sentence that says why."""


class NoHashError(BrokenFileError):
    """The file does not end with its hash, as one that was not sent by an etcd."""


@dataclass(frozen=True, slots=True)
class _Meta:
    page_bytes: int
    root: int
    pages: int
    transaction: int


class FileReader:
    """A file that is open for reading. Its hash has been compared, and it has a meta page that is whole."""

    def __init__(self, file: Path | int, *, hashed: bool = True) -> None:
        """`file` is where it lies, or a descriptor, which stays open. `hashed`: it has to end with its SHA-256, as what
        an etcd has sent does; what was copied from etcd's data directory does not.

        :raises BrokenFileError: :raises OSError:
        """
        self._file = os.dup(file) if isinstance(file, int) else os.open(file, os.O_RDONLY)
        try:
            self._size = self._measure(hashed=hashed)
            self._meta = self._find_meta()
        except BaseException:
            os.close(self._file)
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        os.close(self._file)

    @property
    def size(self) -> int:
        """The bytes of the file, without its hash."""
        return self._size

    def buckets(self) -> list[bytes]:
        """The names of the buckets.

        :raises BrokenFileError:
        """
        return [name for _, name, _ in self._elements(self._meta.root)]

    def rows(self, bucket: bytes) -> Iterator[Row]:
        """The rows of a bucket in order of their keys; none if there is no such bucket.

        :raises BrokenFileError: also midway
        """
        for flags, name, value in self._elements(self._meta.root):
            if name != bucket:
                continue
            if not flags & BUCKET or len(value) < IN_BUCKET.size:
                raise BrokenFileError(f"{bucket!r} is no bucket")
            root, _ = IN_BUCKET.unpack_from(value)
            elements = self._elements(root) if root else self._leaf(value[IN_BUCKET.size :])
            for inner, key, found in elements:
                if inner & BUCKET:
                    raise BrokenFileError(f"bucket {bucket!r} has buckets")
                yield key, found

    def _elements(self, root: int) -> Iterator[tuple[int, bytes, bytes]]:
        """The elements of all leaves of a tree."""
        waiting: list[Iterator[int]] = [iter((root,))]
        last = b""
        met = 0
        while waiting:
            number = next(waiting[-1], None)
            if number is None:
                waiting.pop()
                continue
            met += 1
            if met > self._meta.pages:
                raise BrokenFileError("pages are in several places of a tree")
            page = self._page(number)
            kind = PAGE.unpack_from(page)[1]
            if kind == BRANCH and len(waiting) < _DEEPEST:
                waiting.append(self._branch(page))
            elif kind == LEAF:
                for flags, key, value in self._leaf(page):
                    if key <= last:
                        raise BrokenFileError(f"the keys of page {number} are out of order")
                    last = key
                    yield flags, key, value
            else:
                raise BrokenFileError(f"page {number} is neither a branch nor a leaf")

    def _page(self, number: int) -> bytes:
        size = self._meta.page_bytes
        if not 2 <= number < self._meta.pages:
            raise BrokenFileError(f"there is no page {number}")
        header = self._read(number * size, PAGE.size)
        found, _, _, overflow = PAGE.unpack(header)
        if found != number or number + overflow >= self._meta.pages:
            raise BrokenFileError(f"page {number} is another, or goes on behind the end")
        if size * (1 + overflow) > _MOST_PAGE_BYTES:
            raise BrokenFileError(f"page {number} is larger than {_MOST_PAGE_BYTES} bytes")
        return self._read(number * size, size * (1 + overflow))

    def _leaf(self, page: bytes) -> Iterator[tuple[int, bytes, bytes]]:
        for at in self._table(page, LEAF_ELEMENT.size):
            flags, position, key_bytes, value_bytes = LEAF_ELEMENT.unpack_from(page, at)
            begin = at + position
            end = begin + key_bytes + value_bytes
            if not key_bytes or end > len(page):
                raise BrokenFileError("an element lies outside of its page")
            yield flags, page[begin : begin + key_bytes], page[begin + key_bytes : end]

    def _branch(self, page: bytes) -> Iterator[int]:
        for at in self._table(page, BRANCH_ELEMENT.size):
            number: int = BRANCH_ELEMENT.unpack_from(page, at)[2]
            yield number

    def _table(self, page: bytes, element_bytes: int) -> range:
        """Where the elements of a page are."""
        if len(page) < PAGE.size:
            raise BrokenFileError("a page has no header")
        count = PAGE.unpack_from(page)[2]
        end = PAGE.size + count * element_bytes
        if end > len(page):
            raise BrokenFileError("the table of a page is larger than the page")
        return range(PAGE.size, end, element_bytes)

    def _find_meta(self) -> _Meta:
        """The newest meta page that is whole. Where the second one is depends on the size of a page, which the first
        one tells, if that is whole."""
        first = self._meta_at(0)
        sizes = _PAGE_SIZES if first is None else (first.page_bytes,)
        second = next((found for size in sizes if (found := self._meta_at(size)) and found.page_bytes == size), None)
        found = max(filter(None, (first, second)), key=lambda meta: meta.transaction, default=None)
        if found is None:
            raise BrokenFileError("it has no meta page that is whole: it is no file of bbolt's")
        if found.pages * found.page_bytes > self._size:
            raise BrokenFileError(f"it has less than its {found.pages} pages")
        return found

    def _meta_at(self, position: int) -> _Meta | None:
        size = PAGE.size + META_FIELDS.size + CHECKSUM.size
        if position + size > self._size:
            return None
        page = self._read(position, size)
        fields = page[PAGE.size : -CHECKSUM.size]
        magic, version, page_bytes, _, root, _, _, pages, transaction = META_FIELDS.unpack(fields)
        is_whole = magic == MAGIC and CHECKSUM.unpack(page[-CHECKSUM.size :])[0] == checksum(fields)
        if not is_whole or PAGE.unpack_from(page)[1] != META:
            return None
        if version != VERSION or page_bytes not in _PAGE_SIZES:
            raise BrokenFileError(f"it is of version {version} of bbolt's format, with pages of {page_bytes} bytes")
        return _Meta(page_bytes, root, pages, transaction)

    def _measure(self, *, hashed: bool) -> int:
        """The bytes of the file without its hash, which is compared if there has to be one."""
        size = os.fstat(self._file).st_size
        has_hash = size % _SECTOR == _HASH_BYTES
        content = size - _HASH_BYTES if has_hash else size
        if not hashed:
            return content
        if not has_hash:
            raise NoHashError("it does not end with its hash")
        digest = hashlib.sha256()
        for position in range(0, content, _READ_BYTES):
            digest.update(self._read(position, min(_READ_BYTES, content - position)))
        if digest.digest() != self._read(content, _HASH_BYTES):
            raise BrokenFileError("its hash is another than the one that it ends with")
        return content

    def _read(self, position: int, size: int) -> bytes:
        found = os.pread(self._file, size, position)
        if len(found) != size:
            raise BrokenFileError("it ends too early")
        return found

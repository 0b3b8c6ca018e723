"""Values larger than FoundationDB's 100,000 bytes.

A value is stored as it is, unless it is too large or happens to begin with `_MARK`. Then its row holds a head that
begins with `_MARK`, and the value lies in parts, rows of the store's own subspace that sort as their rows do:

    ROW                               _MARK, number of parts (4 bytes)
    PARTS ESCAPED-ROW 0 0 NUMBER      part

So rows of ordinary size cost neither bytes nor operations. Parts are cleared before they are written, with a range
that clears their row, and with their row where the transaction has read that it is split. What overwrites a split row
unread leaves its parts behind, unreachable, until the row is split again or its range is cleared; the engine reads
every row that can be so large before it writes it.
"""

import struct
from typing import Any

from fetch.stores.protocol import KeyTooLong

LONGEST_KEY = 10_000
_LARGEST = 90_000
_MARK = b"\xff\x00fetch split\x00"
_HEAD = struct.Struct(">I")
_NUMBER = struct.Struct(">H")


def parts_of(head: bytes) -> int:
    """The number of parts that a stored value is the head of, 0 for a value stored as it is."""
    return int(_HEAD.unpack_from(head, len(_MARK))[0]) if head.startswith(_MARK) else 0


class Parts:
    """The subspace of parts."""

    def __init__(self, prefix: bytes) -> None:
        self._prefix = prefix

    def keys(self, row: bytes, count: int) -> list[bytes]:
        """The keys of a row's parts, in their order."""
        base = self._base(row) + b"\x00"
        return [base + _NUMBER.pack(number) for number in range(count)]

    def set(self, transaction: Any, row: bytes, value: bytes) -> None:
        """Sets the row to the value, in parts if need be."""
        if len(value) <= _LARGEST and not value.startswith(_MARK):
            transaction.set(row, value)
            return
        self.clear(transaction, row)
        pieces = [value[start : start + _LARGEST] for start in range(0, len(value), _LARGEST)]
        keys = self.keys(row, len(pieces))
        if len(keys[0]) > LONGEST_KEY:
            raise KeyTooLong(f"a value of {len(value)} bytes leaves no room for a key of {len(row)} bytes")
        for key, piece in zip(keys, pieces, strict=True):
            transaction.set(key, piece)
        transaction.set(row, _MARK + _HEAD.pack(len(pieces)))

    def clear(self, transaction: Any, row: bytes) -> None:
        """Clears the parts of a row."""
        base = self._base(row)
        transaction.clear_range(base + b"\x00", base + b"\x01")

    def clear_range(self, transaction: Any, begin: bytes, end: bytes) -> None:
        """Clears the parts of all rows of [begin, end)."""
        transaction.clear_range(self._base(begin), self._base(end))

    def _base(self, row: bytes) -> bytes:
        # as the tuple layer encodes bytes: no other row's parts lie between those of one row
        return self._prefix + row.replace(b"\x00", b"\x00\xff") + b"\x00"

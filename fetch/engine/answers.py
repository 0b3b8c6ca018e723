"""Answers as bytes, in parts: stored frames go into them as they are, and nothing is decoded or copied on the way.

What is made here is joined once, when it is sent. Field numbers are etcd's, in `protos/fetch/api`.
"""

from dataclasses import dataclass, field

from fetch.engine.records import varint

HEADER = b"\x0a"
RANGE = b"\x0a"
PUT = b"\x12"
DELETE_RANGE = b"\x1a"
TXN = b"\x22"
"""The fields of ResponseOp."""

SUCCEEDED = b"\x10\x01"
RESPONSES = b"\x1a"
"""Of TxnResponse."""

COUNT = b"\x20"
_MORE = b"\x18\x01"
"""Of RangeResponse."""


@dataclass(slots=True)
class Found:
    """The answer to a range: its stored frames in their order, many of a large answer in one piece, how many keys the
    range has, at what revision it was served, and the bytes of the frames."""

    frames: list[bytes]
    more: bool
    count: int
    revision: int
    size: int = 0


@dataclass(slots=True)
class Message:
    """A message in parts, and how many bytes they are."""

    parts: list[bytes] = field(default_factory=list)
    size: int = 0

    def append(self, part: bytes) -> None:
        """Adds a field, or several, as they are."""
        self.parts.append(part)
        self.size += len(part)

    def respond(self, kind: bytes, message: "Message") -> None:
        """Adds to a TxnResponse what one of its operations answers; `kind` is the field of ResponseOp."""
        length = varint(message.size)
        self.append(RESPONSES + varint(len(kind) + len(length) + message.size) + kind + length)
        self.parts += message.parts
        self.size += message.size


@dataclass(slots=True)
class Answer:
    """The answer to a transaction: a TxnResponse without its header, served at `revision`."""

    succeeded: bool
    revision: int
    message: Message


def revision_header(revision: int) -> bytes:
    """The header of an answer within a transaction: it carries the revision alone."""
    encoded = b"\x18" + varint(revision)
    return HEADER + varint(len(encoded)) + encoded


def txn_message(*, succeeded: bool, header: bytes = b"") -> Message:
    """A TxnResponse that nothing has been answered to yet."""
    begin = header + (SUCCEEDED if succeeded else b"")
    return Message([begin], len(begin))


def range_message(header: bytes, found: Found) -> Message:
    """A RangeResponse: a header, stored frames as they are, and the two numbers behind them."""
    end = (_MORE if found.more else b"") + (COUNT + varint(found.count) if found.count else b"")
    return Message([header, *found.frames, end], len(header) + found.size + len(end))

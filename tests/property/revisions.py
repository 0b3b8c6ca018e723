"""Revisions that mean the same on two endpoints, whatever revision each starts from.

A request names a revision relative to the current one, as a number near `CURRENT`; the number is made real for each
endpoint before the request is sent. In a response, revisions are counted from where the example began, so that it
reads as if the keyspace had been new.
"""

import re
from collections.abc import Callable
from typing import TypeVar

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message

CURRENT = 1 << 40
"""Stands for the current revision in a request; `CURRENT - 1` for the one before, and so on."""

FARTHEST_BACK = 8
"""How far before the current revision a request may look."""

REVISIONS = frozenset({"revision", "create_revision", "mod_revision", "compact_revision", "hash_revision"})
"""The fields of responses that hold a revision. Zero in them means that there is none."""

M = TypeVar("M", bound=Message)


def resolve(request: M, current: int) -> M:
    """A copy of `request` whose relative revisions are counted from `current`."""

    def real(_: str, number: int) -> int:
        return current + number - CURRENT if number > CURRENT // 2 else number

    return _mapped(request, real)


def legible(request: object) -> str:
    """The request as text, in which relative revisions can be read."""
    return re.sub(r"\b10995\d{8}\b", lambda number: f"current{int(number[0]) - CURRENT:+d}", str(request))


def relative(response: M, base: int) -> M:
    """A copy of `response` as of a keyspace that was at revision 1 at `base`, and that does not tell who sent it."""

    def counted(name: str, number: int) -> int:
        if name in ("cluster_id", "member_id", "raft_term"):
            return 0
        return number - base + 1 if name in REVISIONS and number > 0 else number

    return _mapped(response, counted)


def _mapped(message: M, number: Callable[[str, int], int]) -> M:
    """A copy of `message` with every 64-bit number in it replaced."""
    copy = type(message)()
    copy.CopyFrom(message)
    _map(copy, number)
    return copy


def _map(message: Message, number: Callable[[str, int], int]) -> None:
    for field, content in message.ListFields():
        if field.type == FieldDescriptor.TYPE_MESSAGE:
            for part in content if field.is_repeated else [content]:
                _map(part, number)
        elif field.type in (FieldDescriptor.TYPE_INT64, FieldDescriptor.TYPE_UINT64) and not field.is_repeated:
            setattr(message, field.name, number(field.name, content))

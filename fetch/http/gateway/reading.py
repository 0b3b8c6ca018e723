"""Requests: a message in JSON, read into the bytes that it is in gRPC.

As Go's `encoding/json` finds a value in a text and `protojson` reads it (`encoding/protojson/decode.go`), unknown
fields passed over; errors in their words. The text is read once, in pieces that end when a slice of time is over; how
deep values lie within each other plays no part in what that costs.

One file, since where the text is read, what is open there, what is written and what was refused are one state.
"""

import json
from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import Any

from google.protobuf.descriptor import Descriptor

from fetch.engine.records import varint
from fetch.http.gateway.fields import Field, Fields, Kind, fields_of
from fetch.http.gateway.scalars import BOUNDS, bytes_of, number_of
from fetch.http.gateway.syntax import (
    DEEPEST,
    ESCAPES,
    PIECE,
    PLAIN,
    SHORT_STRING,
    SPACE,
    broken_string,
    literal_at,
    number_at,
    unexpected,
)

Reading = Generator[None, None, bytes]
"""Yields when its slice of time is over, returns the message."""

_TOKENS_AT_ONCE = 32
_PARTS_AT_ONCE = 2048
_SHOWN = 4096
"""How much of a value that is refused is shown. Go shows all of it."""


class NoMessage(Exception):  # noqa: N818  a request's, and not ours
    """The text is JSON, or begins with it, and is not this message; in protojson's words."""


@dataclass(slots=True)
class _Open:
    """An object or an array that is being read. `fields` of an object that is a message, `of` of an array's elements;
    what has neither is passed over."""

    is_object: bool
    fields: Fields | None = None
    of: Field | None = None
    place: int = 0
    """Where its head belongs in the message."""
    before: int = 0
    """The bytes before it."""
    tag: bytes = b""
    seen: set[object] | None = None
    """Numbers of the fields, and names of the oneofs, that have come."""


def read(text: bytes, message: Descriptor, is_spent: Callable[[], bool]) -> Reading:
    """Reads the first value of a text, which the message is; what stands behind it is not looked at.

    :raises SyntaxFailure: :raises NoMessage:
    """
    return _Reader(text, fields_of(message), is_spent).read()


class _Reader:
    def __init__(self, text: bytes, fields: Fields, is_spent: Callable[[], bool]) -> None:
        self._text, self._fields, self._is_spent = text, fields, is_spent
        self._at = self._begin = 0
        self._out: list[bytes] = []
        self._size = 0
        self._within: list[_Open] = []
        self._refusal: NoMessage | None = None

    def read(self) -> Reading:
        yield from self._pass_space()
        self._begin = self._at
        target: Any = self._fields
        tokens = 0
        while True:
            tokens += 1
            if tokens % _TOKENS_AT_ONCE == 0 and self._is_spent():
                yield
            # here a value begins, which is for `target`
            opened = yield from self._value(target)
            if not opened:
                yield from self._pass_space()
            while self._within:
                level = self._within[-1]
                closer = b"}" if level.is_object else b"]"
                byte = self._text[self._at : self._at + 1]
                if byte == closer:
                    self._at += 1
                    self._close()
                    opened = False
                    tokens += 1
                    if tokens % _TOKENS_AT_ONCE == 0 and self._is_spent():
                        yield
                    yield from self._pass_space()
                    continue
                if not opened:
                    if byte != b",":
                        where = "after object key:value pair" if level.is_object else "after array element"
                        raise unexpected(self._text, self._at, where)
                    self._at += 1
                    yield from self._pass_space()
                break
            else:
                return (yield from self._whole())
            target = (yield from self._name(level)) if level.is_object else self._element(level)

    def _whole(self) -> Reading:
        if self._refusal is not None:
            raise self._refusal
        parts: list[bytes] = []
        while self._out:  # from its end, and little by little: to let go of a million is long, too
            parts.append(b"".join(self._out[-_PARTS_AT_ONCE:]))
            del self._out[-_PARTS_AT_ONCE:]
            if self._is_spent():
                yield
        parts.reverse()
        return b"".join(parts)

    def _pass_space(self) -> Generator[None, None, None]:
        while True:
            matched = SPACE.match(self._text, self._at)
            end = matched.end() if matched else self._at
            full = end - self._at == PIECE
            self._at = end
            if not full:
                return
            if self._is_spent():
                yield

    # names and elements

    def _name(self, level: _Open) -> Generator[None, None, Any]:
        """Reads a name and its colon; whom the value behind them is for."""
        start = self._at
        if self._text[start : start + 1] != b'"':
            raise unexpected(self._text, start, "looking for beginning of object key string")
        raw = yield from self._string()
        name_end = self._at
        yield from self._pass_space()
        if self._text[self._at : self._at + 1] != b":":
            raise unexpected(self._text, self._at, "after object key")
        self._at += 1
        yield from self._pass_space()
        if level.fields is None or self._refusal is not None:
            return None
        name = self._decoded(raw, start)
        found = level.fields.by_name.get(name) if name is not None else None
        if found is None:
            return None
        if level.seen is None:
            level.seen = set()
        if found.number in level.seen:
            self._refuse(start, f"duplicate field {self._raw(start, name_end)}")
            return None
        level.seen.add(found.number)
        if self._text.startswith(b"null", self._at):
            return None
        if found.oneof:
            if found.oneof in level.seen:
                told = f"error parsing {self._raw(start, name_end)}, oneof {found.oneof} is already set"
                self._refuse(start, told)
                return None
            level.seen.add(found.oneof)
        return found

    def _element(self, level: _Open) -> Any:
        return None if level.of is None or self._refusal is not None else (level.of,)

    # values

    def _value(self, target: Any) -> Generator[None, None, bool]:
        """Reads a value, or the beginning of an object or an array: whether it was that.

        `target` is the fields of the outermost message, a field, an array's element (in a tuple), or None.
        """
        start = self._at
        byte = self._text[start : start + 1]
        if byte in (b"{", b"["):
            self._at += 1
            self._open(target, start, is_object=byte == b"{")
            yield from self._pass_space()
            return True
        if byte == b'"':
            raw = yield from self._string()
            if target is not None:
                yield from self._take_string(target, start, raw)
            elif not raw.isascii():
                self._decoded(raw, start)
            return False
        if byte == b"-" or byte.isdigit():
            self._at = number_at(self._text, start)
        else:
            self._at += len(literal_at(self._text, start))
        if target is not None:
            self._take_bare(target, start)
        return False

    def _open(self, target: Any, start: int, *, is_object: bool) -> None:
        if len(self._within) >= DEEPEST:
            raise unexpected(self._text, start, "exceeded max depth")
        level = _Open(is_object)
        self._within.append(level)
        if target is None:
            return
        if isinstance(target, Fields):
            if is_object:
                level.fields = target
            else:
                self._refuse_token(start)
            return
        is_element = isinstance(target, tuple)
        found: Field = target[0] if is_element else target
        if found.is_repeated and not is_element:
            if is_object:
                self._refuse_token(start)
            else:
                level.of = found
        elif found.kind is Kind.MESSAGE:
            if not is_object:
                self._refuse_token(start)
                return
            level.fields = found.fields
            level.tag, level.place, level.before = found.tag, len(self._out), self._size
            self._out.append(b"")
        else:
            self._refuse_value(start, found)

    def _close(self) -> None:
        level = self._within.pop()
        if level.tag and self._refusal is None:
            head = level.tag + varint(self._size - level.before)
            self._out[level.place] = head
            self._size += len(head)

    def _take_bare(self, target: Any, start: int) -> None:
        """Takes a number or a literal."""
        found = self._scalar_of(target, start)
        if found is None:
            return
        raw = self._text[start : self._at].decode()
        if found.kind is Kind.BOOL and raw in ("true", "false"):
            self._put_number(found, int(raw == "true"))
        elif found.kind in BOUNDS and (number := number_of(raw, found.kind)) is not None:
            self._put_number(found, number)
        else:
            self._refuse_value(start, found)

    def _take_string(self, target: Any, start: int, raw: bytes) -> Generator[None, None, None]:
        found = self._scalar_of(target, start)
        if found is None:
            return
        if found.kind is Kind.BYTES:
            yield from self._take_bytes(found, start, raw)
            return
        text = self._decoded(raw, start)
        if text is None:
            return
        if found.kind is Kind.STRING:
            self._put(found, text.encode())
        elif found.kind is Kind.ENUM:
            # a name that there is not is passed over, as an unknown field is
            if (number := found.numbers.get(text)) is not None:
                self._put_number(found, number)
        elif found.kind in BOUNDS and (number := number_of(text, found.kind)) is not None:
            self._put_number(found, number)
        else:
            self._refuse_value(start, found)

    def _take_bytes(self, found: Field, start: int, raw: bytes) -> Generator[None, None, None]:
        if b"\\" in raw or not raw.isascii():
            text = self._decoded(raw, start)
            if text is None:
                return
            raw = text.encode()
        value = yield from bytes_of(raw, self._is_spent)
        if value is None:
            self._refuse_value(start, found)
        else:
            self._put(found, value)

    def _scalar_of(self, target: Any, start: int) -> Field | None:
        """The field that a scalar is for; None, and the value refused, where that is none."""
        if isinstance(target, tuple):
            found: Field = target[0]
        elif isinstance(target, Field) and not target.is_repeated:
            found = target
        else:
            self._refuse_token(start)
            return None
        if found.kind is Kind.MESSAGE:
            self._refuse_token(start)
            return None
        return found

    def _put(self, found: Field, value: bytes) -> None:
        if value or found.is_kept_when_zero:
            self._out += (found.tag + varint(len(value)), value)
            self._size += len(self._out[-2]) + len(value)

    def _put_number(self, found: Field, number: int) -> None:
        if number or found.is_kept_when_zero:
            self._out.append(found.tag + varint(number))
            self._size += len(self._out[-1])

    # strings

    def _string(self) -> Generator[None, None, bytes]:
        """Reads a string; what stands between its quotes, escapes as they are."""
        matched = SHORT_STRING.match(self._text, self._at)
        if matched is not None:
            self._at = matched.end()
            return matched[1]
        begin = at = self._at + 1
        while True:
            before = at
            for pattern in (PLAIN, ESCAPES):
                if (piece := pattern.match(self._text, at)) is not None:
                    at = piece.end()
            if self._text[at : at + 1] == b'"':
                self._at = at + 1
                return self._text[begin:at]
            if at == before:
                raise broken_string(self._text, at)
            if self._is_spent():
                yield

    def _decoded(self, raw: bytes, start: int) -> str | None:
        """The text of a string; None, and the value refused, where it is none."""
        try:
            text = raw.decode()
            if "\\" in text:
                text = json.loads(f'"{text}"')
                text.encode()
        except UnicodeDecodeError:
            self._refuse(start, "invalid UTF-8 in string", "syntax error ")
            return None
        except UnicodeEncodeError:  # half of a character
            self._refuse(start, "invalid escape code in string", "syntax error ")
            return None
        return text

    # refusals

    def _raw(self, start: int, end: int) -> str:
        return self._text[start:end].decode("utf-8", "replace")

    def _refuse(self, at: int, why: str, kind: str = "") -> None:
        if self._refusal is None:
            before = self._text[self._begin : at]
            line, column = before.count(b"\n") + 1, len(before.rpartition(b"\n")[2].decode("utf-8", "replace")) + 1
            self._refusal = NoMessage(f"proto: {kind}(line {line}:{column}): {why}")
            self._out.clear()

    def _refuse_token(self, start: int) -> None:
        self._refuse(start, f"unexpected token {self._token(start)}", "syntax error ")

    def _refuse_value(self, start: int, found: Field) -> None:
        why = f"invalid value for {found.kind.value} field {found.json_name}: {self._token(start)}"
        self._refuse(start, why)

    def _token(self, start: int) -> str:
        if self._text[start : start + 1] in (b"{", b"["):
            return chr(self._text[start])
        return self._raw(start, min(self._at, start + _SHOWN))

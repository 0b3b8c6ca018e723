"""Answers: a message as it is in gRPC, written as JSON.

As `protojson` writes it with etcd's options (`encoding/protojson/encode.go`): names as they are in protobuf, nothing
that is zero, numbers of 64 bits as texts. Fields come in the order of their numbers, which all etcd's messages declare
them in. What is written is made piece by piece from the bytes, however many and however deep within each other.
"""

import binascii
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from google.protobuf.descriptor import Descriptor

from fetch.http.gateway.fields import Field, Fields, Kind, fields_of

PIECE = 32 << 10
"""About how large a piece is."""

_FIELDS_AT_ONCE = 32
_BLOB = 24 << 10  # a multiple of three, so that its base64 goes on behind it
_SIGN, _ALL = 1 << 63, 1 << 64
_HTML = {"<": r"\u003c", ">": r"\u003e", "&": r"\u0026", "\u2028": r"\u2028", "\u2029": r"\u2029"}
_FOR_HTML = str.maketrans(_HTML)


@dataclass(slots=True)
class _Level:
    """A message that is being written, up to where it ends. `array` is the field whose elements come."""

    fields: Fields
    end: int
    is_first: bool = True
    array: Field | None = None


def write(
    message: bytes, descriptor: Descriptor, is_spent: Callable[[], bool], *, for_html: bool = False
) -> Iterator[bytes]:
    """The message in pieces, each at most a few times `PIECE`. One that is made when a slice of time is over may be
    empty. `for_html`: as Go's `encoding/json` writes texts, which an HTML page may hold."""
    return _Writer(message, is_spent, for_html=for_html).write(descriptor)


def string(text: str, *, for_html: bool = False) -> bytes:
    """A text as JSON."""
    written = json.dumps(text, ensure_ascii=False)
    return (written.translate(_FOR_HTML) if for_html else written).encode("utf-8", "replace")


class _Writer:
    def __init__(self, message: bytes, is_spent: Callable[[], bool], *, for_html: bool) -> None:
        self._message, self._is_spent, self._for_html = message, is_spent, for_html
        self._at = 0
        self._out: list[bytes] = []
        self._size = 0

    def write(self, descriptor: Descriptor) -> Iterator[bytes]:
        levels = [_Level(fields_of(descriptor), len(self._message))]
        self._say(b"{")
        count = 0
        while levels:
            level = levels[-1]
            count += 1
            if self._size >= PIECE or (count % _FIELDS_AT_ONCE == 0 and self._is_spent()):
                yield self._taken()
            if self._at >= level.end:
                self._say(b"]}" if level.array is not None else b"}")
                levels.pop()
                continue
            tag = self._varint()
            field = level.fields.by_tag.get(tag)
            if field is None:
                self._pass_over(tag & 7)
            elif field.kind is Kind.MESSAGE:
                self._begin(level, field)
                self._say(b"{")
                end = self._varint()  # its length, from behind which it counts
                levels.append(_Level(field.fields, self._at + end))
            elif field.kind is Kind.BYTES:
                yield from self._write_bytes(level, field)
            elif field.kind is Kind.STRING:
                text = self._bytes()
                if text or field.is_kept_when_zero:
                    self._begin(level, field)
                    self._say(string(text.decode("utf-8", "replace"), for_html=self._for_html))
            elif tag & 7 == 2:  # many numbers in one
                end = self._varint()
                end += self._at
                while self._at < end:
                    self._write_number(level, field, self._varint())
            else:
                self._write_number(level, field, self._varint())
        yield self._taken()

    def _begin(self, level: _Level, field: Field) -> None:
        """Writes what stands before a value."""
        if level.array is field:
            self._say(b",")
            return
        if level.array is not None:
            self._say(b"]")
            level.array = None
        self._say(field.label if level.is_first else b"," + field.label)
        level.is_first = False
        if field.is_repeated:
            self._say(b"[")
            level.array = field

    def _write_number(self, level: _Level, field: Field, number: int) -> None:
        if not number and not field.is_kept_when_zero:
            return
        self._begin(level, field)
        match field.kind:
            case Kind.INT64:
                self._say(b'"%d"' % (number - _ALL if number & _SIGN else number))
            case Kind.UINT64:
                self._say(b'"%d"' % number)
            case Kind.BOOL:
                self._say(b"true" if number else b"false")
            case Kind.ENUM:
                number = number - _ALL if number & _SIGN else number
                self._say(field.names.get(number) or b"%d" % number)
            case _:
                self._say(b"%d" % number)

    def _write_bytes(self, level: _Level, field: Field) -> Iterator[bytes]:
        length = self._varint()
        if not length and not field.is_kept_when_zero:
            return
        self._begin(level, field)
        self._say(b'"')
        end = self._at + length
        for at in range(self._at, end, _BLOB):
            self._say(binascii.b2a_base64(self._message[at : min(at + _BLOB, end)], newline=False))
            if self._size >= PIECE:
                yield self._taken()
        self._at = end
        self._say(b'"')

    def _say(self, text: bytes) -> None:
        self._out.append(text)
        self._size += len(text)

    def _taken(self) -> bytes:
        piece = b"".join(self._out)
        self._out, self._size = [], 0
        return piece

    def _varint(self) -> int:
        message, at = self._message, self._at
        byte = message[at]
        at += 1
        number = byte & 127
        shift = 7
        while byte > 127:
            byte = message[at]
            at += 1
            number |= (byte & 127) << shift
            shift += 7
        self._at = at
        return number

    def _bytes(self) -> bytes:
        length = self._varint()
        begin = self._at
        self._at += length
        return self._message[begin : self._at]

    def _pass_over(self, wire_type: int) -> None:
        """Passes over a field that there is not."""
        match wire_type:
            case 0:
                self._varint()
            case 1:
                self._at += 8
            case 2:
                self._bytes()
            case _:
                self._at += 4

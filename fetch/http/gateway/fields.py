"""What JSON needs to know of a message: its fields, by their names and by their numbers.

Of protobuf's kinds those are known that etcd's messages have; any other fails when its message is first looked at.
"""

from dataclasses import dataclass
from enum import Enum
from functools import cache
from typing import Any

from google.protobuf.descriptor import Descriptor, FieldDescriptor

from fetch.engine.records import varint

_VARINT, _LENGTH = 0, 2


class Kind(Enum):
    """A kind of field, as errors name it."""

    INT64 = "int64"
    UINT64 = "uint64"
    UINT32 = "uint32"
    BOOL = "bool"
    ENUM = "enum"
    STRING = "string"
    BYTES = "bytes"
    MESSAGE = "message"


_KINDS = {
    FieldDescriptor.TYPE_INT64: Kind.INT64,
    FieldDescriptor.TYPE_UINT64: Kind.UINT64,
    FieldDescriptor.TYPE_UINT32: Kind.UINT32,
    FieldDescriptor.TYPE_BOOL: Kind.BOOL,
    FieldDescriptor.TYPE_ENUM: Kind.ENUM,
    FieldDescriptor.TYPE_STRING: Kind.STRING,
    FieldDescriptor.TYPE_BYTES: Kind.BYTES,
    FieldDescriptor.TYPE_MESSAGE: Kind.MESSAGE,
}
_DELIMITED = frozenset({Kind.STRING, Kind.BYTES, Kind.MESSAGE})


@dataclass(frozen=True, slots=True)
class Field:
    """A field of a message.

    `tag` is what stands before it in bytes, `label` in JSON. `oneof` is the full name of the one that it is in.
    """

    number: int
    name: str
    json_name: str
    kind: Kind
    is_repeated: bool
    is_kept_when_zero: bool
    oneof: str
    tag: bytes
    label: bytes
    numbers: dict[str, int]
    """The numbers of an enum's names."""
    names: dict[int, bytes]
    """The names of an enum's numbers, as JSON."""
    descriptor: Descriptor | None
    """Of the message that it is."""

    @property
    def fields(self) -> "Fields":
        """The fields of the message that it is."""
        assert self.descriptor is not None  # noqa: S101  only asked of messages
        return fields_of(self.descriptor)


@dataclass(frozen=True, slots=True)
class Fields:
    """The fields of a message."""

    by_name: dict[str, Field]
    by_tag: dict[int, Field]


@cache
def fields_of(message: Descriptor) -> Fields:
    """The fields of a message, made once."""
    fields = [_field(descriptor) for descriptor in message.fields]
    # where one field's JSON name is another's name, the JSON name goes first
    by_name = {field.name: field for field in fields} | {field.json_name: field for field in fields}
    packed = {_tag(field.number, _LENGTH): field for field in fields if field.is_repeated}
    return Fields(by_name, packed | {int_of(field.tag): field for field in fields})


def int_of(encoded: bytes) -> int:
    """The number that is written in protobuf's base-128 form."""
    return sum((byte & 127) << 7 * place for place, byte in enumerate(encoded))


def _tag(number: int, wire_type: int) -> int:
    return number << 3 | wire_type


def _field(descriptor: Any) -> Field:
    kind = _KINDS[descriptor.type]
    values = descriptor.enum_type.values if kind is Kind.ENUM else ()
    oneof = descriptor.containing_oneof
    return Field(
        descriptor.number,
        descriptor.name,
        descriptor.json_name,
        kind,
        descriptor.is_repeated,
        descriptor.is_repeated or descriptor.has_presence,
        oneof.full_name if oneof is not None else "",
        varint(_tag(descriptor.number, _LENGTH if kind in _DELIMITED else _VARINT)),
        f'"{descriptor.name}":'.encode(),
        {value.name: value.number for value in values},
        {value.number: f'"{value.name}"'.encode() for value in values},
        descriptor.message_type,
    )

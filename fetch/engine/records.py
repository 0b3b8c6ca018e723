"""Stored and sent forms of keys and events.

A KeyValue is stored as it is sent: serialized and framed as field 2, `kvs` of RangeResponse. The same frame is field 2,
`kv` of an Event. So a list is a join of stored bytes, an event is the frame with its type before and the previous value
behind, and nothing is decoded on the way out. Field numbers are etcd's, in `protos/fetch/api`.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass

from fetch.api.kv_pb2 import KeyValue
from fetch.api.rpc_pb2 import RangeResponse

_DELETE = b"\x08\x01"
_PREVIOUS = b"\x1a"
_KV = b"\x12"
_EVENT_FIELD = b"\x5a"
_VALUE = 0x2A
_DELETE_BYTES = 256
_NO_TIME = bytes(8)
# create_revision, mod_revision and version of a KeyValue, which lie between its key and its value; zeros are left out
_NUMBERS = re.compile(
    rb"(?:\x10([\x80-\xff]*[\x00-\x7f]))?(?:\x18([\x80-\xff]*[\x00-\x7f]))?(?:\x20([\x80-\xff]*[\x00-\x7f]))?"
)


def varint(number: int) -> bytes:
    """A number in protobuf's base-128 form; negative ones as 64 bits in two's complement."""
    if 0 <= number < 128:
        return _SMALL[number]
    if number < 0:
        number &= (1 << 64) - 1
    encoded = bytearray()
    while number > 127:
        encoded.append(number & 127 | 128)
        number >>= 7
    encoded.append(number)
    return bytes(encoded)


_SMALL = [bytes((number,)) for number in range(128)]


def frame(key: bytes, value: bytes, create_revision: int, mod_revision: int, version: int, lease: int) -> bytes:
    """A KeyValue as it is stored."""
    encoded = KeyValue(
        key=key, create_revision=create_revision, mod_revision=mod_revision, version=version, value=value, lease=lease
    ).SerializeToString()
    return _KV + varint(len(encoded)) + encoded


def key_value(stored: bytes) -> KeyValue:
    """The KeyValue of a stored frame."""
    return RangeResponse.FromString(stored).kvs[0]


def key_values(stored: Iterable[bytes]) -> list[KeyValue]:
    """The KeyValues of many stored frames, decoded at once."""
    return list(RangeResponse.FromString(b"".join(stored)).kvs)


def key_of(stored: bytes) -> bytes:
    """The key of a stored frame."""
    begin, end = _message_and_numbers(stored)
    return stored[_length(stored, begin + 1)[1] : end]


def numbers_of(stored: bytes) -> tuple[int, int, int]:
    """(create_revision, mod_revision, version) of a stored frame. Takes 1 µs, however long the value is."""
    found = _NUMBERS.match(stored, _message_and_numbers(stored)[1])
    create, mod, version = found.groups(b"") if found else (b"", b"", b"")
    return _number(create), _number(mod), _number(version)


def mod_revision_of(stored: bytes) -> int:
    """The mod_revision of a stored frame."""
    found = _NUMBERS.match(stored, _message_and_numbers(stored)[1])
    return _number(found[2] or b"") if found else 0


def value_of(stored: bytes) -> bytes:
    """The value of a stored frame."""
    begin, end = _value(stored, _message_and_numbers(stored)[1])
    return stored[begin:end]


def without_value(stored: bytes, *, keep_lease: bool) -> bytes:
    """The frame as `keys_only` has it: cut from the stored one, whose value is not looked at."""
    begin, numbers = _message_and_numbers(stored)
    found = _NUMBERS.match(stored, numbers)
    end = found.end() if found else numbers
    bare = stored[begin:end]
    if keep_lease:
        bare += stored[_value(stored, numbers)[1] :]
    return _KV + varint(len(bare)) + bare


def put_event(current: bytes, previous: bytes | None) -> bytes:
    """An event as it is stored, of two stored frames: a put."""
    return current if previous is None else current + _PREVIOUS + previous[1:]


def delete_event(key: bytes, revision: int, previous: bytes | None) -> bytes:
    """An event as it is stored: a delete. Its KeyValue has the key and the revision of the deletion, as etcd's has."""
    encoded = KeyValue(key=key, mod_revision=revision).SerializeToString()
    event = _DELETE + _KV + varint(len(encoded)) + encoded
    return event if previous is None else event + _PREVIOUS + previous[1:]


def message_of(stored: bytes) -> bytes:
    """The KeyValue of a stored frame, encoded: the frame without its field's tag and length."""
    return stored[_message_and_numbers(stored)[0] :]


def deleted_key(key: bytes) -> bytes:
    """The encoded KeyValue that etcd stores for a deletion: it has the key alone."""
    return KeyValue(key=key).SerializeToString()


def size_of_delete(row: bytes, stored: bytes) -> int:
    """About the bytes that a store writes for the delete of a row: the event with the value, and three keys."""
    return len(stored) + 3 * len(row) + _DELETE_BYTES


def is_ending(granted: bytes) -> bool:
    """Whether a lease's grant, as it is stored, has no time to live: its keys are being deleted."""
    return granted.startswith(_NO_TIME)


@dataclass(slots=True)
class StoredEvent:
    """An event of the log: `encoded` is an mvccpb.Event, whose first `bare` bytes are the event without prev_kv.

    `held` counts the feeds of watches that hold it.
    """

    revision: int
    key: bytes
    encoded: bytes
    bare: int
    deleted: bool
    held: int = 0

    @classmethod
    def parse(cls, revision: int, encoded: bytes) -> "StoredEvent":
        """An event from its row in the log."""
        deleted = encoded[0] == _DELETE[0]
        length, at = _length(encoded, 3 if deleted else 1)
        key_length, key_at = _length(encoded, at + 1)
        return cls(revision, encoded[key_at : key_at + key_length], encoded, at + length, deleted)

    @property
    def created(self) -> bool:
        """Whether the event is the key's first put, or its first since it was deleted."""
        return not self.deleted and self.bare == len(self.encoded)

    def previous(self) -> bytes | None:
        """The stored frame of the previous value; None for a key's first put."""
        return _KV + self.encoded[self.bare + 1 :] if self.bare < len(self.encoded) else None

    def framed(self, *, previous: bool) -> bytes:
        """The event as a field of WatchResponse, with or without its previous value. Not kept, since it is as large
        as the event."""
        if previous:
            return _EVENT_FIELD + varint(len(self.encoded)) + self.encoded
        return _EVENT_FIELD + varint(self.bare) + self.encoded[: self.bare]


def _message_and_numbers(stored: bytes) -> tuple[int, int]:
    """Where the KeyValue of a stored frame begins, and where its numbers do, which is behind its key."""
    begin = 2
    while stored[begin - 1] > 127:
        begin += 1
    length = stored[begin + 1]
    if length < 128:
        return begin, begin + 2 + length
    length, key_at = _length(stored, begin + 1)
    return begin, key_at + length


def _value(stored: bytes, numbers: int) -> tuple[int, int]:
    """Where the value of a stored frame begins and ends, whose numbers begin at a position."""
    found = _NUMBERS.match(stored, numbers)
    at = found.end() if found else numbers
    if at == len(stored) or stored[at] != _VALUE:
        return at, at
    length, begin = _length(stored, at + 1)
    return begin, begin + length


def _number(encoded: bytes) -> int:
    """The number of a varint."""
    number = 0
    for byte in reversed(encoded):
        number = number << 7 | byte & 127
    return number


def _length(encoded: bytes, at: int) -> tuple[int, int]:
    """A varint at a position, and the position behind it."""
    number = shift = 0
    while True:
        byte = encoded[at]
        at += 1
        number |= (byte & 127) << shift
        if byte < 128:
            return number, at
        shift += 7

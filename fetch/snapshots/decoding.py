"""What the rows of an etcd's buckets say, each looked at before it is believed.

Rows are as etcd writes them, or refused: what they are stored as is made of their own bytes.
"""

import struct
from dataclasses import dataclass

from google.protobuf.message import DecodeError

from fetch.api.kv_pb2 import KeyValue
from fetch.api.rpc_pb2 import AlarmMember, AlarmType
from fetch.engine.lease import LONGEST_TTL, SHORTEST_TTL
from fetch.engine.loading import Change, Granted
from fetch.engine.records import varint
from fetch.snapshots.reader import BrokenFileError, Row

_REVISION = struct.Struct(">Q1sQ")
_LEASE = struct.Struct(">q")
_SEPARATOR = b"_"
_TOMBSTONE = b"t"
_FRAME = b"\x12"

FIRST_CHANGE = 2
"""The revision of the first change of an etcd."""

MOST_REVISION = (1 << 63) - 2
_MOST_SUB = (1 << 32) - 1
_SIGN = 1 << 63


@dataclass(frozen=True, slots=True)
class Decoded:
    """A row of bucket `key`: its revision and sub, and what was changed.

    No change is what `etcdutl snapshot restore --bump-revision` puts there: a row that is there for its revision.
    """

    revision: int
    sub: int
    change: Change | None


def change_of(row: Row) -> Decoded:
    """A change of bucket `key`.

    :raises BrokenFileError:
    """
    revision, sub, is_deletion = revision_of(row[0])
    if not FIRST_CHANGE <= revision <= MOST_REVISION or sub > _MOST_SUB:
        raise BrokenFileError(f"a change is of revision {revision}, the {sub}th of it")
    if not row[1] and not is_deletion:
        return Decoded(revision, sub, None)
    try:
        kv = KeyValue.FromString(row[1])
    except DecodeError as error:
        raise BrokenFileError(f"a change of revision {revision} cannot be read") from error
    if not kv.key or kv.SerializeToString() != row[1]:
        raise BrokenFileError(f"a change of revision {revision} is not as etcd writes it")
    if is_deletion:
        if len(row[1]) != len(varint(len(kv.key))) + 1 + len(kv.key):
            raise BrokenFileError(f"a deletion of revision {revision} has more than a key")
        return Decoded(revision, sub, Change(revision, sub, kv.key, None))
    if kv.mod_revision != revision or not 0 < kv.create_revision <= revision or kv.version < 1:
        raise BrokenFileError(f"a key of revision {revision} has revisions that do not fit together")
    frame = _FRAME + varint(len(row[1])) + row[1]
    return Decoded(revision, sub, Change(revision, sub, kv.key, frame, kv.lease))


def revision_of(packed: bytes) -> tuple[int, int, bool]:
    """(revision, sub, whether it is a deletion) of a packed revision.

    :raises BrokenFileError:
    """
    mark = packed[_REVISION.size :]
    if len(packed) < _REVISION.size or mark not in (b"", _TOMBSTONE):
        raise BrokenFileError("a revision is not as etcd writes it")
    revision, separator, sub = _REVISION.unpack_from(packed)
    if separator != _SEPARATOR or revision > MOST_REVISION:
        raise BrokenFileError("a revision is not as etcd writes it")
    return revision, sub, bool(mark)


def lease_of(row: Row) -> Granted:
    """A lease of bucket `lease`, a `leasepb.Lease`.

    :raises BrokenFileError:
    """
    numbers = _numbers(row[1])
    lease, ttl, remaining = (numbers.get(number, 0) for number in (1, 2, 3))
    if len(row[0]) != _LEASE.size or _LEASE.unpack(row[0])[0] != lease or not lease:
        raise BrokenFileError("a lease is not as etcd writes it")
    if not 0 <= remaining <= LONGEST_TTL or not 0 <= ttl <= LONGEST_TTL:
        raise BrokenFileError(f"lease {lease:x} has {ttl} seconds to live")
    ttl = max(ttl, SHORTEST_TTL)
    return Granted(lease, ttl, min(remaining, ttl) or ttl)


def alarm_of(row: Row) -> tuple[int, int]:
    """(member, type) of an alarm of bucket `alarm`.

    :raises BrokenFileError:
    """
    try:
        alarm = AlarmMember.FromString(row[0])
    except DecodeError as error:
        raise BrokenFileError("an alarm cannot be read") from error
    if alarm.alarm not in AlarmType.values():
        raise BrokenFileError(f"there is no alarm of type {alarm.alarm}")
    return alarm.memberID, int(alarm.alarm)


def _numbers(encoded: bytes) -> dict[int, int]:
    """The fields of a message that has only numbers in it.

    :raises BrokenFileError:
    """
    numbers: dict[int, int] = {}
    at = 0
    while at < len(encoded):
        tag, at = _varint(encoded, at)
        number, at = _varint(encoded, at)
        if tag & 7:
            raise BrokenFileError("a lease cannot be read")
        numbers[tag >> 3] = number - 2 * _SIGN if number & _SIGN else number
    return numbers


def _varint(encoded: bytes, at: int) -> tuple[int, int]:
    number = 0
    for shift in range(0, 70, 7):
        if at == len(encoded):
            break
        byte = encoded[at]
        at += 1
        number |= (byte & 127) << shift
        if byte < 128:
            return number & (2 * _SIGN - 1), at
    raise BrokenFileError("a lease cannot be read")

"""A tenant's alarms: which member raised which, as etcd keeps them. A tenant of fetch has one member."""

import struct
from collections.abc import Iterable

from fetch.api.rpc_pb2 import AlarmType

MEMBER_ID = 0x66657463680001

MOST = 64
"""How many alarms a tenant may have: they lie in one row, which every batch reads."""

Alarms = frozenset[tuple[int, int]]
"""(member ID, type of alarm) of each."""

_ALARM = struct.Struct(">QB")
NO_SPACE = (MEMBER_ID, int(AlarmType.NOSPACE))


def pack(alarms: Iterable[tuple[int, int]]) -> bytes:
    """The stored form."""
    return b"".join(_ALARM.pack(*alarm) for alarm in sorted(alarms))


def unpack(stored: bytes | None) -> Alarms:
    """Alarms from their stored form."""
    return frozenset(_ALARM.iter_unpack(stored or b""))


def is_full(alarms: Alarms) -> bool:
    """Whether any member is out of space."""
    return any(kind == AlarmType.NOSPACE for _, kind in alarms)

"""What etcd keeps in which bucket, and how (etcd: `server/storage/schema`, `server/storage/mvcc/revision.go`)."""

import json
import struct
from collections.abc import Iterable

from fetch.api.kv_pb2 import KeyValue
from fetch.api.rpc_pb2 import AlarmMember
from fetch.engine.records import varint

KEY = b"key"
LEASE = b"lease"
ALARM = b"alarm"
META = b"meta"
EMPTY = (b"auth", b"authRoles", b"authUsers", b"cluster", b"members", b"members_removed")
"""Buckets that etcd expects and fetch has nothing for. Restoring fills in the members."""

FINISHED_COMPACTION = b"finishedCompactRev"
SCHEDULED_COMPACTION = b"scheduledCompactRev"
STORAGE_VERSION = "3.6.0"
"""The oldest storage version that says so. What 3.7 stores is no different, but 3.6 refuses a file that claims to be
newer than itself; 3.5 does not look."""

_REVISION = struct.Struct(">Q1sQ")
_NUMBER = struct.Struct(">Q")
_LEASE = struct.Struct(">q")
_SEPARATOR = b"_"
_TOMBSTONE = b"t"


def revision_key(revision: int, sub: int, *, deleted: bool = False) -> bytes:
    """The key of one change in bucket `key`."""
    packed = _REVISION.pack(revision, _SEPARATOR, sub)
    return packed + _TOMBSTONE if deleted else packed


def tombstone(key: bytes) -> bytes:
    """The value of a deletion in bucket `key`."""
    return KeyValue(key=key).SerializeToString()


def lease_row(lease: int, ttl: int) -> tuple[bytes, bytes]:
    """The row of a lease: a `leasepb.Lease`, which has etcd's server start its whole time to live anew, as after an
    election.

    It has a field for what is left of the time. An etcd without the feature `LeaseCheckpoint`, as it is by default,
    would give the lease that much at each later renewal too (`lessor.Renew`), so it is left out, as that etcd does.
    """
    return _LEASE.pack(lease), b"\x08" + varint(lease) + b"\x10" + varint(ttl)


def alarm_rows(alarms: Iterable[tuple[int, int]]) -> list[tuple[bytes, bytes]]:
    """The rows of alarms, each a member and a type."""
    return sorted((AlarmMember(memberID=member, alarm=kind).SerializeToString(), b"") for member, kind in alarms)  # type: ignore[arg-type]


def meta_rows(compacted: int, *, index: int, term: int, member: int) -> list[tuple[bytes, bytes]]:
    """The rows that tell where the log of a cluster with one member has got to, and what was compacted; -1: nothing."""
    conf_state = json.dumps({"voters": [member], "auto_leave": False}, separators=(",", ":"))
    rows = {
        b"confState": conf_state.encode(),
        b"consistent_index": _NUMBER.pack(index),
        b"storageVersion": STORAGE_VERSION.encode(),
        b"term": _NUMBER.pack(term),
    }
    if compacted >= 0:
        rows[FINISHED_COMPACTION] = rows[SCHEDULED_COMPACTION] = revision_key(compacted, 0)
    return sorted(rows.items())

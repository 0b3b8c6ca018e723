"""Where a tenant's data lies: every key that the engine stores is made here.

    PREFIX r                        the last revision, 8 bytes; one more where the tenant is closed (`Closed`); a mark
                                    (`LoadingMark`) while there is none to be served
    PREFIX m NAME                   metadata: compacted, usage, alarms, retained (`retention`), writer (`writer`)
    PREFIX k KEY                    the current KeyValue, framed (see `records`)
    PREFIX h ESCAPED-KEY REVISION   sub, 4 bytes: the event of REVISION superseded a value of KEY
    PREFIX e REVISION SUB           the event, an mvccpb.Event with its previous value
    PREFIX s KEY                    (revision, sub) of a change of KEY that compaction has cleared, where sub is not 0
    PREFIX l ID                     a lease's grant
    PREFIX a ID KEY                 the key is attached to the lease
    PREFIX x NAME / …               what an extension keeps in the tenant

What belongs to no tenant, under the store's `shared_prefix`:

    SHARED 0x02 EXPIRY LEASE PREFIX   the tenant's name: the queue of leases, one for all tenants so that a daemon
                                      waits on its head alone
    SHARED 0x03 format                the format of all this, a number in decimal (see `format`)
    SHARED 0x03 served                how long tenants have been served, and since when without a gap (see `served`)
    SHARED 0x04 DAEMON                a daemon that serves them, and where (see `fetch/peers/members.py`)

Revisions are 8 bytes and subs 4, big-endian, so that they sort as numbers. Expiries are milliseconds of the time that
`served` keeps, 8 bytes.
"""

import struct
from dataclasses import dataclass, field
from enum import IntEnum

from fetch import errors

_REVISION = struct.Struct(">Q")
_EVENT = struct.Struct(">QI")
_KEPT_SUB = struct.Struct(">QI")
_SUB = struct.Struct(">I")
_EXPIRY = struct.Struct(">Qq")
_CLAIM = struct.Struct(">Qq")

FIRST_REVISION = 1
"""The revision of an empty tenant, as in etcd."""

NEVER = -1
"""The compacted revision of a tenant that was never compacted, as in etcd."""

_ALL_BITS = (1 << 64) - 1

_MARK = struct.Struct(">8sB16s")
_MARKED = b"loading\x00"

_EXPIRIES = b"\x02"
_EXPIRIES_END = b"\x03"
_SERVED = b"\x03served"
_FORMAT = b"\x03format"
_MEMBERS = b"\x04"
_MEMBERS_END = b"\x05"


class Closed(IntEnum):
    """Whether a tenant is served. It stands with its last revision, which every read reads and every writing
    transaction relies on: so whatever any daemon still has of a tenant, nothing is served from when this is committed.
    """

    NOT = 0
    DISABLED = 1
    DELETED = 2
    """It may be brought back. Leases run out meanwhile, as they do while it is disabled."""
    CLEARED = 3
    """What it had is cleared. Nobody writes to it any more; this stays, for a daemon that has slept through all."""

    def error(self) -> errors.TenantClosed:
        """What is answered to the tenant."""
        return errors.TenantDisabled() if self is Closed.DISABLED else errors.TenantDeleted()


def pack_revision(revision: int, closed: Closed = Closed.NOT) -> bytes:
    """A tenant's last revision as stored."""
    return _REVISION.pack(revision) + bytes((closed,)) if closed else _REVISION.pack(revision)


def unpack_revision(stored: bytes | None, default: int) -> int:
    """A revision from its stored form; the default when nothing is stored.

    :raises TenantClosed: PERMISSION_DENIED, it is the last one of a tenant that is closed
    :raises Loading: UNAVAILABLE, a mark is stored in its place
    """
    if stored is None:
        return default
    if len(stored) == _REVISION.size:
        return int(_REVISION.unpack(stored)[0])
    raise unpack_last_revision(stored)[1].error()


def unpack_last_revision(stored: bytes | None) -> tuple[int, Closed]:
    """A tenant's last revision from its stored form, and whether the tenant is closed.

    :raises Loading: UNAVAILABLE, a mark is stored in its place
    """
    if stored is None:
        return FIRST_REVISION, Closed.NOT
    if LoadingMark.unpack(stored) is not None:
        raise errors.Loading
    return int(_REVISION.unpack_from(stored)[0]), Closed(stored[-1] if len(stored) > _REVISION.size else 0)


@dataclass(frozen=True, slots=True)
class LoadingMark:
    """What the row of the revision holds while a tenant is being loaded (see `loading`), or that was interrupted.

    It is no revision, so whatever reads one, in whatever daemon, does not serve the tenant, and a write that was
    evaluated before conflicts with it. `has_begun`: what is stored are parts of what is being loaded. `loader` is
    who does it, 16 bytes.
    """

    has_begun: bool
    loader: bytes

    def pack(self) -> bytes:
        """The stored form."""
        return _MARK.pack(_MARKED, self.has_begun, self.loader)

    @classmethod
    def unpack(cls, stored: bytes | None) -> "LoadingMark | None":
        """The mark from its stored form; None where it is a revision, or nothing."""
        if stored is None or len(stored) != _MARK.size:
            return None
        _, has_begun, loader = _MARK.unpack(stored)
        return cls(bool(has_begun), loader)


def pack_sub(sub: int) -> bytes:
    """The value of a history row."""
    return _SUB.pack(sub)


def unpack_sub(stored: bytes) -> int:
    """The sub that a history row holds."""
    return int(_SUB.unpack(stored)[0])


def pack_claim(daemon: int, milliseconds: int) -> bytes:
    """The row `writer`: which daemon wrote last, and when, in milliseconds of the time that `served` keeps."""
    return _CLAIM.pack(daemon, milliseconds)


def unpack_claim(stored: bytes) -> tuple[int, int]:
    """(daemon, milliseconds) of such a row."""
    daemon, milliseconds = _CLAIM.unpack(stored)
    return daemon, milliseconds


def expiries(shared: bytes) -> tuple[bytes, bytes]:
    """The range of the queue of expiries in a store whose shared keys begin with `shared`."""
    return shared + _EXPIRIES, shared + _EXPIRIES_END


def served_row(shared: bytes) -> bytes:
    """The row of the time that is served, in a store whose shared keys begin with `shared`."""
    return shared + _SERVED


def members(shared: bytes) -> tuple[bytes, bytes]:
    """The range of the daemons' rows, in a store whose shared keys begin with `shared`."""
    return shared + _MEMBERS, shared + _MEMBERS_END


def format_row(shared: bytes) -> bytes:
    """The row of the format of everything, in a store whose shared keys begin with `shared`."""
    return shared + _FORMAT


def unpack_expiry(row: bytes, shared: bytes) -> tuple[int, int]:
    """(milliseconds, lease) of a row in the queue of expiries."""
    milliseconds, lease = _EXPIRY.unpack_from(row, len(shared) + len(_EXPIRIES))
    return milliseconds, lease


@dataclass(frozen=True, slots=True)
class Layout:
    """The keys of one tenant. `shared` is what the keys begin with that belong to no tenant."""

    prefix: bytes
    shared: bytes
    revision: bytes = field(init=False)
    compacted: bytes = field(init=False)
    usage: bytes = field(init=False)
    alarms: bytes = field(init=False)
    retained: bytes = field(init=False)
    writer: bytes = field(init=False)
    keys: bytes = field(init=False)
    keys_end: bytes = field(init=False)
    history: bytes = field(init=False)
    events: bytes = field(init=False)
    events_end: bytes = field(init=False)
    subs: bytes = field(init=False)
    subs_end: bytes = field(init=False)
    leases: bytes = field(init=False)
    leases_end: bytes = field(init=False)
    attachments: bytes = field(init=False)
    extensions: bytes = field(init=False)

    def __post_init__(self) -> None:
        prefix = self.prefix
        for name, value in {
            "revision": prefix + b"r",
            "compacted": prefix + b"mcompacted",
            "usage": prefix + b"musage",
            "alarms": prefix + b"malarms",
            "retained": prefix + b"mretained",
            "writer": prefix + b"mwriter",
            "keys": prefix + b"k",
            "keys_end": prefix + b"l",
            "history": prefix + b"h",
            "events": prefix + b"e",
            "events_end": prefix + b"f",
            "subs": prefix + b"s",
            "subs_end": prefix + b"t",
            "leases": prefix + b"l",
            "leases_end": prefix + b"m",
            "attachments": prefix + b"a",
            "extensions": prefix + b"x",
        }.items():
            object.__setattr__(self, name, value)

    @property
    def contents(self) -> tuple[tuple[bytes, bytes], ...]:
        """The ranges of all that clients have stored: keys, their history and log, leases and what is attached."""
        spaces = self.attachments, self.events, self.history, self.keys, self.leases, self.subs
        return tuple((space, space[:-1] + bytes((space[-1] + 1,))) for space in spaces)

    def extension(self, name: str) -> bytes:
        """The prefix of what an extension keeps, which no request reaches."""
        return self.extensions + name.encode() + b"/"

    def key(self, key: bytes) -> bytes:
        """The row of a key's current KeyValue."""
        return self.keys + key

    def key_range(self, key: bytes, range_end: bytes) -> tuple[bytes, bytes]:
        """The rows of an etcd range: one key, [key, range_end), or everything from key on when range_end is 0x00."""
        if not range_end:
            return self.keys + key, self.keys + key + b"\x00"
        if range_end == b"\x00":
            return self.keys + key, self.keys_end
        return self.keys + key, self.keys + range_end

    def history_of(self, key: bytes) -> bytes:
        """What the history rows of a key begin with; sorts as the keys do, no key's rows lie between another's."""
        return self.history + key.replace(b"\x00", b"\x00\xff") + b"\x00\x00"

    def history_row(self, key: bytes, revision: int) -> bytes:
        """The row that tells which event superseded the key's value at `revision`."""
        return self.history_of(key) + _REVISION.pack(revision)

    def behind_history_of(self, key: bytes) -> bytes:
        """What sorts behind all history rows of a key, and before those of every key behind it."""
        return self.history_of(key)[:-1] + b"\x01"

    def history_range(self, begin: bytes, end: bytes) -> tuple[bytes, bytes]:
        """The history rows of the keys whose rows lie in [begin, end), which is a range of `keys` rows."""
        first = self.history + begin[len(self.keys) :].replace(b"\x00", b"\x00\xff")
        if end == self.keys_end:
            return first, self.prefix + b"i"
        return first, self.history + end[len(self.keys) :].replace(b"\x00", b"\x00\xff")

    def unpack_history(self, row: bytes) -> tuple[bytes, int]:
        """(key, revision) of a history row."""
        escaped = row[len(self.history) : -_REVISION.size - 2]
        return escaped.replace(b"\x00\xff", b"\x00"), int(_REVISION.unpack(row[-_REVISION.size :])[0])

    def event(self, revision: int, sub: int = 0) -> bytes:
        """The row of an event; without `sub` the first that a revision can have."""
        return self.events + _EVENT.pack(revision, sub)

    def unpack_event(self, row: bytes) -> int:
        """The revision of an event's row."""
        return int(_EVENT.unpack_from(row, len(self.events))[0])

    def unpack_event_sub(self, row: bytes) -> int:
        """The sub of an event's row: which of its revision's changes it is."""
        return int(_EVENT.unpack_from(row, len(self.events))[1])

    def sub(self, key: bytes) -> bytes:
        """The row of the sub that a key's change had which compaction has cleared from the log."""
        return self.subs + key

    def pack_kept_sub(self, revision: int, sub: int) -> bytes:
        """The value of such a row."""
        return _KEPT_SUB.pack(revision, sub)

    def unpack_kept_sub(self, stored: bytes) -> tuple[int, int]:
        """(revision, sub) of such a row's value."""
        revision, sub = _KEPT_SUB.unpack(stored)
        return revision, sub

    def lease(self, lease: int) -> bytes:
        """The row of a lease's grant."""
        return self.leases + struct.pack(">q", lease)

    def unpack_lease(self, row: bytes) -> int:
        """The lease of a grant's row."""
        return int(struct.unpack(">q", row[len(self.leases) :])[0])

    def expiry(self, milliseconds: int, lease: int) -> bytes:
        """The row of a lease in the queue of expiries. `milliseconds` are of the time that `served` keeps."""
        return self.shared + _EXPIRIES + _EXPIRY.pack(milliseconds, lease) + self.prefix

    def attachment(self, lease: int, key: bytes) -> bytes:
        """The row that attaches a key to a lease."""
        return self.attachments + struct.pack(">q", lease) + key

    def attachment_range(self, lease: int) -> tuple[bytes, bytes]:
        """The rows of all keys attached to a lease."""
        begin = self.attachments + struct.pack(">q", lease)
        if lease == -1:  # all bits set: no ID sorts behind it
            return begin, self.prefix + b"b"
        return begin, self.attachments + struct.pack(">Q", (lease + 1) & _ALL_BITS)

    def unpack_attachment(self, row: bytes) -> bytes:
        """The key of an attachment's row."""
        return row[len(self.attachments) + 8 :]

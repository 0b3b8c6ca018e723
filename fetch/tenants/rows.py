"""Where the register of tenants lies, among what belongs to no tenant:

SHARED 0x05 v                   the register's revision, 8 bytes: each change that daemons have to heed is one
SHARED 0x05 c REVISION          the name of the tenant that this revision changed; of the last `KEPT` revisions
SHARED 0x05 t NAME              the record of a tenant (`protos/fetch/v1/records.proto`)
SHARED 0x05 u NAME              when it was used last, in seconds since the Unix epoch, 8 bytes; coarse
SHARED 0x05 n NAME              how many keyspaces of that name have been given up, 8 bytes
SHARED 0x05 r NAME              the record of a role
SHARED 0x05 d TIME NAME         the keyspace of a tenant that is deleted, and given up from TIME on
SHARED 0x05 x KEYSPACE          its prefix: a keyspace that has been given up and is being cleared
SHARED 0x05 y                   who clears, and how often that has shown itself alive
"""

import struct
from dataclasses import dataclass

KEPT = 1024
"""How many changes a daemon may have missed without looking at each tenant that it serves."""

_NUMBER = struct.Struct(">q")
FIRST_REVISION = 1
"""The revision of a register that nobody has changed, as that of users and roles in etcd."""


def pack(number: int) -> bytes:
    """A number as stored, so that they sort."""
    return _NUMBER.pack(number)


def unpack(stored: bytes | None, default: int = 0) -> int:
    """A number from its stored form."""
    return default if stored is None else int(_NUMBER.unpack(stored)[0])


def keyspace_of(name: str, given_up: int) -> str:
    """What the store calls a tenant when so many of its name have been given up. No name has a `#`."""
    return f"{name}#{given_up}" if given_up else name


@dataclass(frozen=True, slots=True)
class Rows:
    """The rows of a store whose shared keys begin with `shared`."""

    shared: bytes

    @property
    def revision(self) -> bytes:
        """The row of the register's revision."""
        return self._row(b"v")

    def change(self, revision: int) -> bytes:
        """The row of a change."""
        return self._row(b"c") + pack(revision)

    def tenant(self, name: str) -> bytes:
        """The row of a record."""
        return self._row(b"t") + name.encode()

    def tenants(self, after: str = "") -> tuple[bytes, bytes]:
        """The rows of all records, or of those behind a name."""
        return (self.tenant(after) + b"\x00" if after else self._row(b"t")), self._row(b"u")

    def used(self, name: str) -> bytes:
        """The row of a tenant's last use."""
        return self._row(b"u") + name.encode()

    def given_up(self, name: str) -> bytes:
        """The row that counts a name's former keyspaces."""
        return self._row(b"n") + name.encode()

    def role(self, name: str) -> bytes:
        """The row of a role."""
        return self._row(b"r") + name.encode()

    def roles(self) -> tuple[bytes, bytes]:
        """The rows of all roles."""
        return self._row(b"r"), self._row(b"s")

    def deleted(self, at: int, name: str) -> bytes:
        """The row of a tenant in the queue of those to be given up."""
        return self._row(b"d") + pack(at) + name.encode()

    def all_deleted(self) -> tuple[bytes, bytes]:
        """That queue."""
        return self._row(b"d"), self._row(b"e")

    def unpack_deleted(self, row: bytes) -> tuple[int, str]:
        """(time, name) of a row of the queue."""
        at = len(self.shared) + 2
        return unpack(row[at : at + _NUMBER.size]), row[at + _NUMBER.size :].decode()

    def cleared(self, keyspace: str) -> bytes:
        """The row of a keyspace that is being cleared."""
        return self._row(b"x") + keyspace.encode()

    def all_cleared(self) -> tuple[bytes, bytes]:
        """The rows of all of them."""
        return self._row(b"x"), self._row(b"y")

    @property
    def clears(self) -> bytes:
        """The row of who clears."""
        return self._row(b"y")

    def name_in(self, row: bytes) -> str:
        """The name in a row that ends with one."""
        return row[len(self.shared) + 2 :].decode()

    def _row(self, kind: bytes) -> bytes:
        return self.shared + b"\x05" + kind

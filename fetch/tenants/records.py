"""The records of tenants as they are stored, and the transaction that changes one.

It also writes into the tenant's own rows whether it is served (`layout.Closed`). Everything of the register that has to
be true at one moment is here.
"""

import time
from collections.abc import Awaitable, Callable, Collection

from fetch import errors
from fetch.engine.layout import Closed, Layout, LoadingMark, pack_revision, unpack_last_revision
from fetch.stores.protocol import Store, StoreFull
from fetch.stores.transaction import Source, Transaction
from fetch.tenants.names import validate_tenant_name
from fetch.tenants.rows import FIRST_REVISION, KEPT, Rows, keyspace_of, pack, unpack
from fetch.v1.records_pb2 import Tenant

VERSION = 1
"""Of the records that are written here."""

_MILLISECONDS = 1000

Change = Callable[[Transaction, Tenant], Awaitable[None]]


class NoSuchTenant(Exception):  # noqa: N818  as the store's exceptions are called
    """There is no record of that name."""


class TenantExists(Exception):  # noqa: N818  likewise
    """There is one already."""


class Conflict(Exception):  # noqa: N818  likewise
    """The tenant is not in a state in which this could be done: a sentence that says what it is, and what to do."""


def closed_by(record: Tenant) -> Closed:
    """Whether a tenant of this record is served."""
    if record.deleted:
        return Closed.DELETED
    return Closed.DISABLED if record.disabled else Closed.NOT


class Records:
    """The records of a store's tenants."""

    def __init__(
        self, store: Store, administrators: Collection[str] = (), wall: Callable[[], float] = time.time
    ) -> None:
        """`administrators` have keyspaces, but no records."""
        self.rows = Rows(store.shared_prefix)
        self.administrators = frozenset(administrators)
        self.wall = wall
        self._store = store

    async def find(self, name: str) -> Tenant | None:
        """The record of a tenant."""
        with self._store.snapshot() as snapshot:
            return parse(await snapshot.get(self.rows.tenant(name)))

    async def change(self, name: str, change: Change, *, gives_up: bool = False) -> Tenant:
        """Changes a record, and with it whether the tenant is served. `change` may be called again.

        :raises NoSuchTenant: :raises Conflict:
        """
        while True:
            found = await self.find(name) or await self.register(name, existing=True)
            if found is None:
                raise NoSuchTenant(name)
            prefix = await self.prefix(found.keyspace)
            changed = await self._store.transact(
                self._changing(name, found.keyspace, prefix, change, gives_up=gives_up)
            )
            if changed is not None:
                return changed

    def _changing(
        self, name: str, keyspace: str, prefix: bytes, change: Change, *, gives_up: bool
    ) -> Callable[[Transaction], Awaitable[Tenant | None]]:
        """The transaction of a change; None where the name is another keyspace by now."""

        async def body(transaction: Transaction) -> Tenant | None:
            await self.prefetch(transaction, name, prefix)
            record = parse(await transaction.get_for_update(self.rows.tenant(name)))
            if record is None or record.keyspace != keyspace:
                return None
            if record.version > VERSION:
                raise Conflict(f"the record of {name} is of a newer release: change it through a daemon of that")
            before = closed_by(record)
            await change(transaction, record)
            if gives_up:
                await self.give_up(transaction, record, prefix)
            else:
                if (closed := closed_by(record)) is not before:
                    await self._close(transaction, prefix, closed)
                transaction.set(self.rows.tenant(name), record.SerializeToString())
            await self.bump(transaction, name)
            return record

        return body

    async def register(self, name: str, *, existing: bool) -> Tenant | None:
        """The record of a tenant that has had none. `existing`: only if the store knows it; None where it does not."""
        if name in self.administrators or not _is_name(name):
            return None
        with self._store.snapshot() as snapshot:
            keyspace = keyspace_of(name, unpack(await snapshot.get(self.rows.given_up(name))))
        is_there = await self._store.find_tenant(keyspace) is not None
        if existing and not is_there:
            return None

        async def register(transaction: Transaction) -> Tenant:
            record = parse(await transaction.get_for_update(self.rows.tenant(name)))
            if record is None:
                record = await self.new(transaction, name, 0 if is_there else self.now())
                transaction.set(self.rows.tenant(name), record.SerializeToString())
            return record

        try:
            return await self._store.transact(register)
        except StoreFull:
            if not is_there:
                raise
            return Tenant(version=VERSION, name=name, keyspace=keyspace)  # it can be read as long as that lasts

    async def new(self, transaction: Transaction, name: str, created: int) -> Tenant:
        """A record that is new, of a keyspace that no tenant has had."""
        given_up = unpack(await transaction.get_for_update(self.rows.given_up(name)))
        return Tenant(version=VERSION, name=name, keyspace=keyspace_of(name, given_up), created=created)

    async def give_up(self, transaction: Transaction, record: Tenant, prefix: bytes) -> None:
        """Leaves a tenant's keyspace to be cleared, and its name to be used again."""
        rows, name = self.rows, record.name
        await self._close(transaction, prefix, Closed.CLEARED)
        given_up = unpack(await transaction.get_for_update(rows.given_up(name)))
        transaction.set(rows.given_up(name), pack(given_up + 1))
        transaction.clear(rows.tenant(name))
        transaction.clear(rows.used(name))
        transaction.clear(rows.deleted(record.cleared_from, name))
        transaction.set(rows.cleared(record.keyspace), prefix)

    async def _close(self, transaction: Transaction, prefix: bytes, closed: Closed) -> None:
        row = Layout(prefix, self.rows.shared).revision
        stored = await transaction.get_for_update(row)
        if closed is Closed.CLEARED and LoadingMark.unpack(stored) is not None:
            stored = None  # whoever loads it finds the mark gone, and stops
        try:
            revision, _ = unpack_last_revision(stored)
        except errors.Loading:
            raise Conflict(
                "it is being restored, or that was interrupted: restore it, or delete it without grace"
            ) from None
        transaction.set(row, pack_revision(revision, closed))

    async def prefix(self, keyspace: str) -> bytes:
        """What the keys of a keyspace begin with."""
        return await self._store.open_tenant(keyspace)

    def now(self) -> int:
        """The wall clock's milliseconds since the Unix epoch: for people to read."""
        return int(self.wall() * _MILLISECONDS)

    async def prefetch(self, transaction: Transaction, name: str, prefix: bytes) -> None:
        """Reads at once what a change relies on: one round trip more, and a tenant that is always written to, whose
        last revision is among it, would never be closed."""
        rows = self.rows
        last_revision = Layout(prefix, rows.shared).revision
        await transaction.prefetch([rows.tenant(name), rows.revision, rows.given_up(name), last_revision])

    async def bump(self, transaction: Transaction, name: str) -> int:
        """Makes the transaction a change of the register that concerns a tenant, or none; the register's revision."""
        revision = unpack(await transaction.get_for_update(self.rows.revision), FIRST_REVISION) + 1
        transaction.set(self.rows.revision, pack(revision))
        transaction.set(self.rows.change(revision), name.encode())
        if revision > KEPT:
            transaction.clear(self.rows.change(revision - KEPT))
        return revision


async def changes_since(source: Source, rows: Rows, seen: int, revision: int) -> list[str] | None:
    """The names that the register's changes behind `seen` and up to `revision` concern; None where that is too far
    back."""
    if revision - seen >= KEPT:
        return None
    noted = await source.get_many([rows.change(number) for number in range(seen + 1, revision + 1)])
    return [name.decode() for name in noted if name]


def _is_name(name: str) -> bool:
    try:
        validate_tenant_name(name)
    except ValueError:
        return False
    return True


def parse(stored: bytes | None) -> Tenant | None:
    """A record from its stored form."""
    return None if stored is None else Tenant.FromString(stored)

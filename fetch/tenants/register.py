"""The register of tenants: a record for each, and whether it is served.

Each change is one transaction, which also writes into the tenant's own rows whether it is served (`layout.Closed`):
from its commit on every daemon refuses, whether it has heard of the change or not. The register's revision goes up by
it, and the name that it concerned is noted there, so that daemons that follow the register (`following`) learn the
rest: quotas, calls that are open, and that a name is another keyspace now.

What is deleted may be brought back until its time has come; then, or when an administrator makes a new tenant of its
name, it is given up: its keyspace is cleared (`clearing`) and never used again. So nothing of a tenant is ever seen by
another of the same name: not by an engine that a daemon still has open, nor by a write that was under way.

A tenant that was there before there were records gets one when somebody first asks for it.
"""

import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass

from fetch.engine.protocol import UnknownTenant
from fetch.engine.served import ServedTime
from fetch.engine.tenants import Admitted
from fetch.stores.protocol import Store
from fetch.stores.transaction import Transaction
from fetch.tenants.contents import Contents, contents_of
from fetch.tenants.names import validate_tenant_name
from fetch.tenants.records import Conflict, NoSuchTenant, Records, TenantExists, closed_by, parse
from fetch.tenants.roles import Roles
from fetch.tenants.rows import FIRST_REVISION, pack, unpack
from fetch.v1.records_pb2 import Tenant

GRACE_SECONDS = 7 * 86400.0
"""How long what is deleted may be brought back, unless it is said otherwise."""

_MILLISECONDS = 1000


@dataclass(frozen=True, slots=True)
class Registered:
    """A tenant as it is shown: its record, and when it was used last (seconds since the Unix epoch; 0: never)."""

    record: Tenant
    used: int


class Register:
    """The register of a store's tenants, as any daemon on it sees and changes it."""

    def __init__(
        self,
        store: Store,
        served: ServedTime,
        administrators: Collection[str] = (),
        allowed: Collection[str] | None = None,
        *,
        makes_unknown: bool = True,
        wall: Callable[[], float] = time.time,
    ) -> None:
        """`makes_unknown`: a tenant comes to be when it is first asked for. `administrators` are no tenants, though
        they have keyspaces. `allowed` None: a tenant may have any name. `wall` tells the seconds since the Unix epoch.
        """
        self._records = Records(store, administrators, wall)
        self.rows = self._records.rows
        self.find = self._records.find
        self.roles = Roles(store, self._records)
        self._store = store
        self._served = served
        self._allowed = allowed
        self._makes_unknown = makes_unknown

    # what daemons ask

    async def admit(self, name: str) -> Admitted:
        """How a tenant is served; one that is new is registered.

        :raises UnknownTenant: there is none, and they are made by administrators alone
        :raises TenantClosed: it is disabled or deleted
        """
        if name in self._records.administrators:
            return Admitted(name)
        record = await self.find(name)
        if record is None:
            record = await self._records.register(name, existing=not self._makes_unknown)
        if record is None:
            raise UnknownTenant(name)
        if closed := closed_by(record):
            raise closed.error()
        return Admitted(record.keyspace, record.quota if record.HasField("quota") else None)

    async def revision(self) -> int:
        """The register's revision."""
        with self._store.snapshot() as snapshot:
            return unpack(await snapshot.get(self.rows.revision), FIRST_REVISION)

    # what administrators ask

    async def get(self, name: str) -> Registered:
        """A tenant.

        :raises NoSuchTenant:
        """
        with self._store.snapshot() as snapshot:
            stored, used = await snapshot.get_many([self.rows.tenant(name), self.rows.used(name)])
        record = parse(stored) or await self._records.register(name, existing=True)
        if record is None:
            raise NoSuchTenant(name)
        return Registered(record, unpack(used))

    async def contents(self, record: Tenant) -> Contents:
        """What a tenant has stored."""
        return await contents_of(self._store, record.keyspace)

    async def page(self, after: str, limit: int) -> tuple[list[Registered], bool]:
        """At most `limit` tenants behind a name, in the order of their names, and whether there are more."""
        with self._store.snapshot() as snapshot:
            rows, more = await snapshot.get_range(*self.rows.tenants(after), limit)
            records = [Tenant.FromString(stored) for _, stored in rows]
            used = await snapshot.get_many([self.rows.used(record.name) for record in records]) if records else []
        return [Registered(record, unpack(at)) for record, at in zip(records, used, strict=True)], more

    async def create(
        self,
        name: str,
        quota: int | None = None,
        notes: str = "",
        labels: Mapping[str, str] | None = None,
        *,
        gives_up_deleted: bool = False,
    ) -> Tenant:
        """Makes a tenant. `gives_up_deleted`: one of that name that is deleted can be brought back no longer.

        :raises ValueError: a sentence that says why it cannot be a tenant's name
        :raises TenantExists: :raises Conflict:
        """
        validate_tenant_name(name)
        if name in self._records.administrators:
            raise Conflict(f"{name} is an administrator: take another name")
        if self._allowed is not None and name not in self._allowed:
            raise Conflict(f"{name} is not among those that --tenants lets in")
        found = await self.find(name) or await self._records.register(name, existing=True)
        prefix = await self._records.prefix(found.keyspace) if found is not None else b""

        async def create(transaction: Transaction) -> Tenant | None:
            await self._records.prefetch(transaction, name, prefix)
            record = parse(await transaction.get_for_update(self.rows.tenant(name)))
            if (record and record.keyspace) != (found and found.keyspace):
                return None  # somebody else was quicker
            if record is not None and not record.deleted:
                raise TenantExists(name)
            if record is not None and not gives_up_deleted:
                raise Conflict(f"{name} is deleted, and can be brought back: undelete it, or say that it is given up")
            if record is not None:
                await self._records.give_up(transaction, record, prefix)
            made = await self._records.new(transaction, name, self._records.now())
            _set(made, quota, notes, labels)
            transaction.set(self.rows.tenant(name), made.SerializeToString())
            await self._records.bump(transaction, name)
            return made

        made = await self._store.transact(create)
        if made is None:
            return await self.create(name, quota, notes, labels, gives_up_deleted=gives_up_deleted)
        return made

    async def change(
        self,
        name: str,
        quota: int | None = None,
        notes: str | None = None,
        labels: Mapping[str, str] | None = None,
        *,
        default_quota: bool = False,
    ) -> Tenant:
        """Sets what is given, and leaves what is None. `default_quota`: it has the quota that all have.

        :raises NoSuchTenant: :raises Conflict:
        """

        async def change(_: Transaction, record: Tenant) -> None:
            if default_quota:
                record.ClearField("quota")
            _set(record, quota, notes, labels)

        return await self._records.change(name, change)

    async def disable(self, name: str) -> Tenant:
        """Lets a tenant be served no longer, until it is enabled. Leases run out meanwhile.

        :raises NoSuchTenant: :raises Conflict: it is deleted
        """
        return await self._set_disabled(name, disabled=True)

    async def enable(self, name: str) -> Tenant:
        """Lets a tenant be served again.

        :raises NoSuchTenant: :raises Conflict: it is deleted
        """
        return await self._set_disabled(name, disabled=False)

    async def delete(self, name: str, grace: float = GRACE_SECONDS) -> Tenant:
        """Deletes a tenant. It can be brought back for `grace` seconds of the time that is served.

        :raises NoSuchTenant: :raises Conflict: it is deleted already
        """
        await self._served.begin()

        async def delete(transaction: Transaction, record: Tenant) -> None:
            if record.deleted:
                raise Conflict(f"{name} is deleted already")
            record.deleted = self._records.now()
            record.cleared_from = self._served.latest() + int(grace * _MILLISECONDS)
            transaction.set(self.rows.deleted(record.cleared_from, name), record.keyspace.encode())

        return await self._records.change(name, delete, gives_up=grace <= 0)

    async def undelete(self, name: str) -> Tenant:
        """Brings a tenant back as it was when it was deleted, but for leases that have run out.

        :raises NoSuchTenant: :raises Conflict: it is not deleted
        """

        async def undelete(transaction: Transaction, record: Tenant) -> None:
            if not record.deleted:
                raise Conflict(f"{name} is not deleted")
            transaction.clear(self.rows.deleted(record.cleared_from, name))
            record.deleted = record.cleared_from = 0

        return await self._records.change(name, undelete)

    async def give_up(self, name: str, keyspace: str, at: int) -> None:
        """Gives up a tenant whose time has come, unless something else has been decided on meanwhile."""
        prefix = await self._records.prefix(keyspace)

        async def give_up(transaction: Transaction) -> None:
            await self._records.prefetch(transaction, name, prefix)
            record = parse(await transaction.get_for_update(self.rows.tenant(name)))
            if record is None or record.keyspace != keyspace or record.cleared_from != at:
                transaction.clear(self.rows.deleted(at, name))
                return
            await self._records.give_up(transaction, record, prefix)
            await self._records.bump(transaction, name)

        await self._store.transact(give_up)

    def remaining(self, record: Tenant) -> float:
        """The seconds for which a tenant that is deleted can still be brought back."""
        return max(record.cleared_from - self._served.now(), 0) / _MILLISECONDS

    async def note_use(self, names: Sequence[str]) -> None:
        """Notes that tenants are used now. One transaction: not to be called with many."""
        now = pack(int(self._records.wall()))

        async def note(transaction: Transaction) -> None:
            for name in names:
                transaction.set(self.rows.used(name), now)

        await self._store.transact(note)

    async def _set_disabled(self, name: str, *, disabled: bool) -> Tenant:
        async def change(_: Transaction, record: Tenant) -> None:
            if record.deleted:
                raise Conflict(f"{name} is deleted")
            record.disabled = disabled

        return await self._records.change(name, change)


def _set(record: Tenant, quota: int | None, notes: str | None, labels: Mapping[str, str] | None) -> None:
    if quota is not None:
        record.quota = quota
    if notes is not None:
        record.notes = notes
    if labels is not None:
        record.labels.clear()
        record.labels.update(labels)

"""Roles, as etcd's Auth service has them: kept, shown, and without effect, for a tenant's keyspace is its own."""

from collections.abc import Callable, Sequence

from fetch.stores.protocol import Store
from fetch.stores.transaction import Transaction, all_rows
from fetch.tenants.records import NoSuchTenant, Records
from fetch.v1.records_pb2 import Permission, Role, Tenant

_Change = Callable[[Sequence[Permission]], list[Permission]]

_PAGE = 100
_VERSION = 1


class NoSuchRole(Exception):  # noqa: N818  as the store's exceptions are called
    """There is no role of that name."""


class RoleExists(Exception):  # noqa: N818  likewise
    """There is one already."""


class NotGranted(Exception):  # noqa: N818  likewise
    """The role is not the tenant's, or the permission not the role's."""


class Roles:
    """The roles of a store."""

    def __init__(self, store: Store, records: Records) -> None:
        self._store = store
        self._records = records
        self._rows = records.rows

    async def names(self) -> list[str]:
        """The names of all roles, in order."""
        with self._store.snapshot() as snapshot:
            return [self._rows.name_in(row) async for row, _ in all_rows(snapshot, *self._rows.roles())]

    async def get(self, name: str) -> Role:
        """A role.

        :raises NoSuchRole:
        """
        with self._store.snapshot() as snapshot:
            stored = await snapshot.get(self._rows.role(name))
        if stored is None:
            raise NoSuchRole(name)
        return Role.FromString(stored)

    async def add(self, name: str) -> None:
        """Makes a role.

        :raises RoleExists:
        """

        async def add(transaction: Transaction) -> None:
            row = self._rows.role(name)
            if await transaction.get_for_update(row) is not None:
                raise RoleExists(name)
            transaction.set(row, Role(version=_VERSION, name=name).SerializeToString())
            await self._records.bump(transaction, "")

        await self._store.transact(add)

    async def delete(self, name: str) -> None:
        """Removes a role, then from each tenant that has it. Looks at all tenants.

        :raises NoSuchRole:
        """

        async def delete(transaction: Transaction) -> None:
            if await transaction.get_for_update(self._rows.role(name)) is None:
                raise NoSuchRole(name)
            transaction.clear(self._rows.role(name))
            await self._records.bump(transaction, "")

        await self._store.transact(delete)
        begin, end = self._rows.tenants()
        more = True
        while more:
            with self._store.snapshot() as snapshot:
                rows, more = await snapshot.get_range(begin, end, _PAGE)
            for row, stored in rows:
                begin = row + b"\x00"
                if name in (tenant := Tenant.FromString(stored)).roles:
                    await self._take(tenant.name, name)

    async def permit(self, name: str, permission: Permission) -> None:
        """Adds a permission to a role; one of the same range has its kind changed.

        :raises NoSuchRole:
        """

        def add(permissions: Sequence[Permission]) -> list[Permission]:
            others = [it for it in permissions if not _same_range(it, permission)]
            return sorted([*others, permission], key=lambda it: (it.key, it.range_end))

        await self._change(name, add)

    async def forbid(self, name: str, key: bytes, range_end: bytes) -> None:
        """Takes a permission from a role.

        :raises NoSuchRole: :raises NotGranted:
        """

        def remove(permissions: Sequence[Permission]) -> list[Permission]:
            others = [it for it in permissions if (it.key, it.range_end) != (key, range_end)]
            if len(others) == len(permissions):
                raise NotGranted
            return others

        await self._change(name, remove)

    async def grant(self, tenant: str, name: str) -> None:
        """Gives a tenant a role. The role `root` need not be there, as in etcd.

        :raises NoSuchTenant: :raises NoSuchRole:
        """

        async def grant(transaction: Transaction, record: Tenant) -> None:
            if record.deleted:
                raise NoSuchTenant(tenant)
            if name != "root" and await transaction.get_for_update(self._rows.role(name)) is None:
                raise NoSuchRole(name)
            record.roles[:] = sorted({*record.roles, name})

        await self._records.change(tenant, grant)

    async def revoke(self, tenant: str, name: str) -> None:
        """Takes a role from a tenant.

        :raises NoSuchTenant: :raises NotGranted:
        """

        async def revoke(_: Transaction, record: Tenant) -> None:
            if record.deleted:
                raise NoSuchTenant(tenant)
            if name not in record.roles:
                raise NotGranted
            record.roles[:] = [role for role in record.roles if role != name]

        await self._records.change(tenant, revoke)

    async def _take(self, tenant: str, name: str) -> None:
        async def take(_: Transaction, record: Tenant) -> None:
            record.roles[:] = [role for role in record.roles if role != name]

        await self._records.change(tenant, take)

    async def _change(self, name: str, change: _Change) -> None:
        async def body(transaction: Transaction) -> None:
            stored = await transaction.get_for_update(self._rows.role(name))
            if stored is None:
                raise NoSuchRole(name)
            role = Role.FromString(stored)
            permissions = change(list(role.permissions))
            transaction.set(
                self._rows.role(name),
                Role(version=_VERSION, name=name, permissions=permissions).SerializeToString(),
            )
            await self._records.bump(transaction, "")

        await self._store.transact(body)


def _same_range(one: Permission, other: Permission) -> bool:
    return (one.key, one.range_end) == (other.key, other.range_end)

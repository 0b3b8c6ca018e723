"""A daemon follows the register: what administrators decide, through whatever daemon, comes into effect here.

The daemon waits for the register's revision to change, and looks at the tenants that the changes concern. A look costs
a few reads for each change and nothing while there is none, however many tenants there are. Should the store fail to
wake it, it looks every `LONGEST_WAIT` seconds. That a tenant is refused does not hang on it: see `register`.
"""

import asyncio
import time
from collections.abc import Callable

from fetch.engine.protocol import UnknownTenant
from fetch.engine.tenants import Admitted, Tenants
from fetch.errors import TenantClosed, TenantDeleted
from fetch.stores.protocol import Store, StoreFull
from fetch.tenants.records import changes_since
from fetch.tenants.register import Register
from fetch.tenants.rows import FIRST_REVISION, unpack

LONGEST_WAIT = 5.0
USED_APART_SECONDS = 3600.0
"""How coarse a tenant's last use is."""

_NOTED_AT_ONCE = 100
_LOOK_SECONDS = 30.0


class Following:
    """What a daemon does about the register, apart from answering for it."""

    def __init__(
        self, store: Store, register: Register, tenants: Tenants, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self._store = store
        self._register = register
        self._tenants = tenants
        self._monotonic = monotonic
        self._noted: dict[str, float] = {}

    async def follow(self) -> None:
        """Runs until cancelled. What was decided before it began, and what it has missed by failing, is looked for."""
        rows = self._register.rows
        seen: int | None = None
        while True:
            with self._store.snapshot() as snapshot:
                stored = await snapshot.get(rows.revision)
                revision = unpack(stored, FIRST_REVISION)
                names = None if seen is None else await changes_since(snapshot, rows, seen, revision)
            for name in dict.fromkeys(self._tenants.open_names() if names is None else names):
                await self._settle(name)
            seen = revision
            try:
                async with asyncio.timeout(LONGEST_WAIT):
                    await self._store.changed(rows.revision, stored)
            except TimeoutError:
                continue

    async def note_use(self) -> None:
        """Runs until cancelled: notes which tenants are used, of each no more than once an hour."""
        while True:
            await asyncio.sleep(_LOOK_SECONDS)
            await self.note_use_once()

    async def note_use_once(self) -> None:
        """Notes the use of those that have been used, if it is to be noted now."""
        tenants, now = self._tenants, self._monotonic()
        used = [name for name in tenants.used if tenants.is_open(name)]
        tenants.used.clear()
        due = [name for name in used if now - self._noted.get(name, -USED_APART_SECONDS) >= USED_APART_SECONDS]
        for first in range(0, len(due), _NOTED_AT_ONCE):
            page = due[first : first + _NOTED_AT_ONCE]
            try:
                await self._register.note_use(page)
            except StoreFull:
                return
            self._noted.update(dict.fromkeys(page, now))
        self._noted = {name: at for name, at in self._noted.items() if now - at < USED_APART_SECONDS}

    async def _settle(self, name: str) -> None:
        """Looks how a tenant is served, and puts that into effect.

        One that is opened meanwhile has been admitted by a record no older than the one that is read here, but what is
        decided after this is read has a revision of its own, and is looked at after that.
        """
        await self._tenants.opened(name)
        if not self._tenants.is_open(name):
            return
        served: Admitted | type[TenantClosed]
        try:
            served = await self._register.admit(name)
        except TenantClosed as error:
            served = type(error)
        except UnknownTenant:
            served = TenantDeleted
        self._tenants.settle(name, served)

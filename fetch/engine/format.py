"""The format of what the engine stores, a number in the store: no daemon misreads what a newer one has written.

`VERSION` is what this release writes, and the newest that it reads. It becomes another only when releases before could
not read what is written; how that goes with daemons of two releases on one store is told in `docs/upgrade.md`. A store
without the row was written before there was one, and has the first format. What a store keeps for itself, such as the
embedded store's long keys, has a format of its own (`fetch/stores/embedded/environment.py`).
"""

from fetch.engine.layout import format_row
from fetch.stores.protocol import Store, StoreFull, StoreUnavailable
from fetch.stores.transaction import Transaction

VERSION = 1

_FIRST = b"1"


class NewerFormat(StoreUnavailable):
    """The store was written by a release whose format this one does not know."""


class Format:
    """Whether this daemon may use a store. Asked of the store once."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._row = format_row(store.shared_prefix)
        self._is_known = False

    async def require(self) -> None:
        """Returns if what is stored is of a format that this release reads; marks a store that has no mark.

        :raises NewerFormat: it is not
        :raises StoreUnavailable: that cannot be found out now
        """
        if self._is_known:
            return
        with self._store.snapshot() as snapshot:
            stored = await snapshot.get(self._row)
        if stored is None:
            try:
                stored = await self._store.transact(self._mark)
            except StoreFull:  # what is there can be read; who frees some room marks it
                stored = _FIRST
        _number(stored)
        self._is_known = True

    async def _mark(self, transaction: Transaction) -> bytes:
        """The format that the store has, which is set if there is none."""
        stored = await transaction.get_for_update(self._row)
        if stored is None:
            stored = _FIRST
            transaction.set(self._row, stored)
        return stored


async def read_format(store: Store) -> int:
    """The format of what is stored; nothing is written.

    :raises NewerFormat: :raises StoreUnavailable:
    """
    with store.snapshot() as snapshot:
        return _number(await snapshot.get(format_row(store.shared_prefix)) or _FIRST)


def _number(stored: bytes) -> int:
    if not stored.isdigit() or int(stored) > VERSION:
        raise NewerFormat(
            f"what is stored has the format {stored.decode(errors='replace')}, and this release of fetch knows "
            f"formats up to {VERSION}: run the release that has written it, or a newer one"
        )
    return int(stored)

"""What the engine asks of an ordered transactional key-value store.

Keys and values are bytes, ordered as bytes. A store gives consistent snapshots and commits a transaction's writes
as one, if none of the keys that the transaction declared as conflicts has changed since its snapshot. Everything
else (read-your-writes, undoing part of a transaction) is the same for all stores and lives in `transaction.py`.
"""

from collections.abc import Awaitable, Callable
from contextlib import AbstractContextManager
from typing import Protocol, TypeVar

from fetch.stores.snapshot import Snapshot
from fetch.stores.transaction import Transaction

T = TypeVar("T")


class StoreUnavailable(Exception):
    """The store cannot be reached, or did not answer within its bounds; whether a write took place is not known."""


class StoreBusy(StoreUnavailable):
    """As much is under way in the store as it can bear; nothing took place."""


class StoreCorrupt(StoreUnavailable):
    """What is stored cannot be read, and will not be by trying again."""


class StoreLost(StoreUnavailable):
    """This process cannot use the store any more; one that is started anew may."""


class StoreFull(Exception):
    """There is no room for the write; nothing of it took place."""


class KeyTooLong(Exception):
    """The store has no room for a key of this length; nothing of the transaction took place."""


class TransactionTooLarge(Exception):
    """The store cannot commit so much at once; nothing of the transaction took place."""


class SnapshotExpired(StoreUnavailable):
    """The snapshot cannot be read any more; a new one can."""


class Store(Protocol):
    """A store that is open.

    `shared` tells whether other processes may write to it. Keys that belong to no tenant begin with `shared_prefix`,
    then a byte from 0x02 on; the bytes below are the store's own.
    """

    shared: bool
    shared_prefix: bytes

    async def open_tenant(self, name: str) -> bytes:
        """The prefix of the tenant's keys, which is made when the name is new."""

    async def find_tenant(self, name: str) -> bytes | None:
        """The prefix of the tenant's keys, if it has ever been opened."""

    def snapshot(self) -> AbstractContextManager[Snapshot]:
        """The newest state. To be held briefly: stores keep what a snapshot sees, or let it expire.

        :raises StoreUnavailable: :raises StoreBusy:
        """

    async def transact(self, body: Callable[[Transaction], Awaitable[T]]) -> T:
        """Runs `body` on a new transaction and commits it; returns what `body` returned once it is durable.

        `body` runs again, on a newer snapshot, when the commit meets a conflict: it must not have effects other
        than on the transaction. The commit is applied exactly once or not at all.

        :raises StoreUnavailable: the outcome is not known; :raises StoreCorrupt: nothing was written
        :raises StoreFull: nothing was written
        :raises KeyTooLong: :raises TransactionTooLarge: nothing was written
        """

    async def changed(self, key: bytes, value: bytes | None) -> None:
        """Returns once the stored value of the key is another than `value`; may also return without a change."""

    async def size(self) -> int:
        """The bytes that the whole store takes up on its disks, as near as it can tell cheaply."""

    async def check(self) -> None:
        """Returns if the store can be read and, as far as is known, written. Cheap: it is asked every second.

        :raises StoreUnavailable: why it cannot
        """

    async def lost(self) -> StoreLost:
        """Returns once this process cannot use the store any more, and says why. It should end then."""

    async def close(self) -> None:
        """Ends what is under way and lets go of the store. Acknowledged writes stay."""

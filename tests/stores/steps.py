"""What the tests do to a store, in few words."""

from collections.abc import Mapping

from fetch.stores.protocol import Store
from fetch.stores.snapshot import Row
from fetch.stores.transaction import Transaction


async def write(store: Store, rows: Mapping[bytes, bytes | None]) -> None:
    """Sets the keys to their values, and clears those whose value is None."""

    async def body(transaction: Transaction) -> None:
        for key, value in rows.items():
            if value is None:
                transaction.clear(key)
            else:
                transaction.set(key, value)

    await store.transact(body)


async def clear_range(store: Store, begin: bytes, end: bytes) -> None:
    async def body(transaction: Transaction) -> None:
        transaction.clear_range(begin, end)

    await store.transact(body)


async def increment(store: Store, key: bytes) -> int:
    """Counts one further, and returns the count."""

    async def body(transaction: Transaction) -> int:
        count = int(await transaction.get_for_update(key) or 0) + 1
        transaction.set(key, b"%d" % count)
        return count

    return await store.transact(body)


async def read(store: Store, key: bytes) -> bytes | None:
    with store.snapshot() as snapshot:
        return await snapshot.get(key)


async def rows(store: Store, begin: bytes, end: bytes) -> list[Row]:
    """All rows of [begin, end)."""
    found: list[Row] = []
    more = True
    with store.snapshot() as snapshot:
        while more:
            page, more = await snapshot.get_range(begin, end, 1000)
            found += page
            if more:
                begin = page[-1][0] + b"\x00"
    return found

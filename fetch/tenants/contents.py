"""What a tenant has stored, as far as a few reads tell, whether it is served or not."""

from dataclasses import dataclass

from fetch.engine import alarms
from fetch.engine.alarms import Alarms
from fetch.engine.batch import unpack_usage
from fetch.engine.layout import FIRST_REVISION, NEVER, Layout, LoadingMark, unpack_last_revision, unpack_revision
from fetch.stores.protocol import Store

MOST_LEASES = 10_000
"""How many are counted."""


@dataclass(frozen=True, slots=True)
class Contents:
    """A tenant's newest and oldest revision, what it has, and whether it is being loaded."""

    revision: int = FIRST_REVISION
    oldest: int = FIRST_REVISION
    keys: int = 0
    stored_bytes: int = 0
    leases: int = 0
    more_leases: bool = False
    raised: Alarms = frozenset()
    loading: bool = False


async def contents_of(store: Store, keyspace: str) -> Contents:
    """What a keyspace has. Counts leases, `MOST_LEASES` at most."""
    prefix = await store.find_tenant(keyspace)
    if prefix is None:
        return Contents()  # nobody has used it yet
    layout = Layout(prefix, store.shared_prefix)
    with store.snapshot() as snapshot:
        last, compacted, usage, raised = await snapshot.get_many(
            [layout.revision, layout.compacted, layout.usage, layout.alarms]
        )
        leases, rest = await snapshot.count_range(layout.leases, layout.leases_end, MOST_LEASES)
    if LoadingMark.unpack(last) is not None:
        return Contents(loading=True)
    stored_bytes, keys = unpack_usage(usage)
    return Contents(
        unpack_last_revision(last)[0],
        max(unpack_revision(compacted, NEVER), FIRST_REVISION),
        keys,
        stored_bytes,
        leases,
        rest < layout.leases_end,
        alarms.unpack(raised),
    )

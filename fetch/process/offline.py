"""Tenants of a store for a command that needs no daemon."""

import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

from fetch.engine.mutations import apply
from fetch.engine.tenants import Tenants
from fetch.process.start import StartError
from fetch.stores.embedded.store import LmdbStore
from fetch.stores.foundationdb.store import FoundationDBStore
from fetch.stores.protocol import Store, StoreUnavailable
from fetch.tenants.register import Register


@contextlib.asynccontextmanager
async def tenants_of(data_dir: Path | None, cluster_file: Path | None) -> AsyncIterator[Tenants]:
    """The tenants of an embedded store that no daemon serves, or of a cluster, whoever does.

    Nothing runs in the background, and what is written passes through no operation chain.

    :raises StartError: the store cannot be opened; it says which process has it, if one has
    """
    try:
        store: Store = FoundationDBStore.open(cluster_file) if cluster_file else LmdbStore(data_dir or Path("data"))
    except StoreUnavailable as error:
        raise StartError(str(error)) from error
    tenants = Tenants(store, 0, None, apply, lambda *_: None)
    tenants.admit = Register(store, tenants.served).admit
    try:
        yield tenants
    finally:
        await tenants.close()
        await store.close()

"""The store: whether it can be used, has room, and what is in it can be read. Nothing is made where nothing is."""

import asyncio
import shutil
from collections.abc import AsyncIterator
from pathlib import Path

from fetch.config import Settings
from fetch.doctor.finding import NOTE, OK, WRONG, Finding
from fetch.engine.format import read_format
from fetch.stores.embedded.directory import DATABASE, DirectoryTaken
from fetch.stores.embedded.store import LmdbStore
from fetch.stores.foundationdb.store import FoundationDBStore
from fetch.stores.protocol import Store, StoreUnavailable

_ABOUT = "store"
_SECONDS = 6.0
_ROOM_BYTES = 1 << 30
_ROOM_SHARE = 0.1


async def look(settings: Settings) -> AsyncIterator[Finding]:
    """Looks at the store that the settings name."""
    if settings.fdb_cluster_file is not None:
        yield await _foundationdb(Path(settings.fdb_cluster_file))
        return
    directory = Path(settings.data_dir)
    yield _room(directory)
    yield await _embedded(directory)


async def _foundationdb(cluster_file: Path) -> Finding:
    try:
        store = FoundationDBStore.open(cluster_file)
    except StoreUnavailable as error:
        return Finding(_ABOUT, WRONG, str(error), "install FoundationDB's client (README.md), and its cluster file")
    found = await _opened(store, f"FoundationDB ({cluster_file})")
    if found.state == WRONG and not found.to_do:
        return Finding(_ABOUT, WRONG, found.told, "fdbcli -C FILE --exec status says why, and which way it is reached")
    return found


async def _embedded(directory: Path) -> Finding:
    if not (directory / DATABASE).exists():
        parent = _nearest(directory)
        if not parent.is_dir():
            return Finding(_ABOUT, WRONG, f"{parent} is no directory", "set another --data-dir")
        return Finding(_ABOUT, OK, f"{directory} holds nothing yet: the first start makes it")
    try:
        store = LmdbStore(directory)
    except DirectoryTaken:
        return Finding(_ABOUT, NOTE, f"{directory} is served by a daemon now, and was not looked into")
    except StoreUnavailable as error:
        return Finding(_ABOUT, WRONG, str(error), "run fetch as the user that the directory belongs to, or a newer one")
    return await _opened(store, str(directory))


async def _opened(store: Store, name: str) -> Finding:
    """Looks into a store, and closes it."""
    try:
        async with asyncio.timeout(_SECONDS):
            await store.check()
            version = await read_format(store)
            size = await store.size()
    except (StoreUnavailable, TimeoutError) as error:
        told = str(error) or f"it did not answer within {_SECONDS:g} s"
        return Finding(_ABOUT, WRONG, f"{name} cannot be used, {told}")
    finally:
        await store.close()
    return Finding(_ABOUT, OK, f"{name} can be used: format {version}, {size / 1e6:.1f} MB")


def _room(directory: Path) -> Finding:
    total, _, free = shutil.disk_usage(_nearest(directory))
    told = f"{free / 1e9:.1f} of {total / 1e9:.1f} GB are free where {directory} is"
    if free < _ROOM_BYTES or free < total * _ROOM_SHARE:
        return Finding(_ABOUT, WRONG, told, "make room: writes are refused when there is none")
    return Finding(_ABOUT, OK, told)


def _nearest(directory: Path) -> Path:
    """The directory, or the nearest above it that is there."""
    whole = directory.absolute()
    return next(path for path in (whole, *whole.parents) if path.exists())

"""Sends snapshots of tenants: how many at once, and what is said when one cannot be written."""

import logging
from collections import Counter
from collections.abc import Awaitable, Callable
from pathlib import Path

import grpc

from fetch import errors
from fetch.config import Settings
from fetch.engine.protocol import StorageEngine
from fetch.snapshots.taking import Piece, pieces, take

_AT_ONCE = 2
"""Of a tenant. Each takes as much room on the disk as the tenant has data."""

logger = logging.getLogger(__name__)


class Sender:
    """Takes snapshots and hands them on piece by piece."""

    def __init__(self, settings: Settings) -> None:
        self.directory = directory_of(settings)
        self._under_way: Counter[str] = Counter()

    async def send(self, engine: StorageEngine, write: Callable[[Piece], Awaitable[None]]) -> None:
        """Sends the tenant at one revision as the file that an etcd would send, with its hash behind it.

        :raises TooManyRequests: so many of the tenant's are under way :raises Refused: UNAVAILABLE, no room on the disk
        """
        tenant = engine.tenant
        if self._under_way[tenant] >= _AT_ONCE:
            raise errors.TooManyRequests("snapshots")
        self._under_way[tenant] += 1
        try:
            with await take(engine, self.directory) as spool:
                async for piece in pieces(spool):
                    await write(piece)
        except OSError as error:
            logger.warning("a snapshot of %s cannot be written: %s", tenant, error)
            raise cannot_be_written(error) from error
        finally:
            self._under_way[tenant] -= 1
            if not self._under_way[tenant]:
                del self._under_way[tenant]


def directory_of(settings: Settings) -> Path | None:
    """Where what is too much for memory is written: beside the embedded store, else where temporary files are."""
    return None if settings.fdb_cluster_file is not None else Path(settings.data_dir)


def cannot_be_written(error: OSError) -> errors.Refused:
    """What is said when a disk has no room, for instance."""
    return errors.Refused(grpc.StatusCode.UNAVAILABLE, f"etcdserver: the snapshot cannot be written: {error.strerror}")

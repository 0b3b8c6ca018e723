"""The database of the embedded store: opened, and brought to the format that is written now.

The map is 1 TiB of address space; the file underneath grows with what is stored. That is how the map "grows": a later
`set_mapsize` would need every reader to stop. Where so much address space is refused, half of it is tried, and so on.
"""

import logging
import time
from pathlib import Path

import lmdb

from fetch.stores.embedded import longkeys
from fetch.stores.embedded.errors import as_store_error
from fetch.stores.protocol import StoreUnavailable

_MAP_SIZE = 1 << 40
_SMALLEST_MAP_SIZE = 1 << 30
_FORMAT_KEY = b"\x00format"
_FORMAT = b"fetch 2"
_FORMAT_WITH_BUCKETS = b"fetch 1"

logger = logging.getLogger(__name__)


def open_environment(directory: Path, readers: int) -> lmdb.Environment:
    """Opens the database, and makes it where there is none.

    :raises StoreUnavailable: it cannot be opened, or has another format
    """
    size = _MAP_SIZE
    while True:
        try:
            environment = lmdb.open(
                str(directory), map_size=size, max_readers=readers, max_spare_txns=1, mode=0o600, create=True
            )
            break
        except (lmdb.MemoryError, MemoryError) as error:
            if size <= _SMALLEST_MAP_SIZE:
                raise StoreUnavailable(f"no address space for a map of {size} bytes: {error}") from error
            size //= 2
        except (lmdb.Error, OSError) as error:
            raise as_store_error(error, f"cannot open the database in {directory}") from error
    try:
        with environment.begin(write=True) as transaction:
            _require_format(transaction, directory)
    except (lmdb.Error, OSError) as error:
        environment.close()
        raise as_store_error(error, f"cannot open the database in {directory}") from error
    except StoreUnavailable:
        environment.close()
        raise
    return environment


def _require_format(transaction: lmdb.Transaction, directory: Path) -> None:
    """Gives a new database the format; brings one of the format before to it, in the one transaction.

    :raises StoreUnavailable: the database has another format
    """
    found = transaction.get(_FORMAT_KEY)
    if found == _FORMAT:
        return
    if found == _FORMAT_WITH_BUCKETS:
        started = time.monotonic()
        replaced = longkeys.replace_buckets(transaction)
        seconds = time.monotonic() - started
        logger.info("%s: from format %s to %s in %.1f s, %d buckets of keys over %d bytes replaced",
                    directory, found.decode(), _FORMAT.decode(), seconds, replaced, longkeys.INLINE)  # fmt: skip
    elif transaction.stat()["entries"] > 0:
        raise StoreUnavailable(
            f"{directory} holds another format than {_FORMAT.decode()}: {found!r}; a newer release of fetch may read it"
        )
    transaction.put(_FORMAT_KEY, _FORMAT)

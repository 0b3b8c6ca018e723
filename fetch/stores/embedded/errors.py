"""What the embedded store raises for an error of LMDB's or of the operating system's.

LMDB passes on `errno` where it fails to read or write. py-lmdb raises a class of its own for each code that it knows
(`error_map` in its `cpython.c`), `lmdb.Error` for any other, and keeps the code in `code`.
"""

import errno

import lmdb

from fetch.stores.protocol import StoreBusy, StoreCorrupt, StoreFull, StoreLost, StoreUnavailable

_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


def as_store_error(error: Exception, context: str = "") -> StoreUnavailable | StoreFull:
    """The store's error for this one; its text begins with the context."""
    text = f"{context}: {error}" if context else str(error)
    match error:
        case StoreUnavailable() | StoreFull():
            return error
        case lmdb.MapFullError() | lmdb.TxnFullError():
            return StoreFull(text)
        case lmdb.Error() | OSError() if _errno(error) in _FULL:
            return StoreFull(text)
        case lmdb.PanicError():
            # a meta page could not be written. LMDB does not know what the disk has of it, and refuses everything
            return StoreLost(f"{text} (a write of LMDB's meta page has failed)")
        case (
            lmdb.CorruptedError()
            | lmdb.PageNotFoundError()
            | lmdb.InvalidError()
            | lmdb.VersionMismatchError()
            | lmdb.BadChecksumError()
            | lmdb.ProblemError()
        ):
            return StoreCorrupt(text)
        case lmdb.ReadersFullError():
            return StoreBusy(text)
        case _:
            return StoreUnavailable(text or repr(error))


def _errno(error: Exception) -> int | None:
    return error.errno if isinstance(error, OSError) else getattr(error, "code", None)

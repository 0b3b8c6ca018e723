"""The data directory of the embedded store: made, kept from other users, and held for one daemon.

    data.mdb, lock.mdb    LMDB's
    fetch.lock            locked as long as a daemon serves
    wake-N                the socket of worker N (see `wakes`)

A lock is the file's, not its path's: a bind mount or another namespace leads to the same one. A daemon that is one
process locks all of it. Workers lock it with each other, and each a part of its own; the last one's has no end, so
that workers of two daemons meet at some byte whatever their numbers.
"""

import fcntl
import logging
import os
import stat
import struct
from pathlib import Path

from fetch.stores.protocol import StoreLost, StoreUnavailable

DATABASE = "data.mdb"
_READERS = "lock.mdb"
_LOCK = "fetch.lock"
_WAKE = "wake-"
_ETCDS = "member"
_OF_FILE_SYSTEMS = {"lost+found"}
_OTHERS = stat.S_IRWXG | stat.S_IRWXO
_FLOCK = struct.Struct("@hhqqi4x")  # struct flock: type, whence, start, length (0: no end), process

logger = logging.getLogger(__name__)


class DirectoryTaken(StoreUnavailable):
    """Another daemon serves the directory."""


class DataDirectory:
    """A directory that this process serves, as a worker of its daemon or alone."""

    def __init__(self, path: Path, worker: int, workers: int) -> None:
        """Makes the directory where it is missing, and takes it.

        :raises DirectoryTaken: another daemon serves it
        :raises StoreUnavailable: it cannot be used, or is not fetch's
        """
        self.path = path.absolute()
        try:
            self.path.mkdir(mode=stat.S_IRWXU, parents=True, exist_ok=True)
            _require_ours(self.path)
            _keep_from_others(self.path)
            self.descriptor = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY)
        except OSError as error:
            raise StoreUnavailable(f"cannot use {path}: {error.strerror}") from error
        self._lock = -1
        try:
            self._lock = os.open(_LOCK, os.O_RDWR | os.O_CREAT, stat.S_IRUSR | stat.S_IWUSR, dir_fd=self.descriptor)
            is_taken = _take(self._lock, worker, workers)
            if is_taken:
                self._remove_sockets(worker, workers)
        except OSError as error:
            self.close()
            raise StoreUnavailable(f"cannot use {path}: {error.strerror}") from error
        if not is_taken:
            self.close()
            raise DirectoryTaken(f"another process serves {path}{_holder(path)}")
        self._database = str(self.path / DATABASE)
        self._files: dict[str, tuple[int, int]] = {}

    def socket(self, worker: int) -> str:
        """The address of a worker's socket. It goes through the directory's descriptor, since the address of a socket
        has 108 bytes at most, which a path may not fit."""
        return f"/proc/self/fd/{self.descriptor}/{_WAKE}{worker}"

    def settle(self) -> None:
        """Keeps LMDB's files from others, now that they are there, and from now on knows them again.

        :raises OSError:
        """
        for name in (_LOCK, DATABASE, _READERS):
            file = self.path / name
            _keep_from_others(file)
            self._files[str(file)] = _identity(str(file))

    def require_database(self) -> None:
        """Looks whether the database that is open still has its name: 2 µs.

        :raises StoreLost: it has been removed, or its path leads to another one
        """
        _require(self._database, self._files[self._database])

    def require_all(self) -> None:
        """Looks whether all files are still in their places.

        :raises StoreLost: one has been removed, or its path leads to another one
        """
        for file, identity in self._files.items():
            _require(file, identity)

    def close(self) -> None:
        """Lets others have the directory."""
        for descriptor in (self._lock, self.descriptor):
            if descriptor >= 0:
                os.close(descriptor)
        self._lock = self.descriptor = -1

    def _remove_sockets(self, worker: int, workers: int) -> None:
        """Removes those that workers have left behind which this one's lock tells to be gone."""
        for socket in self.path.glob(f"{_WAKE}*"):
            number = socket.name.removeprefix(_WAKE)
            if number.isdecimal() and (int(number) == worker or (int(number) > worker == workers - 1)):
                socket.unlink()


def _require_ours(path: Path) -> None:
    """:raises StoreUnavailable: something else than fetch has its files there"""
    found = {entry.name for entry in path.iterdir()}
    if DATABASE in found:
        return
    if _ETCDS in found:
        raise StoreUnavailable(f"{path} is an etcd's data directory (it has {_ETCDS}/): fetch needs one of its own")
    foreign = sorted(name for name in found - _OF_FILE_SYSTEMS - {_LOCK, _READERS} if not name.startswith(_WAKE))
    if foreign:
        raise StoreUnavailable(f"{path} is neither empty nor fetch's (it has {foreign[0]}): fetch needs one of its own")


def _keep_from_others(path: Path) -> None:
    """Leaves the file to its owner alone, as etcd has it. Where it is another user's, that is theirs to do."""
    mode = stat.S_IMODE(path.stat().st_mode)
    if not mode & _OTHERS:
        return
    try:
        path.chmod(mode & ~_OTHERS)
    except OSError as error:
        logger.warning("%s is open to other users (mode %04o) and stays so: %s", path, mode, error.strerror)
    else:
        logger.info("%s was open to other users (mode %04o): it has mode %04o now", path, mode, mode & ~_OTHERS)


def _take(lock: int, worker: int, workers: int) -> bool:
    """Locks the file; False if another daemon, or another process as this worker, has done so."""
    try:
        fcntl.flock(lock, (fcntl.LOCK_SH if workers > 1 else fcntl.LOCK_EX) | fcntl.LOCK_NB)
        if workers > 1:
            length = 0 if worker == workers - 1 else 1
            fcntl.fcntl(lock, fcntl.F_OFD_SETLK, _FLOCK.pack(fcntl.F_WRLCK, os.SEEK_SET, worker, length, 0))
    except (BlockingIOError, PermissionError):  # the error of a byte that is locked is one or the other
        return False
    return True


def _holder(path: Path) -> str:
    """The process that holds the lock of a directory, as far as the system tells."""
    try:
        inode = f":{(path / _LOCK).stat().st_ino}"
        locks = [line.split() for line in Path("/proc/locks").read_text().splitlines()]
    except OSError:
        return ""
    holders = {lock[4] for lock in locks if lock[1] == "FLOCK" and lock[5].endswith(inode) and lock[4].isdecimal()}
    return f" (process {', '.join(sorted(holders))})" if holders else ""


def _identity(file: str) -> tuple[int, int]:
    found = os.stat(file)  # noqa: PTH116  on the path of each commit
    return found.st_dev, found.st_ino


def _require(file: str, identity: tuple[int, int]) -> None:
    # an inode that is open is nobody else's, so the same numbers are the same file, and its path is its name
    try:
        found = _identity(file)
    except (FileNotFoundError, NotADirectoryError):
        found = None
    except OSError as error:
        raise StoreUnavailable(f"cannot look at {file}: {error.strerror}") from error
    if found != identity:
        what = "is not there any more" if found is None else "is another file than the one that is open"
        raise StoreLost(f"{file} {what}")

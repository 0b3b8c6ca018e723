"""Files without a name that hold what is too much for memory, read and written in threads of their own.

Such a file goes away with the process, however that ends. Its disk may take long, for which nobody else on the event
loop waits, and no commit of the store waits for a thread that does.
"""

import asyncio
import os
import tempfile
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Self, TypeVar

T = TypeVar("T")

_THREADS = ThreadPoolExecutor(2, "snapshots")


class Spool:
    """A file that is written from its beginning, or at positions, and read at positions."""

    def __init__(self, directory: Path | None) -> None:
        """`directory` has the room; None: that of temporary files, `TMPDIR`.

        :raises OSError:
        """
        self._file = tempfile.TemporaryFile(dir=directory, buffering=0)  # noqa: SIM115  closed by `close`
        self.size = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    @property
    def descriptor(self) -> int:
        """The file's, which is open as long as this is."""
        return self._file.fileno()

    async def append(self, pieces: Sequence[bytes]) -> None:
        """Writes at the end.

        :raises OSError: there is no room, for instance
        """
        position = self.size
        self.size += sum(map(len, pieces))
        await in_thread(lambda: self._write(b"".join(pieces), position))

    async def put(self, position: int, data: bytes) -> None:
        """Writes at a position.

        :raises OSError:
        """
        self.size = max(self.size, position + len(data))
        await in_thread(lambda: self._write(data, position))

    async def read(self, position: int, size: int) -> bytes:
        """Reads at a position, fewer bytes at the end.

        :raises OSError:
        """
        return await in_thread(lambda: os.pread(self._file.fileno(), size, position))

    def close(self) -> None:
        """Lets go of the file, and of its room."""
        self._file.close()

    def _write(self, data: bytes, position: int) -> None:
        view = memoryview(data)
        while view:
            written = os.pwrite(self._file.fileno(), view, position)
            view, position = view[written:], position + written


async def in_thread(work: Callable[[], T]) -> T:
    """What the work returns. Who is cancelled meanwhile still waits for it to end: until then the file stays open."""
    running = asyncio.get_running_loop().run_in_executor(_THREADS, work)
    try:
        return await asyncio.shield(running)
    except asyncio.CancelledError:
        await asyncio.wait([running])
        raise

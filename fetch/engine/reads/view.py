"""A tenant at one moment, as it is read: in one snapshot, or in one after the other."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field

from fetch import errors
from fetch.engine.layout import FIRST_REVISION, NEVER, Layout, unpack_revision
from fetch.engine.reads import bounds
from fetch.engine.turns import Work
from fetch.stores.protocol import Store
from fetch.stores.transaction import Source

EVERYTHING = 1 << 62


@dataclass(slots=True)
class View:
    """A tenant at one moment: `revision` is the newest then, and reads go back as far as `compacted`.

    `source` is where it is read. With `reopen` that is another snapshot from time to time, in which `newest` is the
    newest revision. `work` is what the reading is part of. `room` is for how many bytes of answers there still is, and
    `pieces` are those that the answers so far consist of. `large` is what a tenant's large answers take turns by.
    `fixed` are the newest and the compacted revision where they do not change, and are not stored.
    """

    source: Source
    layout: Layout
    revision: int
    compacted: int
    work: Work | None = None
    reopen: Callable[[], Source] | None = None
    room: int = EVERYTHING
    pieces: int = 0
    large: asyncio.Lock | None = None
    fixed: tuple[int, int] | None = None
    newest: int = field(init=False)
    _renewal: float = field(init=False, default=0.0)
    _made: int = field(init=False, default=0)
    _is_large: bool = field(init=False, default=False)

    def __post_init__(self) -> None:
        self.newest = self.revision
        if self.reopen is not None:
            self._renewal = time.perf_counter() + bounds.SNAPSHOT_SECONDS

    @classmethod
    async def open(cls, source: Source, layout: Layout) -> "View":
        """The view of a tenant in a snapshot."""
        return cls(source, layout, *await revisions_of(source, layout))

    def check(self, revision: int) -> None:
        """Raises what etcd answers for a revision that cannot be read.

        :raises FutureRevision: :raises Compacted: OUT_OF_RANGE
        """
        if revision > self.revision:
            raise errors.FutureRevision
        if 0 < revision < self.compacted:
            raise errors.Compacted

    async def pause(self) -> None:
        """Lets others run when the slice is over. What is read stays the same: the snapshot is held on to."""
        if self.work is not None and self.work.is_spent():
            await self.work.give_way()

    async def go_on(self, revision: int) -> None:
        """To be called between two pages of what is read at a revision: pauses, and renews what has grown old.

        :raises Compacted: compaction has overtaken the revision
        """
        await self.pause()
        if self.reopen is not None and time.perf_counter() >= self._renewal:
            await self.renew(revision)

    async def renew(self, revision: int) -> None:
        """Goes on in a new snapshot. Nothing that was read before may be relied on, but what was read at a revision.

        :raises Compacted: compaction has overtaken the revision
        """
        if self.reopen is None:
            return
        self.source = self.reopen()
        self.newest, self.compacted = self.fixed or await revisions_of(self.source, self.layout)
        self._renewal = time.perf_counter() + bounds.SNAPSHOT_SECONDS
        self.check(revision)

    def require_room(self, size: int) -> None:
        """Raises what a gRPC server answers instead of a message that is too large.

        :raises ResponseTooLarge: RESOURCE_EXHAUSTED
        """
        if size > self.room:
            raise errors.ResponseTooLarge

    async def require_room_for(self, size: int) -> None:
        """The same, of an answer that grows. Once it is large it waits until no other of its tenant's is being made:
        how large they become shows only then, and together they would have no bound.

        :raises ResponseTooLarge: RESOURCE_EXHAUSTED
        """
        self.require_room(size)
        if self.large is not None and not self._is_large and self._made + size > bounds.LARGE_BYTES:
            await self.large.acquire()
            self._is_large = True

    def take_room(self, size: int) -> None:
        """The same, and leaves so many bytes less for what else the answer has."""
        self.require_room(size)
        self.room -= size
        self._made += size

    def close(self) -> None:
        """Lets the next large answer be made."""
        if self.large is not None and self._is_large:
            self._is_large = False
            self.large.release()


@contextlib.asynccontextmanager
async def lasting_view(
    store: Store, layout: Layout, work: Work, fixed: tuple[int, int] | None = None
) -> AsyncIterator[View]:
    """A view for a long read, which holds one snapshot at a time and none of them for long."""
    with contextlib.ExitStack() as held:

        def reopen() -> Source:
            held.close()
            return held.enter_context(store.snapshot())

        source = reopen()
        revisions = fixed or await revisions_of(source, layout)
        yield View(source, layout, *revisions, work, reopen, fixed=fixed)


async def revisions_of(source: Source, layout: Layout) -> tuple[int, int]:
    """The newest and the compacted revision."""
    revision, compacted = await source.get_many([layout.revision, layout.compacted])
    return unpack_revision(revision, FIRST_REVISION), unpack_revision(compacted, NEVER)

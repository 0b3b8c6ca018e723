"""Watches: each has a list of what it still has to tell."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from fetch import errors
from fetch.api.kv_pb2 import Event
from fetch.api.rpc_pb2 import WatchResponse
from fetch.engine.memory.keyspace import Change, Keyspace
from fetch.engine.protocol import MESSAGE_BYTES, Delivery, Listener
from fetch.engine.turns import Work


@dataclass(slots=True, eq=False)
class Watch:
    """A watch on a range: it tells changes from `start` on, which are `waiting` until they are taken.

    `compacted`: its start was, when it came.
    """

    key: bytes
    range_end: bytes
    start: int
    prev_kv: bool
    puts: bool
    deletes: bool
    listener: Listener
    position: int
    compacted: bool = False
    ended: bool = False
    waiting: list[Change] = field(default_factory=list)

    @property
    def is_behind(self) -> bool:
        """Whether its start was compacted, which it is still to tell. Others have all that there was as they come."""
        return self.compacted and not self.ended

    def add(self, changes: Sequence[Change]) -> None:
        """Takes up what is for it, and tells its listener."""
        mine = [change for change in changes if self._is_for_it(change)]
        self.waiting += mine
        if mine:
            self.listener(self)

    def _is_for_it(self, change: Change) -> bool:
        key = change.kv.key
        if not self.range_end:
            is_in_range = key == self.key
        else:
            is_in_range = self.key <= key and (self.range_end == b"\x00" or key < self.range_end)
        return is_in_range and change.revision >= self.start and (self.deletes if change.deleted else self.puts)

    def encoded(self, change: Change) -> bytes:
        """The event of a change, framed as a field of WatchResponse."""
        event = Event(type=Event.DELETE if change.deleted else Event.PUT, kv=change.kv)
        if self.prev_kv and change.previous is not None:
            event.prev_kv.CopyFrom(change.previous)
        return WatchResponse(events=[event]).SerializeToString()


class Instance:
    """The watches of one stream, and its listener."""

    def __init__(self, keyspace: Keyspace) -> None:
        self._keyspace = keyspace
        self._listener: Listener = lambda _: False
        self._watches: dict[Watch, None] = {}

    @property
    def position(self) -> int:
        """Everything is handed on as it happens."""
        return self._keyspace.revision

    @property
    def received(self) -> int:
        """The same."""
        return self._keyspace.revision

    def publish(self, changes: Sequence[Change]) -> None:
        """Hands on what an operation has changed."""
        for watch in list(self._watches):
            watch.add(changes)

    def register_watch_listener(self, listener: Listener) -> None:
        """Sets the listener of all watches that are registered from now on."""
        self._listener = listener

    async def register_key_watch(
        self, key: bytes, range_end: bytes, start_revision: int, *, prev_kv: bool, puts: bool, deletes: bool
    ) -> Watch:
        """Watches a range. What it has missed is waiting for it at once, without its listener being told."""
        keyspace = self._keyspace
        start = start_revision or keyspace.revision + 1
        watch = Watch(key, range_end, start, prev_kv, puts, deletes, lambda _: False, start - 1)
        watch.compacted = start < keyspace.compacted
        watch.add(keyspace.log)
        watch.listener = self._listener
        self._watches[watch] = None
        return watch

    def cancel_key_watch(self, watch: Watch) -> None:
        """Ends a watch."""
        watch.ended = True
        self._watches.pop(watch, None)

    def cancel_all(self) -> None:
        """Ends all watches."""
        for watch in list(self._watches):
            self.cancel_key_watch(watch)

    async def take(
        self,
        watch: Watch,
        limit: int = MESSAGE_BYTES,
        up_to: int | None = None,
        work: Work | None = None,  # noqa: ARG002  none of it is long
    ) -> Delivery | None:
        """Takes whole revisions, the first one in any case, and others that fit into the limit.

        :raises Compacted:
        """
        if watch.ended:
            return None
        if watch.compacted:
            raise errors.Compacted
        end = self.position if up_to is None else min(up_to, self.position)
        frames: list[bytes] = []
        size = 0
        while watch.waiting and watch.waiting[0].revision <= end:
            revision = watch.waiting[0].revision
            changes = [change for change in watch.waiting if change.revision == revision]
            encoded = [watch.encoded(change) for change in changes]
            if frames and size + sum(map(len, encoded)) > limit:
                break
            del watch.waiting[: len(changes)]
            watch.position = revision
            frames += encoded
            size += sum(map(len, encoded))
        else:
            watch.position = max(watch.position, end)
        return Delivery(frames, len(frames), size, self.position) if frames else None

    def has_more(self, watch: Watch) -> bool:
        """Whether anything is waiting."""
        return bool(watch.waiting)

    def is_synced(self, watch: Watch, revision: int | None = None) -> bool:
        """Whether nothing is waiting that happened up to a revision."""
        end = self.position if revision is None else revision
        return not watch.compacted and not (watch.waiting and watch.waiting[0].revision <= end)

    async def caught_up(self) -> None:
        """It always has."""

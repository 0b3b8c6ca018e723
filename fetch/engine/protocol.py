"""The storage engine: what the services ask of one tenant's keyspace, and nothing of how it is kept.

Two engines keep the promises that are made here. `StoredEngine` stands on a store and is what fetch serves; the one
of `memory` is small enough to be read as the specification. One contract suite runs over both, and over etcd.

What holds for all operations:

- A keyspace has a revision, which begins at 1. Each operation that changes keys takes the next one, whatever number of
  keys it changes; one that changes none takes none. An operation takes place as a whole; where it raises, not at all.
- Operations seem to take place one after the other, each between its call and its return; a write is durable, as far
  as the engine is at all, before it returns. So a read sees every write that had returned when it was called.
- `revision` of what is returned is the newest revision of the state that the operation was carried out on, its own
  change included.
- Requests have been validated by the services: ranges have a key, orders are known, no key is changed twice.
- Whatever etcd would answer with an error is raised as `EtcdError` with etcd's code and text. Besides those that each
  operation names, an engine whose storage fails raises TimedOut (UNAVAILABLE), TooManyRequests, or Corrupt (DATA_LOSS).

A *frame* is a KeyValue serialized and framed as field 2, which it is of a RangeResponse (`records`): answers are made
of frames as they are. Events that watches take are framed likewise, as field 11 of a WatchResponse.

One file, since it is one promise, to be read as a whole.
"""

from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

from fetch.api.rpc_pb2 import DeleteRangeRequest, DeleteRangeResponse, PutRequest, PutResponse, RangeRequest, TxnRequest
from fetch.engine.alarms import Alarms
from fetch.engine.answers import Answer, Found
from fetch.engine.turns import Turns, Work
from fetch.errors import EtcdError

MESSAGE_BYTES = 256 << 10
"""What is taken of a watch in one go unless the caller sets another limit."""


@dataclass(slots=True)
class Outcome:
    """The outcome of an operation on one key. If its condition failed, `current` is the frame that the key has; None
    when it has none. A delete that succeeded has in it what was deleted."""

    revision: int
    succeeded: bool
    current: bytes | None = None


@dataclass(frozen=True, slots=True)
class Piece:
    """A part of a streamed range: frames. `more`, `count` and `revision` are those of the whole answer."""

    frames: list[bytes]
    last: bool
    more: bool
    count: int
    revision: int


@dataclass(frozen=True, slots=True)
class Status:
    """A keyspace's newest revision, the bytes and keys it has stored, its alarms, its compacted revision (-1: none)."""

    revision: int
    stored_bytes: int
    keys: int
    alarms: Alarms
    compacted: int
    writer: int = 0
    """The daemon that wrote last, by its name among daemons; 0: that is not known."""


@dataclass(slots=True)
class Delivery:
    """What a watch has to tell: framed events, all of whole revisions, how many bytes they are, and the revision for
    the response's header."""

    frames: Sequence[bytes]
    events: int
    size: int
    revision: int


class Grant(Protocol):
    """A lease as granted. `ttl` is its time to live in seconds."""

    @property
    def lease(self) -> int:
        """Its ID."""

    @property
    def ttl(self) -> int:
        """Its time to live in seconds."""


class KeyWatch(Protocol):
    """A watch on a range, in a watch instance. Everything else about it is its engine's own."""

    @property
    def position(self) -> int:
        """Everything that happened up to this revision has been taken, and nothing that happened after it."""

    @property
    def ended(self) -> bool:
        """Whether it has been cancelled, and tells nothing more."""

    @property
    def is_behind(self) -> bool:
        """Whether it still has to be brought to where its instance is, be it that it starts in the past or that it
        could not keep up."""


Listener = Callable[[Any], bool | None]
"""Is told of a watch that may have something to take. Tells whether it woke anybody. Does not wait."""

W = TypeVar("W", bound=KeyWatch)


class WatchInstance(Protocol[W]):
    """What one stream of a client has: its watches and its one listener.

    A watch tells every event of its range from its start on, once, in the order of revisions, and never a part of a
    revision. The instance does not push: it tells its listener that there may be something, and the stream takes it
    when it can. So nothing is queued for a client that reads slowly.
    """

    @property
    def position(self) -> int:
        """The revision up to which watches that are not behind can take everything; -1 where nobody watches."""

    @property
    def received(self) -> int:
        """The newest revision that is known of, which may be ahead of `position`; -1 where nobody watches."""

    def register_watch_listener(self, listener: Listener) -> None:
        """Sets the listener of all watches that are registered from now on. It is called with the watch."""

    async def register_key_watch(
        self, key: bytes, range_end: bytes, start_revision: int, *, prev_kv: bool, puts: bool, deletes: bool
    ) -> W:
        """Watches a range from `start_revision` on (0: what happens after this call).

        The start may lie in the future, when nothing before it is told, or have been compacted, which shows when the
        watch is taken from. `prev_kv`: events carry the value before them; `puts` and `deletes`: which are told.
        """

    def cancel_key_watch(self, watch: W) -> None:
        """Ends a watch, if it has not ended."""

    def take(
        self, watch: W, limit: int = MESSAGE_BYTES, up_to: int | None = None, work: Work | None = None
    ) -> Coroutine[Any, Any, Delivery | None]:
        """Takes what has happened in the watch's range since the last call: whole revisions, no more than fit into
        `limit` bytes but at least one, and none behind `up_to`.

        None when there is nothing now, or nothing that was for it; the listener is told when there is. `work` is the
        work that the call is part of, if it is.

        :raises Compacted: compaction has overtaken the position of a watch that is behind, or of its start
        """

    def has_more(self, watch: W) -> bool:
        """Whether there is something to take at once, up to `position`."""

    def is_synced(self, watch: W, revision: int | None = None) -> bool:
        """Whether the watch has taken everything up to a revision; None: up to `position`."""

    async def caught_up(self) -> None:
        """Returns once `position` has reached what is the newest revision now, whoever wrote it."""


class StorageEngine(Protocol):
    """The operations of one tenant's keyspace. See the module for what holds for all of them."""

    @property
    def tenant(self) -> str:
        """The tenant's name, of which the ID of its cluster is made."""

    @property
    def member_id(self) -> int:
        """The ID of the member of its cluster that this daemon is."""

    @property
    def quota(self) -> int:
        """The bytes that may be stored; 0: no bound."""

    @property
    def turns(self) -> Turns:
        """The turns that all tenants' long work takes, the services' own included."""

    # keys: the operations that Kubernetes needs

    async def create_if_absent(self, key: bytes, value: bytes, lease: int) -> Outcome:
        """Puts a key that does not exist: `If mod_revision(key) == 0 Then put Else get`. `lease` 0: attached to none.

        :raises NoSpace: RESOURCE_EXHAUSTED, also where the condition fails :raises LeaseNotFound: NOT_FOUND
        :raises RequestTooLarge: INVALID_ARGUMENT, more than the storage takes at once
        """

    async def update_at_revision(self, key: bytes, revision: int, value: bytes, lease: int) -> Outcome:
        """Puts a key whose mod_revision is `revision`: `If mod_revision(key) == revision Then put Else get`.

        :raises NoSpace: :raises LeaseNotFound: :raises RequestTooLarge: as above
        """

    async def delete_key(self, key: bytes, revision: int) -> Outcome:
        """Deletes a key whose mod_revision is `revision`: `If mod_revision(key) == revision Then delete Else get`.

        At revision 0 it succeeds where there is no such key, and changes nothing.
        """

    async def get_latest(self, key: bytes) -> Outcome:
        """The key's newest frame, in `current`; it succeeds if there is one."""

    async def get_at_revision(self, key: bytes, revision: int) -> Outcome:
        """The frame that the key had at a revision, in `current`.

        :raises FutureRevision: OUT_OF_RANGE :raises Compacted: OUT_OF_RANGE
        """

    async def range_keys(self, request: RangeRequest) -> Found:
        """The keys of a range at a revision: filtered, then sorted, then cut at the limit.

        `count` is of the whole range at that revision, before filters and limit; `more`: the limit has cut something.

        :raises FutureRevision: OUT_OF_RANGE :raises Compacted: OUT_OF_RANGE
        :raises ResponseTooLarge: RESOURCE_EXHAUSTED, before more of it is held
        """

    async def count_keys(self, key: bytes, range_end: bytes, revision: int) -> tuple[int, int]:
        """How many keys a range has at a revision (0: the newest), and the newest revision.

        :raises FutureRevision: OUT_OF_RANGE :raises Compacted: OUT_OF_RANGE
        """

    # keys: the general operations

    def stream_range(self, request: RangeRequest) -> AsyncIterator[Piece]:
        """The range in pieces of bounded size, all at one revision, each read when it is asked for.

        :raises FutureRevision: :raises Compacted: also midway, when compaction overtakes the stream's revision
        :raises ResponseTooLarge: a whole answer, where it has to be read first
        """

    async def put(self, request: PutRequest) -> PutResponse:
        """Puts a key.

        :raises NoSpace: :raises LeaseNotFound: :raises RequestTooLarge: as above
        :raises KeyNotFound: INVALID_ARGUMENT, its value or lease is to be left as it is, and there is none
        """

    async def delete_range(self, request: DeleteRangeRequest) -> DeleteRangeResponse:
        """Deletes all keys of a range, at one revision; at several, in order of the keys, where the storage does not
        take so much at once. The answer is of all of them."""

    async def txn(self, request: TxnRequest, size: int = 0) -> Answer:
        """Evaluates a transaction: all compares first, those of nested ones too, then what is to be done, in order.

        `size` in bytes is what it takes as a request.

        :raises NoSpace: any branch has a put :raises LeaseNotFound: :raises KeyNotFound: :raises RequestTooLarge:
        :raises FutureRevision: :raises Compacted: OUT_OF_RANGE :raises ResponseTooLarge: RESOURCE_EXHAUSTED
        """

    async def read_only_txn(self, request: TxnRequest) -> Answer:
        """The same for a transaction that has nothing but ranges in it, which no write waits for.

        :raises FutureRevision: :raises Compacted: OUT_OF_RANGE :raises ResponseTooLarge: RESOURCE_EXHAUSTED
        """

    async def revision(self) -> int:
        """The newest revision."""

    async def compact(self, revision: int, *, physical: bool) -> int:
        """Forgets what was superseded up to a revision; the newest revision. `physical` waits until it is cleared.

        Reads at revisions below it are refused from now on, and watches that are behind it end.

        :raises Compacted: OUT_OF_RANGE, it has been before :raises FutureRevision: OUT_OF_RANGE
        """

    # watches

    def create_watch_instance(self) -> WatchInstance[Any]:
        """A watch instance, for one stream of a client."""

    def delete_watch_instance(self, instance: WatchInstance[Any]) -> None:
        """Ends a watch instance with all its watches. One that has been deleted before is left as it is."""

    # leases

    async def grant_lease(self, lease_id: int, ttl: int) -> tuple[Grant, int]:
        """Grants a lease of `ttl` seconds, or of as many as is the least; its ID is chosen here when it is 0. With the
        revision.

        :raises LeaseExists: FAILED_PRECONDITION :raises LeaseTTLTooLarge: OUT_OF_RANGE :raises NoSpace:
        """

    async def renew_leases(self, leases: Sequence[int]) -> tuple[Sequence[Grant | None], int]:
        """Starts times to live anew; None for each lease that there is not. With the revision from before that."""

    async def revoke_lease(self, lease_id: int) -> int:
        """Ends a lease and deletes its keys as its expiry does, at one revision, or at several where the storage does
        not take so much at once; the revision after them. The lease is gone from the first one on.

        :raises LeaseNotFound: NOT_FOUND
        """

    async def find_lease(self, lease_id: int, *, keys: bool) -> tuple[Grant | None, int, list[bytes], int]:
        """A lease's grant (None: no such lease), the whole seconds it has left (negative: it has run out and is about
        to be revoked), its keys in order if they are asked for, and the newest revision."""

    async def leases(self) -> tuple[list[int], int]:
        """All leases, the one that ends first first, and the newest revision."""

    # maintenance

    async def status(self) -> Status:
        """What there is."""

    async def change_alarms(self, *, activate: Alarms = frozenset(), deactivate: Alarms = frozenset()) -> Alarms:
        """Raises and lowers alarms; those that were raised before. While any is NOSPACE, puts are refused.

        :raises TooManyAlarms: RESOURCE_EXHAUSTED
        """

    async def hash_keys(self, revision: int) -> tuple[int, int, int]:
        """(etcd's hash of the keys at a revision, the compacted revision, the revision that was hashed).

        Of the same changes and compactions it is the same in any engine, and in etcd. `revision` 0: the newest.

        :raises FutureRevision: :raises Compacted: OUT_OF_RANGE
        """


class UnknownTenant(Exception):
    """There may be only certain tenants, and this is none of them."""


Ended = Callable[[StorageEngine, type[EtcdError]], None]
"""Is told of an engine that serves its tenant no longer, and of what its calls are to be answered. Does not wait."""


class Tenants(Protocol):
    """Who gives each tenant its engine."""

    def get(self, name: str) -> StorageEngine | None:
        """The engine of a tenant that has been opened before."""

    async def open(self, name: str) -> StorageEngine:
        """The engine of a tenant.

        :raises UnknownTenant: it is not among those that there may be :raises TenantClosed: it is not served
        :raises StoreUnavailable: its directory cannot be opened now
        """

    def when_ended(self, ended: Ended) -> None:
        """Has someone told of each engine that serves no longer: tenants can be taken away while they are served."""

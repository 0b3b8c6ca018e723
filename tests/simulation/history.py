"""What clients did and were told, held against what etcd guarantees.

A tenant's revisions order its writes, so nothing has to be searched for: the log of events, read when all is quiet, is
the one order that everything else must agree with. Values are unique, so an event tells which write it comes from.

The guarantees are those of etcd's documentation, `learning/api_guarantees`.
"""

from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from fetch.api.kv_pb2 import Event, KeyValue


class BrokenGuaranteeError(AssertionError):
    """A history that etcd would not have."""


@dataclass(slots=True)
class Write:
    """A write: what it would put (None: a delete) into each key, under which condition on one key's mod_revision.

    `succeeded` None: nobody knows whether it took place. `revision` as its answer told it.
    """

    began: float
    ended: float
    changes: Mapping[bytes, bytes | None]
    condition: tuple[bytes, int] | None = None
    succeeded: bool | None = None
    revision: int = 0


@dataclass(slots=True)
class Read:
    """A range: what was found at the revision of its header, or at the one asked for."""

    began: float
    ended: float
    begin: bytes
    end: bytes
    asked: int
    header: int
    limit: int
    found: Sequence[KeyValue]
    count: int
    more: bool


@dataclass(slots=True)
class Watched:
    """What one watch heard, over all its streams: (revision of the message, events); no events: a progress notice.

    It began at revision `start`, and would resume at `next`. `compacted`: it was told that this is not possible.
    """

    begin: bytes
    end: bytes
    start: int
    next: int
    heard: list[tuple[int, list[Event]]] = field(default_factory=list)
    compacted: bool = False

    def tell(self, revision: int, events: list[Event]) -> None:
        """Notes a message: it goes on behind it if the stream ends here."""
        self.heard.append((revision, events))
        self.next = (events[-1].kv.mod_revision if events else revision) + 1


@dataclass(slots=True)
class History:
    """All that happened to one tenant. `compacted` is the highest revision that anyone asked to compact at."""

    compacted: int = 0
    writes: list[Write] = field(default_factory=list)
    reads: list[Read] = field(default_factory=list)
    watches: list[Watched] = field(default_factory=list)


State = dict[bytes, KeyValue]


def check(history: History, log: Sequence[tuple[int, Sequence[Event]]], first: int) -> None:
    """Holds the history against the log: the events of each revision, from the one behind `first` on.

    :raises BrokenGuaranteeError:
    """
    states = _replay(log, first)
    newest = first + len(log)
    _check_writes(history.writes, log, states, first)
    _check_order(history, newest)
    for read in history.reads:
        _check_read(read, states, first)
    for watched in history.watches:
        _check_watch(watched, log, newest, history.compacted)


def _replay(log: Sequence[tuple[int, Sequence[Event]]], first: int) -> list[State]:
    """The keys at each revision, and that revisions are dense and each event what follows from those before it."""
    states: list[State] = [{}]
    for index, (revision, events) in enumerate(log):
        _expect(revision == first + 1 + index, f"revision {revision} follows {first + index}")
        state = dict(states[-1])
        _expect(bool(events), f"revision {revision} has no events")
        for event in events:
            key, kv, before = event.kv.key, event.kv, states[-1].get(event.kv.key)
            _expect(kv.mod_revision == revision, f"an event of revision {revision} says {kv.mod_revision}")
            if event.type == Event.DELETE:
                _expect(state.pop(key, None) is not None, f"{key!r} is deleted at {revision}, and was not there")
            else:
                version = 1 if key not in state else state[key].version + 1
                created = revision if version == 1 else state[key].create_revision
                _expect((kv.version, kv.create_revision) == (version, created), f"{kv} does not follow {before}")
                state[key] = kv
            _expect(event.prev_kv == (before or KeyValue()), f"the value before {event} was {before}, at {revision}")
        states.append(state)
    return states


def _check_writes(
    writes: Sequence[Write], log: Sequence[tuple[int, Sequence[Event]]], states: Sequence[State], first: int
) -> None:
    by_value = {value: write for write in writes for value in write.changes.values() if value is not None}
    happened: dict[int, int] = {}
    for revision, events in log:
        for event in events:
            if event.type == Event.PUT:
                write = by_value.get(event.kv.value)
                _expect(write is not None, f"nobody wrote {event.kv} at {revision}")
                assert write is not None
                _expect(
                    happened.setdefault(id(write), revision) == revision, f"{write} took place twice, at {revision} too"
                )
                _expect(write.succeeded is not False, f"{write} had failed, and took place at {revision}")
    for write in writes:
        if write.succeeded is False and write.condition is not None and write.revision < 1 << 62:
            key, wanted = write.condition
            current = states[write.revision - first].get(key)
            _expect((current.mod_revision if current else 0) != wanted, f"{write} failed, and there was {current}")
        if not write.succeeded:
            continue
        events = log[write.revision - first - 1][1] if first < write.revision <= first + len(log) else ()
        done = {event.kv.key: event.kv.value if event.type == Event.PUT else None for event in events}
        _expect(done == dict(write.changes), f"{write} was acknowledged; its revision has {done}")
        if write.condition is not None:
            key, wanted = write.condition
            before = states[write.revision - first - 1].get(key)
            _expect((before.mod_revision if before else 0) == wanted, f"{write} succeeded on {before}")


def _check_order(history: History, newest: int) -> None:
    """What began after a write had been acknowledged comes behind it."""
    acknowledged = sorted((write.ended, write.revision) for write in history.writes if write.succeeded)
    ends = [ended for ended, _ in acknowledged]
    highest: list[int] = []
    for _, revision in acknowledged:
        highest.append(max(revision, highest[-1] if highest else 0))

    def before(moment: float) -> int:
        index = bisect_left(ends, moment)
        return highest[index - 1] if index else 0

    for write in history.writes:
        if write.succeeded:
            _expect(write.revision > before(write.began), f"{write} began when {before(write.began)} was acknowledged")
        elif write.succeeded is False:
            _expect(write.revision >= before(write.began), f"{write} failed by a state older than its beginning")
    for read in history.reads:
        _expect(read.header >= before(read.began), f"{read} is stale: {before(read.began)} was acknowledged")
        _expect(read.header <= newest, f"{read} comes from the future: the newest is {newest}")


def _check_read(read: Read, states: Sequence[State], first: int) -> None:
    revision = read.asked or read.header
    state = states[revision - first]
    wanted = [state[key] for key in sorted(state) if read.begin <= key < read.end]
    _expect(read.count == len(wanted), f"{read} counts {read.count} of {len(wanted)} keys")
    shown = wanted[: read.limit] if read.limit else wanted
    _expect(list(read.found) == shown, f"at {revision} a range had {shown}, and {read.found} were told")
    _expect(read.more == (len(shown) < len(wanted)), f"{read} says more={read.more}")


def _without_previous(event: Event) -> Event:
    return Event(type=event.type, kv=event.kv)


def _check_watch(watched: Watched, log: Sequence[tuple[int, Sequence[Event]]], newest: int, compacted: int) -> None:
    """Ordered, unique, reliable, atomic, resumable, bookmarkable."""
    wanted = {
        revision: [event for event in events if watched.begin <= event.kv.key < watched.end] for revision, events in log
    }
    heard = watched.start - 1
    for header, events in watched.heard:
        if not events:
            missed = [revision for revision in range(heard + 1, header + 1) if wanted.get(revision)]
            _expect(not missed, f"{watched.begin!r}: progress up to {header}, and {missed} had not been told")
            _expect(header >= heard, f"{watched.begin!r}: progress {header} behind events of {heard}")
            heard = header
            continue
        for revision in dict.fromkeys(event.kv.mod_revision for event in events):
            _expect(revision > heard, f"{watched.begin!r}: {revision} was told behind {heard}")
            missed = [between for between in range(heard + 1, revision) if wanted.get(between)]
            _expect(not missed, f"{watched.begin!r}: {missed} were left out before {revision}")
            told = [event for event in events if event.kv.mod_revision == revision]
            happened = wanted.get(revision, [])
            if revision <= compacted:  # the values before it may be gone, for each event or none
                happened, told = [_without_previous(event) for event in happened], [_without_previous(e) for e in told]
            _expect(told == happened, f"{watched.begin!r}: of {revision} were told {told}")
            heard = revision
        _expect(header >= heard, f"{watched.begin!r}: a message of revision {header} has events of {heard}")
    if watched.compacted:
        return
    missed = [revision for revision in range(heard + 1, newest + 1) if wanted.get(revision)]
    _expect(not missed, f"{watched.begin!r} never heard of {missed}")


def _expect(holds: bool, otherwise: str) -> None:
    if not holds:
        raise BrokenGuaranteeError(otherwise)

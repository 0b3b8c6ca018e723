"""What a watcher is told in one go: made of its feed's events, or taken over from another who was told the same."""

from fetch.engine.protocol import MESSAGE_BYTES, Delivery
from fetch.engine.records import StoredEvent
from fetch.engine.turns import Work
from fetch.engine.watches.feed import Feed, Joined, Watcher

# what is made in one go: events, and bytes
_FRAMED_AT_ONCE = 200
_BYTES_AT_ONCE = 1 << 20


async def framed(events: list[StoredEvent], watcher: Watcher, revision: int, work: Work | None) -> Delivery:
    """Events as the watcher wants them. In slices, if it is work."""
    frames: list[bytes] = []
    size = framed_size = 0
    for event in events:
        frame = event.framed(previous=watcher.prev_kv)
        frames.append(frame)
        size += len(frame)
        if work is not None and (not len(frames) % _FRAMED_AT_ONCE or size - framed_size > _BYTES_AT_ONCE):
            framed_size = size
            if work.is_spent():
                await work.give_way()
    return Delivery(frames, len(events), size, max(revision, events[-1].revision))


def is_long(feed: Feed, watcher: Watcher, revision: int, limit: int) -> bool:
    """Whether it takes long to make what the watcher is to be told."""
    start, end = watcher.taken, feed.ahead
    if end - start == 1 or _kept(feed, watcher, revision, limit) is not None:
        return False
    return end - start > _FRAMED_AT_ONCE or sum(len(e.encoded) for e in feed.between(start, end)) > _BYTES_AT_ONCE


async def take_from(
    feed: Feed, watcher: Watcher, revision: int, position: int, limit: int, work: Work | None
) -> Delivery | None:
    """What has happened up to `revision` and the watcher has not taken, of which there is something.

    No more than fits into `limit`, but a whole revision. None when nothing of it is for the watcher. `position` is the
    hub's.
    """
    kept = _kept(feed, watcher, revision, limit)
    if kept is not None:
        feed.move(watcher, kept.end, position)
        watcher.position = kept.revision if kept.full else revision
        return Delivery((kept.encoded,), kept.events, len(kept.encoded), max(position, kept.revision))
    group, behind = feed.group_of(watcher), watcher.position
    end = feed.end_of_turn(watcher, revision, limit)
    events = feed.between(watcher.taken, end)
    last = events[-1].revision
    feed.move(watcher, end, position)
    full = feed.has_more(watcher, revision)
    watcher.position = max(behind, last if full else revision)
    is_shared = watcher.puts and watcher.deletes and events[0].revision > behind
    if not is_shared:
        events = [event for event in events if event.revision > behind and watcher.passes(event)]
        if not events:
            return None
    delivery = await framed(events, watcher, position, work)
    # that the group has watchers tells that it still is the feed's, whatever has happened meanwhile
    if is_shared and group.watchers and delivery.size <= MESSAGE_BYTES and feed.backlog.has_room(delivery.size):
        joined = b"".join(delivery.frames)
        feed.keep(group, Joined(joined, end, len(events), last, full), prev_kv=watcher.prev_kv)
        delivery.frames = (joined,)
    return delivery


def _kept(feed: Feed, watcher: Watcher, revision: int, limit: int) -> Joined | None:
    """What another watcher was told that stood where this one stands, if it is all that there is for this one."""
    group = feed.group_of(watcher)
    kept = group.joined.get(watcher.prev_kv)
    if kept is None or kept.revision > revision or len(kept.encoded) > limit:
        return None
    if not (watcher.puts and watcher.deletes) or group.revision <= watcher.position:
        return None
    return kept if kept.full or kept.end == feed.ahead else None

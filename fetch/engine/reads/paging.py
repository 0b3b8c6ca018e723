"""Keys at a revision, page by page.

The newest revision is one range read of `keys`. An older revision R is the same range read, corrected by the range's
history: of each key that something superseded after R, the first such event holds the value that the key had at R. A
key's history rows lie in order of their revisions, so that one is a seek away, however many versions lie before and
behind it: a read at R costs by the keys that it looks at.

A long read is a series of pages. Between them it takes turns with others' work, and when its snapshot has grown old it
goes on with a new one, at the same revision: what has changed since is then read from the history.
"""

from collections.abc import AsyncIterator

from fetch import errors
from fetch.engine.layout import pack_revision, unpack_sub
from fetch.engine.reads import bounds
from fetch.engine.reads.view import View
from fetch.engine.records import StoredEvent, mod_revision_of
from fetch.stores.protocol import SnapshotExpired

_REVISION_BYTES = 8


async def collect(view: View, begin: bytes, end: bytes, limit: int, revision: int) -> tuple[list[bytes], bytes, bool]:
    """At most `limit` frames of the rows [begin, end) at a revision, where to go on, and whether there is more.

    Reads one page of one snapshot; `more` without a full `limit` asks the caller to go on from the returned row.
    """
    if revision == view.newest:
        rows, more = await view.source.get_range(begin, end, min(limit, bounds.PAGE))
        return [value for _, value in rows], rows[-1][0] + b"\x00" if more else end, more
    found, upper, more = await _as_of(view, begin, end, min(max(limit, bounds.BRIEF), bounds.PAGE), revision)
    if len(found) > limit:
        found = found[:limit]
        return [stored for _, stored in found], found[-1][0] + b"\x00", True
    return [stored for _, stored in found], upper, more


async def page(view: View, begin: bytes, end: bytes, limit: int, revision: int) -> tuple[list[bytes], bytes, bool]:
    """See `collect`. Reads the page again in a new snapshot if the view's has expired and can be renewed."""
    for _ in range(bounds.TRIES - 1):
        try:
            return await collect(view, begin, end, limit, revision)
        except SnapshotExpired:
            if view.reopen is None:
                raise
            await view.renew(revision)
    return await collect(view, begin, end, limit, revision)


async def pages(view: View, begin: bytes, end: bytes, limit: int, revision: int) -> AsyncIterator[list[bytes]]:
    """All frames of the rows [begin, end) at a revision up to `limit`, in pages.

    :raises Compacted: also midway, when compaction overtakes the revision of a view that is renewed
    """
    more = begin < end
    while more and limit > 0:
        frames, begin, more = await page(view, begin, end, limit, revision)
        limit -= len(frames)
        yield frames
        if more and limit > 0:
            await view.go_on(revision)


def is_one_key(begin: bytes, end: bytes) -> bool:
    """Whether rows [begin, end) are those of one key."""
    return end == begin + b"\x00"


async def _as_of(
    view: View, begin: bytes, end: bytes, limit: int, revision: int
) -> tuple[list[tuple[bytes, bytes]], bytes, bool]:
    """Rows of [begin, end) as they were at an older revision, where to go on, and whether there is more.

    Looks at up to `limit` keys that there are now and as many that were changed or deleted since, and at about
    `bounds.PAGE_BYTES` of what these were. A key that has not changed since is found where it is; one that has in the
    event that superseded what it was; one that was created since is in neither.
    """
    rows, more = await view.source.get_range(begin, end, limit)
    upper = rows[-1][0] + b"\x00" if more else end
    changed, is_cut = await _superseded(view, begin, upper, limit, revision)
    if is_cut:
        upper, more = changed[-1][0] + b"\x00", True
    found = {row: stored for row, stored in rows if row < upper and mod_revision_of(stored) <= revision}
    await view.pause()
    done = size = 0
    at_once = 4
    while done < len(changed):
        if size >= bounds.PAGE_BYTES:
            upper, more = changed[done][0], True
            return sorted(item for item in found.items() if item[0] < upper), upper, more
        group = changed[done : done + at_once]
        events = await view.source.get_many([event for _, event in group])
        for (row, _), encoded in zip(group, events, strict=True):
            if encoded is None:
                raise errors.Corrupt
            size += len(encoded)
            previous = StoredEvent.parse(0, encoded).previous()
            if previous is not None and mod_revision_of(previous) <= revision:
                found[row] = previous
        done += len(group)
        at_once = max(1, min(4 * at_once, (bounds.PAGE_BYTES - size) * done // max(size, 1)))
        await view.pause()
    return sorted(found.items()), upper, more


async def _superseded(
    view: View, begin: bytes, end: bytes, limit: int, revision: int
) -> tuple[list[tuple[bytes, bytes]], bool]:
    """The first `limit` keys of rows [begin, end) that something has superseded after a revision, each as its row and
    that of the first such event, and whether there may be more.

    Reads each key's history from where it is or from behind the revision, and only the beginning of it: pages are as
    small as a seek is dear while keys have many versions, and grow while they have few.
    """
    layout = view.layout
    first, last = layout.history_range(begin, end)
    if is_one_key(begin, end):
        first = layout.history_row(begin[len(layout.keys) :], revision + 1)
    newest_left_out = pack_revision(revision)
    changed: list[tuple[bytes, bytes]] = []
    of, is_decided = b"", False
    at_once, more = 1 if is_one_key(begin, end) else bounds.FEWEST, True
    while more:
        rows, more = await view.source.get_range(first, last, at_once)
        keys = 0
        for row, stored in rows:
            if row[:-_REVISION_BYTES] != of:
                of, is_decided = row[:-_REVISION_BYTES], False
                keys += 1
            if is_decided or row[-_REVISION_BYTES:] <= newest_left_out:
                continue
            is_decided = True
            key, superseded_at = layout.unpack_history(row)
            changed.append((layout.key(key), layout.event(superseded_at, unpack_sub(stored))))
            if len(changed) == limit:
                return changed, True
        if more:
            key, _ = layout.unpack_history(rows[-1][0])
            first = layout.behind_history_of(key) if is_decided else layout.history_row(key, revision + 1)
            at_once = max(bounds.FEWEST, min(8 * keys, bounds.PAGE))
        await view.pause()
    return changed, False

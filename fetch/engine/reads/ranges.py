"""The answer to a range request, as etcd gives it."""

from fetch.api.rpc_pb2 import RangeRequest
from fetch.engine.answers import Found
from fetch.engine.reads import bounds
from fetch.engine.reads.counts import Counts
from fetch.engine.reads.gathering import Gathering
from fetch.engine.reads.paging import collect, is_one_key, pages
from fetch.engine.reads.view import EVERYTHING, View
from fetch.engine.requests import is_filtered


async def find(view: View, request: RangeRequest, counts: Counts) -> Found:
    """Answers a range request as etcd does (`server/etcdserver/txn/range.go`), the request having been validated.

    :raises FutureRevision: :raises Compacted: OUT_OF_RANGE :raises ResponseTooLarge: RESOURCE_EXHAUSTED
    """
    view.check(request.revision)
    revision = request.revision if request.revision > 0 else view.revision
    view.check(revision)  # a view that was renewed may have left its own revision behind
    begin, end = view.layout.key_range(request.key, request.range_end)
    if begin >= end:
        return Found([], False, 0, view.revision)
    if request.count_only:
        return Found([], False, await counts.count(view, begin, end, revision), view.revision)
    wanted = needed(request)
    gathering = Gathering(request, view.pieces)
    async for frames in pages(view, begin, end, wanted, revision):
        gathering.add(frames)
        await gathering.settle(view)
        await view.require_room_for(gathering.size)
    if gathering.read < wanted:
        count = gathering.read
        counts.remember(begin, end, revision, count)
    else:
        count = await counts.count(view, begin, end, revision)
    found = Found(await gathering.arranged(view), gathering.more, count, view.revision, gathering.size)
    gathering.remember_rest(view.layout, end, revision, count, counts)
    return found


async def find_briefly(view: View, request: RangeRequest, counts: Counts) -> Found | None:
    """The answer to a range request as `find` gives it, if that takes a few rows; None without having read many more.

    :raises FutureRevision: :raises Compacted: OUT_OF_RANGE :raises ResponseTooLarge: RESOURCE_EXHAUSTED
    """
    view.check(request.revision)
    revision = request.revision if request.revision > 0 else view.revision
    begin, end = view.layout.key_range(request.key, request.range_end)
    if begin >= end:
        return Found([], False, 0, view.revision)
    if request.count_only:
        counted = await counts.count_briefly(view, begin, end, revision)
        return None if counted is None else Found([], False, counted, view.revision)
    if revision < view.newest and not is_one_key(begin, end):
        return None
    wanted = needed(request)
    frames, _, more = await collect(view, begin, end, min(wanted, bounds.BRIEF), revision)
    if len(frames) < wanted and more:
        return None
    count = await counts.count_briefly(view, begin, end, revision) if len(frames) == wanted else len(frames)
    if count is None:
        return None
    gathering = Gathering(request, view.pieces)
    gathering.add(frames)
    found = Found(await gathering.arranged(view), gathering.more, count, view.revision, gathering.size)
    gathering.remember_rest(view.layout, end, revision, count, counts)
    return found


def needed(request: RangeRequest) -> int:
    """How many keys of the range have to be read for its answer: one more than the limit, unless sorting or filtering
    comes first. A sort target without an order sorts what the limit has left, as in etcd."""
    default_order = request.sort_order == RangeRequest.NONE or _is_by_key(request)
    return request.limit + 1 if request.limit > 0 and default_order and not is_filtered(request) else EVERYTHING


def _is_by_key(request: RangeRequest) -> bool:
    return request.sort_target == RangeRequest.KEY and request.sort_order != RangeRequest.DESCEND

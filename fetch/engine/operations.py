"""The write operations of the storage engine, each evaluated on a batch.

kube-apiserver's transactions are the named operations; `txn` is the general one, for everything else that is valid.
Both give what etcd gives (`server/etcdserver/txn/`). Requests have been validated by the time they come here. What is
long gives way: see `batch` for why what has been read holds afterwards. Transactions may be nested deeply, so they are
walked with a stack of their own.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from fetch import errors
from fetch.api.rpc_pb2 import (
    DeleteRangeRequest,
    DeleteRangeResponse,
    PutRequest,
    PutResponse,
    RangeRequest,
    RequestOp,
    TxnRequest,
)
from fetch.engine import answers
from fetch.engine.alarms import is_full
from fetch.engine.answers import Answer, Message
from fetch.engine.batch import Batch
from fetch.engine.compares import all_hold, rows_of
from fetch.engine.protocol import Outcome
from fetch.engine.reads import Counts, View, find
from fetch.engine.records import is_ending, key_value, size_of_delete
from fetch.engine.requests import operations
from fetch.engine.turns import Work
from fetch.stores.protocol import TransactionTooLarge
from fetch.stores.snapshot import Row

_PREVIOUS = b"\x1a"
"""The tag of `prev_kvs` in DeleteRangeResponse."""


async def update_at_revision(batch: Batch, key: bytes, revision: int, value: bytes, lease: int) -> Outcome:
    """Puts a key whose mod_revision is `revision`: `If mod_revision(key) == revision Then put Else get`.

    :raises NoSpace: :raises LeaseNotFound:
    """
    refuse_when_full(batch)
    current = await batch.transaction.get(batch.layout.key(key))
    if (0 if current is None else key_value(current).mod_revision) != revision:
        return Outcome(batch.revision, False, current)
    await _require_lease(batch, lease)
    await batch.put(key, value, lease)
    return Outcome(batch.revision, True)


async def delete_key(batch: Batch, key: bytes, revision: int) -> Outcome:
    """Deletes a key whose mod_revision is `revision`: `If mod_revision(key) == revision Then delete Else get`."""
    current = await batch.transaction.get(batch.layout.key(key))
    if (0 if current is None else key_value(current).mod_revision) != revision:
        return Outcome(batch.revision, False, current)
    batch.deletes += 1
    if current is not None:
        await batch.delete(key, current)
    return Outcome(batch.revision, True, current)


async def put(batch: Batch, request: PutRequest) -> PutResponse:
    """Puts a key.

    :raises NoSpace: :raises LeaseNotFound: :raises KeyNotFound:
    """
    refuse_when_full(batch)
    await _check_put(batch, request)
    response = PutResponse()
    await _put(batch, request, response)
    return response


async def delete_range(
    batch: Batch, request: DeleteRangeRequest, begin: bytes = b""
) -> tuple[DeleteRangeResponse, bytes]:
    """Deletes the keys of a range, those from the row `begin` on if there is one, at one revision: all of them, or as
    many as the store commits at once. Also where the others begin; empty where there are none."""
    response = DeleteRangeResponse()
    first, end = batch.layout.key_range(request.key, request.range_end)
    pages, position = await _to_delete(batch, begin or first, end)
    await _delete_rows(batch, request, pages, response)
    return response, b"" if position == end else position


async def txn(batch: Batch, request: TxnRequest, room: int) -> Answer:
    """Evaluates any valid transaction: all compares first, then all checks, then what is to be done.

    `room` in bytes is for all that it answers.

    :raises NoSpace: :raises LeaseNotFound: :raises KeyNotFound: :raises FutureRevision: :raises Compacted:
    :raises ResponseTooLarge:
    """
    if is_full(batch.alarms) and await _may_put(request, batch.work):
        raise errors.NoSpace
    view = View(batch.transaction, batch.layout, batch.revision, batch.compacted, batch.work, room=room)
    return await _evaluate_txn(batch, view, request, batch.work, Counts())


async def read_only_txn(view: View, request: TxnRequest, work: Work, counts: Counts) -> Answer:
    """Evaluates a transaction that only reads.

    :raises FutureRevision: :raises Compacted: :raises ResponseTooLarge: all that it answers together is
    """
    return await _evaluate_txn(None, view, request, work, counts)


def keys_read(request: TxnRequest) -> list[bytes]:
    """The single keys that a transaction compares or puts, those of nested ones left aside."""
    compared = [compare.key for compare in request.compare if not compare.range_end]
    puts = [op.request_put.key for op in operations(request) if op.WhichOneof("request") == "request_put"]
    return list(dict.fromkeys(compared + puts))


def refuse_when_full(batch: Batch) -> None:
    """What grows the store is refused while the NOSPACE alarm is raised.

    :raises NoSpace: RESOURCE_EXHAUSTED
    """
    if is_full(batch.alarms):
        raise errors.NoSpace


@dataclass(frozen=True, slots=True)
class _Begin:
    """A nested transaction: what follows, up to the end that belongs to it, is of the branch that it takes."""

    succeeded: bool


_EMPTY_HEADER = answers.HEADER + b"\x00"
_END = None
_Step = RequestOp | _Begin | None


async def _evaluate_txn(batch: Batch | None, view: View, request: TxnRequest, work: Work, counts: Counts) -> Answer:
    taken = await _decide(view, request, work)
    await _check(batch, view, _steps(request, taken), work)
    message = answers.txn_message(succeeded=taken[0])
    await _execute(batch, view, _steps(request, taken), message, work, counts)
    return Answer(taken[0], view.revision if batch is None else batch.revision, message)


async def _decide(view: View, request: TxnRequest, work: Work) -> list[bool]:
    """Which branches are taken: by the transaction, and by those nested in what is taken, in their order.

    All compares, those of nested transactions too, see the state before the transaction.
    """
    taken = [await all_hold(view, request.compare, work)]
    within = [_branch(request, taken[0])]
    while within:
        operation = next(within[-1], None)
        if operation is None:
            within.pop()
        elif operation.WhichOneof("request") == "request_txn":
            nested = operation.request_txn
            taken.append(await all_hold(view, nested.compare, work))
            within.append(_branch(nested, taken[-1]))
        if work.is_spent():
            await work.give_way()
    return taken


def _steps(request: TxnRequest, taken: Iterable[bool]) -> Iterator[_Step]:
    """What is to be done, in order: operations, and where the transactions nested among them begin and end.

    Made anew for each pass: to keep them would give the cyclic collector an object for each.
    """
    decisions = iter(taken)
    within = [_branch(request, next(decisions))]
    while True:
        operation = next(within[-1], None)
        if operation is None:
            within.pop()
            if not within:
                return
            yield _END
        elif operation.WhichOneof("request") == "request_txn":
            succeeded = next(decisions)
            yield _Begin(succeeded)
            within.append(_branch(operation.request_txn, succeeded))
        else:
            yield operation


def _branch(request: TxnRequest, succeeded: bool) -> Iterator[RequestOp]:
    return iter(request.success if succeeded else request.failure)


async def _check(batch: Batch | None, view: View, steps: Iterable[_Step], work: Work) -> None:
    """Raises what any operation of the branches taken would meet, before the first one is carried out."""
    for step in steps:
        if not isinstance(step, RequestOp):
            continue
        match step.WhichOneof("request"):
            case "request_range":
                view.check(step.request_range.revision)
                if step.request_range.revision < min(view.compacted, 0):
                    raise errors.Compacted  # etcd compares a negative revision here, which a plain range takes for none
            case "request_put" if batch is not None:
                await _check_put(batch, step.request_put)
        if work.is_spent():
            await work.give_way()


async def _execute(
    batch: Batch | None, view: View, steps: Iterable[_Step], answer: Message, work: Work, counts: Counts
) -> None:
    """Carries the steps out, and adds what they answer. Nested headers carry no more than a revision."""
    within = [answer]
    carried_out = 0
    for step in steps:
        if step is _END:
            nested = within.pop()
            within[-1].respond(answers.TXN, nested)
            continue
        if isinstance(step, _Begin):
            within.append(answers.txn_message(succeeded=step.succeeded, header=_EMPTY_HEADER))
            continue
        carried_out += 1
        match step.WhichOneof("request"):
            case "request_range":
                within[-1].respond(answers.RANGE, await _range(batch, view, step.request_range, counts))
            case "request_put" if batch is not None:
                put_response = PutResponse()
                await _put(batch, step.request_put, put_response)
                within[-1].respond(answers.PUT, _encoded(view, put_response))
            case "request_delete_range" if batch is not None:
                delete_response = DeleteRangeResponse()
                await _delete_range(batch, step.request_delete_range, delete_response)
                within[-1].respond(answers.DELETE_RANGE, _encoded(view, delete_response))
        if work.is_spent():
            await work.give_way()
    if batch is not None:
        batch.txns += carried_out > 1


async def _range(batch: Batch | None, view: View, request: RangeRequest, counts: Counts) -> Message:
    if batch is None:
        found = await find(view, request, counts)
    else:
        # what the transaction has written so far is of its revision, and nobody else's to count
        current = View(batch.transaction, batch.layout, batch.revision, batch.compacted, batch.work)
        current.room, current.pieces = view.room, view.pieces
        found = await find(current, request, Counts())
        view.room, view.pieces = current.room, current.pieces
    return answers.range_message(answers.revision_header(found.revision), found)


def _encoded(view: View, response: PutResponse | DeleteRangeResponse) -> Message:
    encoded = response.SerializeToString()
    view.take_room(len(encoded))
    return Message([encoded], len(encoded))


async def _delete_range(batch: Batch, request: DeleteRangeRequest, response: DeleteRangeResponse) -> None:
    begin, end = batch.layout.key_range(request.key, request.range_end)
    pages, position = await _to_delete(batch, begin, end)
    if position != end:
        raise TransactionTooLarge("a transaction deletes more than the store commits at once")
    await _delete_rows(batch, request, pages, response)


async def _to_delete(batch: Batch, begin: bytes, end: bytes) -> tuple[list[list[Row]], bytes]:
    """The rows of [begin, end) that are there, or as many as the store commits the deletes of, and where those behind
    them begin; `end` if there are none.

    Read before the first is deleted: a transaction that reads a range after it has written keeps its writes in order.
    """
    pages: list[list[Row]] = []
    room = batch.transaction.largest // 2
    async for rows in rows_of(batch.transaction, begin, end, batch.work):
        for count, (row, stored) in enumerate(rows):
            if room <= 0:
                return [*pages, rows[:count]], row
            room -= size_of_delete(row, stored)
        pages.append(rows)
    return pages, end


async def _delete_rows(
    batch: Batch, request: DeleteRangeRequest, pages: list[list[Row]], response: DeleteRangeResponse
) -> None:
    batch.deletes += 1
    for rows in pages:
        for row, stored in rows:
            await batch.delete(row[len(batch.layout.keys) :], stored)
        if request.prev_kv:
            response.MergeFromString(b"".join([_PREVIOUS + stored[1:] for _, stored in rows]))
    response.deleted = sum(map(len, pages))
    response.header.revision = batch.revision


async def _check_put(batch: Batch, request: PutRequest) -> None:
    await _require_lease(batch, request.lease)
    if request.ignore_value or request.ignore_lease:
        if await batch.transaction.get(batch.layout.key(request.key)) is None:
            raise errors.KeyNotFound


async def _put(batch: Batch, request: PutRequest, response: PutResponse) -> None:
    value, lease = request.value, request.lease
    if request.ignore_value or request.ignore_lease:
        stored = await batch.transaction.get(batch.layout.key(request.key))
        if stored is None:  # deleted by the same transaction; etcd itself panics here
            raise errors.KeyNotFound
        current = key_value(stored)
        value = current.value if request.ignore_value else value
        lease = current.lease if request.ignore_lease else lease
    mutation = await batch.put(request.key, value, lease)
    response.header.revision = batch.revision
    if request.prev_kv and mutation.previous is not None:
        response.prev_kv.CopyFrom(key_value(mutation.previous))


async def _require_lease(batch: Batch, lease: int) -> None:
    if lease:
        granted = await batch.transaction.get(batch.layout.lease(lease))
        if granted is None or is_ending(granted):
            raise errors.LeaseNotFound


async def _may_put(request: TxnRequest, work: Work) -> bool:
    """Whether the transaction has a put in any branch, which is what etcd's quota charges (`storage/quota.go`)."""
    waiting = [request]
    while waiting:
        for operation in operations(waiting.pop()):
            kind = operation.WhichOneof("request")
            if kind == "request_put":
                return True
            if kind == "request_txn":
                waiting.append(operation.request_txn)
        if work.is_spent():
            await work.give_way()
    return False

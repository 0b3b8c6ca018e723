"""The write operations of the storage engine, each evaluated on a batch.

kube-apiserver's transactions are the named operations; `txn` is the general one, for everything else that is valid.
Both give what etcd gives (`server/etcdserver/txn/`). Requests have been validated by the time they come here.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from fetch import errors
from fetch.api.rpc_pb2 import (
    Compare,
    DeleteRangeRequest,
    DeleteRangeResponse,
    PutRequest,
    PutResponse,
    RangeRequest,
    RangeResponse,
    RequestOp,
    ResponseOp,
    TxnRequest,
    TxnResponse,
)
from fetch.engine.alarms import is_full
from fetch.engine.batch import Batch
from fetch.engine.reads import Counts, Found, View, find
from fetch.engine.records import key_value
from fetch.stores.transaction import all_rows


@dataclass(slots=True)
class Outcome:
    """The outcome of a named operation: served at `revision`; if its condition failed, `current` is the stored frame
    that the key has, None when it has none."""

    revision: int
    succeeded: bool
    current: bytes | None = None


async def create_if_absent(batch: Batch, key: bytes, value: bytes, lease: int) -> Outcome:
    """Puts a key that does not exist: `If mod_revision(key) == 0 Then put Else get`.

    :raises NoSpace: :raises LeaseNotFound:
    """
    return await update_at_revision(batch, key, 0, value, lease)


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
    if current is not None:
        await batch.delete(key, current)
    return Outcome(batch.revision, True, current)


async def put(batch: Batch, request: PutRequest) -> PutResponse:
    """Puts a key.

    :raises NoSpace: :raises LeaseNotFound: :raises KeyNotFound:
    """
    refuse_when_full(batch)
    await _check_put(batch, request)
    return await _put(batch, request)


async def delete_range(batch: Batch, request: DeleteRangeRequest) -> DeleteRangeResponse:
    """Deletes all keys of a range, at one revision."""
    rows = [row async for row in all_rows(batch.transaction, *batch.layout.key_range(request.key, request.range_end))]
    response = DeleteRangeResponse(deleted=len(rows))
    for row, stored in rows:
        await batch.delete(row[len(batch.layout.keys) :], stored)
        if request.prev_kv:
            response.prev_kvs.append(key_value(stored))
    response.header.revision = batch.revision
    return response


async def txn(batch: Batch, request: TxnRequest) -> TxnResponse:
    """Evaluates any valid transaction: all compares first, then all checks, then what is to be done.

    :raises NoSpace: :raises LeaseNotFound: :raises KeyNotFound: :raises FutureRevision: :raises Compacted:
    """
    if _may_put(request):
        refuse_when_full(batch)
    view = View(batch.transaction, batch.layout, batch.revision, batch.compacted)
    return await _evaluate_txn(batch, view, request)


async def read_only_txn(view: View, request: TxnRequest) -> TxnResponse:
    """Evaluates a transaction that only reads, on a snapshot.

    :raises FutureRevision: :raises Compacted:
    """
    return await _evaluate_txn(None, view, request)


def is_read_only(request: TxnRequest) -> bool:
    """Whether neither branch of the transaction has anything but ranges, as etcd's `IsTxnReadonly` tells."""
    return all(operation.WhichOneof("request") == "request_range" for operation in _operations(request))


def keys_read(request: TxnRequest) -> list[bytes]:
    """The single keys that a transaction compares or puts, those of nested ones left aside."""
    compared = [compare.key for compare in request.compare if not compare.range_end]
    puts = [op.request_put.key for op in _operations(request) if op.WhichOneof("request") == "request_put"]
    return list(dict.fromkeys(compared + puts))


def refuse_when_full(batch: Batch) -> None:
    """What grows the store is refused while the NOSPACE alarm is raised.

    :raises NoSpace: RESOURCE_EXHAUSTED
    """
    if is_full(batch.alarms):
        raise errors.NoSpace


def range_response(found: Found) -> RangeResponse:
    """A range's answer as a message."""
    response = RangeResponse.FromString(b"".join(found.frames))
    response.header.revision = found.revision
    response.more = found.more
    response.count = found.count
    return response


@dataclass(slots=True)
class _Path:
    """Which branch a transaction takes, and which its nested ones take, in their order."""

    succeeded: bool
    operations: Sequence[RequestOp]
    nested: "list[_Path]"


async def _evaluate_txn(batch: Batch | None, view: View, request: TxnRequest) -> TxnResponse:
    path = await _decide(view, request)
    await _check(batch, view, path)
    response = await _execute(batch, view, path)
    response.header.revision = view.revision if batch is None else batch.revision
    return response


async def _decide(view: View, request: TxnRequest) -> _Path:
    """All compares, those of nested transactions too, see the state before the transaction."""
    succeeded = True
    for compare in request.compare:
        if not await _holds(view, compare):
            succeeded = False
            break
    operations = request.success if succeeded else request.failure
    nested = [
        await _decide(view, operation.request_txn)
        for operation in operations
        if operation.WhichOneof("request") == "request_txn"
    ]
    return _Path(succeeded, operations, nested)


async def _check(batch: Batch | None, view: View, path: _Path) -> None:
    """Raises what any operation of the branches taken would meet, before the first one is carried out."""
    nested = iter(path.nested)
    for operation in path.operations:
        match operation.WhichOneof("request"):
            case "request_range":
                view.check(operation.request_range.revision)
                if operation.request_range.revision < min(view.compacted, 0):
                    raise errors.Compacted  # etcd compares a negative revision here, which a plain range takes for none
            case "request_put" if batch is not None:
                await _check_put(batch, operation.request_put)
            case "request_txn":
                await _check(batch, view, next(nested))


async def _execute(batch: Batch | None, view: View, path: _Path) -> TxnResponse:
    response = TxnResponse(succeeded=path.succeeded)
    response.header.SetInParent()
    nested = iter(path.nested)
    for operation in path.operations:
        match operation.WhichOneof("request"):
            case "request_range":
                result = ResponseOp(response_range=await _range(batch, view, operation.request_range))
            case "request_put" if batch is not None:
                result = ResponseOp(response_put=await _put(batch, operation.request_put))
            case "request_delete_range" if batch is not None:
                result = ResponseOp(response_delete_range=await delete_range(batch, operation.request_delete_range))
            case _:
                result = ResponseOp(response_txn=await _execute(batch, view, next(nested)))
        response.responses.append(result)
    return response


async def _range(batch: Batch | None, view: View, request: RangeRequest) -> RangeResponse:
    if batch is not None:
        view = View(batch.transaction, batch.layout, batch.revision, batch.compacted)
    return range_response(await find(view, request, Counts()))


async def _check_put(batch: Batch, request: PutRequest) -> None:
    await _require_lease(batch, request.lease)
    if request.ignore_value or request.ignore_lease:
        if await batch.transaction.get(batch.layout.key(request.key)) is None:
            raise errors.KeyNotFound


async def _put(batch: Batch, request: PutRequest) -> PutResponse:
    value, lease = request.value, request.lease
    if request.ignore_value or request.ignore_lease:
        stored = await batch.transaction.get(batch.layout.key(request.key))
        if stored is None:  # deleted by the same transaction; etcd itself panics here
            raise errors.KeyNotFound
        current = key_value(stored)
        value = current.value if request.ignore_value else value
        lease = current.lease if request.ignore_lease else lease
    mutation = await batch.put(request.key, value, lease)
    response = PutResponse()
    response.header.revision = batch.revision
    if request.prev_kv and mutation.previous is not None:
        response.prev_kv.CopyFrom(key_value(mutation.previous))
    return response


async def _require_lease(batch: Batch, lease: int) -> None:
    if lease and await batch.transaction.get(batch.layout.lease(lease)) is None:
        raise errors.LeaseNotFound


_TARGETS = {
    Compare.VERSION: "version",
    Compare.CREATE: "create_revision",
    Compare.MOD: "mod_revision",
    Compare.VALUE: "value",
    Compare.LEASE: "lease",
}


async def _holds(view: View, compare: Compare) -> bool:
    """Whether the compare holds for every key of its range; a range without keys compares as zeros, a value never."""
    rows = [stored async for _, stored in all_rows(view.source, *view.layout.key_range(compare.key, compare.range_end))]
    target = _TARGETS.get(compare.target)
    if target is None:
        return _compared(compare.result, 0, 0)
    wanted = getattr(compare, target)
    if not rows:
        return compare.target != Compare.VALUE and _compared(compare.result, 0, wanted)
    return all(_compared(compare.result, getattr(key_value(stored), target), wanted) for stored in rows)


def _compared(result: int, found: int | bytes, wanted: int | bytes) -> bool:
    match result:
        case Compare.EQUAL:
            return found == wanted
        case Compare.NOT_EQUAL:
            return found != wanted
        case Compare.GREATER:
            return found > wanted  # type: ignore[operator]  # both are of the target's type
        case Compare.LESS:
            return found < wanted  # type: ignore[operator]
    return True


def _operations(request: TxnRequest) -> list[RequestOp]:
    return [*request.success, *request.failure]


def _may_put(request: TxnRequest) -> bool:
    """Whether the transaction has a put in any branch, which is what etcd's quota charges (`storage/quota.go`)."""
    return any(
        operation.WhichOneof("request") == "request_put"
        or (operation.WhichOneof("request") == "request_txn" and _may_put(operation.request_txn))
        for operation in _operations(request)
    )

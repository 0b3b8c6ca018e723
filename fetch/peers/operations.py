"""The write operations of the storage engine's protocol as messages: how each is sent, carried out and answered."""

import asyncio
import logging
from collections.abc import Sequence

import grpc

from fetch import errors
from fetch.api.rpc_pb2 import DeleteRangeRequest, DeleteRangeResponse, PutRequest, PutResponse, RequestOp, TxnRequest
from fetch.chain.parsing import parse_txn
from fetch.chain.status import INTERNAL, status_of
from fetch.engine.alarms import Alarms
from fetch.engine.answers import Answer, Message
from fetch.engine.engine import StoredEngine
from fetch.engine.lease import Grant
from fetch.engine.protocol import Outcome
from fetch.v1 import peers_pb2
from fetch.v1.peers_pb2 import Done, Failure, Result, Write

LARGEST_TXN = 64 << 10
"""A transaction that is larger, or whose answer may be, is carried out where it came in: it may take long to encode."""

logger = logging.getLogger(__name__)

_CODES = {code.value[0]: code for code in grpc.StatusCode}


def _kinds(error: type[errors.EtcdError]) -> list[type[errors.EtcdError]]:
    return [error, *(kind for below in error.__subclasses__() for kind in _kinds(below))]


_ERRORS = {(kind.code.value[0], kind.text): kind for kind in _kinds(errors.EtcdError) if kind.text}


def is_short(request: TxnRequest, size: int) -> bool:
    """Whether a transaction may be sent: its request and its answer are no larger than those of a few single keys."""
    return size <= LARGEST_TXN and all(_is_of_one_key(operation) for operation in [*request.success, *request.failure])


def may_answer_much(request: DeleteRangeRequest) -> bool:
    """Whether a delete is answered with the values of many keys."""
    return bool(request.prev_kv and request.range_end)


def _is_of_one_key(operation: RequestOp) -> bool:
    match operation.WhichOneof("request"):
        case "request_txn":
            return False
        case "request_range":
            return not operation.request_range.range_end
        case "request_delete_range":
            return not may_answer_much(operation.request_delete_range)
        case _:
            return True


# what is sent


def change(key: bytes, revision: int, value: bytes, lease: int) -> Write:
    """`update_at_revision`, and `create_if_absent`, which is that at revision 0."""
    return Write(change=peers_pb2.Change(key=key, revision=revision, value=value, lease=lease))


def deletion(key: bytes, revision: int) -> Write:
    """`delete_key`."""
    return Write(deletion=peers_pb2.Deletion(key=key, revision=revision))


def put(request: PutRequest) -> Write:
    """`put`."""
    return Write(put=request.SerializeToString())


def delete_range(request: DeleteRangeRequest) -> Write:
    """`delete_range`."""
    return Write(delete_range=request.SerializeToString())


def txn(request: TxnRequest) -> Write:
    """`txn`."""
    return Write(txn=request.SerializeToString())


def compaction(revision: int, *, physical: bool) -> Write:
    """`compact`."""
    return Write(compaction=peers_pb2.Compaction(revision=revision, physical=physical))


def grant(lease: int, ttl: int) -> Write:
    """`grant_lease`."""
    return Write(grant=peers_pb2.Grant(lease=lease, ttl=ttl))


def revocation(lease: int) -> Write:
    """`revoke_lease`."""
    return Write(revoke=lease)


def renewal(leases: Sequence[int]) -> Write:
    """`renew_leases`."""
    return Write(renewal=peers_pb2.Renewal(leases=leases))


def alarms(activate: Alarms, deactivate: Alarms) -> Write:
    """`change_alarms`."""
    return Write(alarms=peers_pb2.Alarms(activated=_alarms(activate), deactivated=_alarms(deactivate)))


# how it is carried out


async def carry_out(engine: StoredEngine, write: Write) -> Result:
    """Carries a write out as the engine of this daemon does; what came of it, whatever that is."""
    result = Result(number=write.number)
    if write.WhichOneof("operation") is None:
        result.declined = True  # a newer daemon's, of a kind that this one knows nothing of
        return result
    try:
        result.done.CopyFrom(await _carry_out(engine, write))
    except asyncio.CancelledError:
        raise
    except Exception as error:
        code, text = status_of(error)
        if (code, text) == INTERNAL:
            logger.exception("a write that another daemon has sent failed")
        result.failure.CopyFrom(Failure(code=code.value[0], text=text))
    return result


async def _carry_out(engine: StoredEngine, write: Write) -> Done:
    match write.WhichOneof("operation"):
        case "change":
            it = write.change
            return _outcome(await engine.update_at_revision(it.key, it.revision, it.value, it.lease))
        case "deletion":
            return _outcome(await engine.delete_key(write.deletion.key, write.deletion.revision))
        case "put":
            return Done(response=(await engine.put(PutRequest.FromString(write.put))).SerializeToString())
        case "delete_range":
            request = DeleteRangeRequest.FromString(write.delete_range)
            return Done(response=(await engine.delete_range(request)).SerializeToString())
        case "txn":
            parsed = await parse_txn(write.txn, engine.turns, engine.tenant)
            answer = await engine.txn(parsed, len(write.txn))
            return Done(revision=answer.revision, succeeded=answer.succeeded, response=b"".join(answer.message.parts))
        case "compaction":
            asked = write.compaction
            return Done(revision=await engine.compact(asked.revision, physical=asked.physical))
        case "grant":
            granted, revision = await engine.grant_lease(write.grant.lease, write.grant.ttl)
            return Done(revision=revision, granted=[_granted(granted)])
        case "revoke":
            return Done(revision=await engine.revoke_lease(write.revoke))
        case "renewal":
            renewed, revision = await engine.renew_leases(write.renewal.leases)
            return Done(revision=revision, granted=map(_granted, renewed))
        case "alarms":
            on, off = _set(write.alarms.activated), _set(write.alarms.deactivated)
            return Done(alarms=_alarms(await engine.change_alarms(activate=on, deactivate=off)))
        case kind:
            raise AssertionError(f"there is no operation {kind}")


# what is answered


def done(result: Result) -> Done:
    """What the operation returned.

    :raises EtcdError: what it raised
    """
    if result.WhichOneof("outcome") == "done":
        return result.done
    failure = result.failure
    kind = _ERRORS.get((failure.code, failure.text))
    if kind is not None:
        raise kind
    raise errors.Refused(_CODES.get(failure.code, grpc.StatusCode.UNKNOWN), failure.text)


def outcome(result: Done) -> Outcome:
    """Of a change or a deletion."""
    return Outcome(result.revision, result.succeeded, result.current if result.HasField("current") else None)


def put_response(result: Done) -> PutResponse:
    """Of a put."""
    return PutResponse.FromString(result.response)


def delete_range_response(result: Done) -> DeleteRangeResponse:
    """Of a delete of a range."""
    return DeleteRangeResponse.FromString(result.response)


def answer(result: Done) -> Answer:
    """Of a transaction."""
    return Answer(result.succeeded, result.revision, Message([result.response], len(result.response)))


def grants(result: Done) -> list[Grant | None]:
    """Of a grant or a renewal."""
    return [Grant(granted.lease, granted.ttl, granted.expires) if granted.ttl else None for granted in result.granted]


def alarms_before(result: Done) -> Alarms:
    """Of a change of alarms."""
    return _set(result.alarms)


def _outcome(outcome: Outcome) -> Done:
    return Done(revision=outcome.revision, succeeded=outcome.succeeded, current=outcome.current)


def _granted(granted: Grant | None) -> peers_pb2.Granted:
    if granted is None:
        return peers_pb2.Granted()
    return peers_pb2.Granted(lease=granted.lease, ttl=granted.ttl, expires=granted.expires)


def _alarms(alarms: Alarms) -> list[peers_pb2.Alarm]:
    return [peers_pb2.Alarm(member=member, kind=kind) for member, kind in sorted(alarms)]


def _set(alarms: Sequence[peers_pb2.Alarm]) -> Alarms:
    return frozenset((alarm.member, alarm.kind) for alarm in alarms)

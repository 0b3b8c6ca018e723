"""Transactions: all compares come first, then all that could be refused, then what is to be done, in order."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Union

from fetch import errors
from fetch.api.rpc_pb2 import (
    Compare,
    DeleteRangeRequest,
    DeleteRangeResponse,
    PutRequest,
    PutResponse,
    RequestOp,
    TxnRequest,
)
from fetch.engine import answers
from fetch.engine.answers import Answer, Message
from fetch.engine.memory.keyspace import Keyspace
from fetch.engine.requests import operations

_EMPTY_HEADER = answers.HEADER + b"\x00"


class Transactions:
    """What changes a keyspace, one operation or many of them."""

    def __init__(
        self, keyspace: Keyspace, require_room: Callable[[int], None], require_lease: Callable[[int], None]
    ) -> None:
        """`require_room(bytes)` and `require_lease(lease)` raise what a put is refused with that has none."""
        self._keyspace = keyspace
        self._require_room = require_room
        self._require_lease = require_lease

    def txn(self, request: TxnRequest) -> Answer:
        """Evaluates a transaction within an operation."""
        taken = self._decide(request)
        self._check(taken)
        answer = self._execute(taken, b"")
        return Answer(taken.succeeded, self._keyspace.revision, answer)

    def check_put(self, request: PutRequest) -> None:
        """:raises LeaseNotFound: :raises KeyNotFound:"""
        self._require_lease(request.lease)
        if (request.ignore_value or request.ignore_lease) and self._keyspace.newest(request.key) is None:
            raise errors.KeyNotFound

    def put(self, request: PutRequest) -> PutResponse:
        """Puts a key.

        :raises KeyNotFound: the same transaction has deleted it :raises NoSpace:
        """
        value, lease = request.value, request.lease
        if request.ignore_value or request.ignore_lease:
            current = self._keyspace.newest(request.key)
            if current is None:
                raise errors.KeyNotFound
            value = current.value if request.ignore_value else value
            lease = current.lease if request.ignore_lease else lease
        self._require_room(len(request.key) + len(value))
        previous = self._keyspace.put(request.key, value, lease)
        response = PutResponse()
        response.header.revision = self._keyspace.revision
        if request.prev_kv and previous is not None:
            response.prev_kv.CopyFrom(previous)
        return response

    def delete_range(self, request: DeleteRangeRequest) -> DeleteRangeResponse:
        """Deletes all keys of a range."""
        keyspace = self._keyspace
        found = keyspace.in_range(request.key, request.range_end, keyspace.revision)
        for kv in found:
            keyspace.delete(kv.key)
        response = DeleteRangeResponse(deleted=len(found), prev_kvs=found if request.prev_kv else ())
        response.header.revision = keyspace.revision
        return response

    def _decide(self, request: TxnRequest) -> "_Taken":
        """Which branch is taken, and which ones by the transactions nested in it: all compares see the state before."""
        taken = _Taken(succeeded=True)
        for compare in request.compare:
            taken.succeeded = taken.succeeded and self._holds(compare)
        for operation in request.success if taken.succeeded else request.failure:
            is_txn = operation.WhichOneof("request") == "request_txn"
            taken.steps.append(self._decide(operation.request_txn) if is_txn else operation)
        return taken

    def _holds(self, compare: Compare) -> bool:
        """Whether a compare holds for every key of its range. One without keys compares as zeros, a value never."""
        found = self._keyspace.in_range(compare.key, compare.range_end, self._keyspace.revision)
        target = _TARGETS.get(compare.target)
        if target is None:
            return _compared(compare.result, 0, 0)
        wanted = getattr(compare, target)
        if not found:
            return target != "value" and _compared(compare.result, 0, wanted)
        return all(_compared(compare.result, getattr(kv, target), wanted) for kv in found)

    def _check(self, taken: "_Taken") -> None:
        """Raises what any operation would be refused with, before the first one is carried out."""
        for step in taken.steps:
            if isinstance(step, _Taken):
                self._check(step)
            elif step.WhichOneof("request") == "request_put":
                self.check_put(step.request_put)
            elif step.WhichOneof("request") == "request_range":
                revision = step.request_range.revision
                self._keyspace.check(revision)
                if revision and revision < self._keyspace.compacted:
                    raise errors.Compacted  # a negative one too, which a plain range takes for none

    def _execute(self, taken: "_Taken", header: bytes) -> Message:
        answer = answers.txn_message(succeeded=taken.succeeded, header=header)
        for step in taken.steps:
            if isinstance(step, _Taken):
                answer.respond(answers.TXN, self._execute(step, _EMPTY_HEADER))
                continue
            match step.WhichOneof("request"):
                case "request_range":
                    found = self._keyspace.range(step.request_range)
                    message = answers.range_message(answers.revision_header(found.revision), found)
                    answer.respond(answers.RANGE, message)
                case "request_put":
                    answer.respond(answers.PUT, _encoded(self.put(step.request_put)))
                case "request_delete_range":
                    answer.respond(answers.DELETE_RANGE, _encoded(self.delete_range(step.request_delete_range)))
        return answer


@dataclass(slots=True)
class _Taken:
    """The branch that a transaction takes: its operations, nested transactions as the branches that these take."""

    succeeded: bool
    steps: list[Union[RequestOp, "_Taken"]] = field(default_factory=list)


def may_put(request: TxnRequest) -> bool:
    """Whether a transaction has a put in any branch, taken or not, which is what etcd's quota looks at."""
    waiting = [request]
    while waiting:
        for operation in operations(waiting.pop()):
            kind = operation.WhichOneof("request")
            if kind == "request_put":
                return True
            if kind == "request_txn":
                waiting.append(operation.request_txn)
    return False


_TARGETS = {
    Compare.VERSION: "version",
    Compare.CREATE: "create_revision",
    Compare.MOD: "mod_revision",
    Compare.VALUE: "value",
    Compare.LEASE: "lease",
}


def _compared(result: int, found: Any, wanted: Any) -> bool:
    match result:
        case Compare.EQUAL:
            return bool(found == wanted)
        case Compare.NOT_EQUAL:
            return bool(found != wanted)
        case Compare.GREATER:
            return bool(found > wanted)
        case Compare.LESS:
            return bool(found < wanted)
    return True


def _encoded(response: PutResponse | DeleteRangeResponse) -> Message:
    encoded = response.SerializeToString()
    return Message([encoded], len(encoded))

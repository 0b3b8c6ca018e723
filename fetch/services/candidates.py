"""Queues of those who want what one can have at a time: a lock, or to lead.

A candidate is a key below the queue's name, attached to the lease that its holder lives by. The key that was created
first has it. Who waits does so for the one key that was created right before its own, so that a key's end wakes one
candidate; to find that key takes a read of the queue. Keys and order are those of etcd's `client/v3/concurrency`, so
clients that keep such queues by themselves (etcdctl's `lock` and `elect`) and those of the services stand in one.
"""

import asyncio
import logging
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import grpc

from fetch import errors
from fetch.api.rpc_pb2 import Compare, DeleteRangeRequest, PutRequest, RangeRequest, RequestOp, TxnRequest, TxnResponse
from fetch.engine.answers import Answer
from fetch.engine.protocol import StorageEngine
from fetch.engine.records import key_values
from fetch.services.checks import check_key, check_size
from fetch.services.watching import Watching

_LEASE_SECONDS = 60
"""The time to live of a lease that a candidate is granted who brings none."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Candidate:
    """One who stands in a queue by `key`, created at revision `created`. It has stood there before unless `is_new`.

    `value` is what the key had when it was found, at `revision`.
    """

    key: bytes
    created: int
    lease: int
    value: bytes
    revision: int
    is_new: bool


class Queues:
    """What the services do to queues, in whatever tenant."""

    def __init__(self, most_bytes: int) -> None:
        """`most_bytes` is the bound on a request."""
        self._most_bytes = most_bytes
        self._leaving: set[asyncio.Task[Any]] = set()

    async def session(self, engine: StorageEngine, lease: int) -> int:
        """The lease of a caller who brings this one; 0 is none, so one is granted.

        :raises NoSpace:
        """
        return lease or (await engine.grant_lease(0, _LEASE_SECONDS))[0].lease

    async def enter(self, engine: StorageEngine, name: bytes, lease: int, value: bytes) -> Candidate:
        """Puts a candidate at the end of the queue, unless it stands there already.

        A call that ends meanwhile takes back what it has put, since nobody would know of it.

        :raises LeaseNotFound: :raises NoSpace: :raises RequestTooLarge:
        """
        entering = asyncio.create_task(self._enter(engine, name, lease, value))
        try:
            return await asyncio.shield(entering)
        except asyncio.CancelledError:
            self._in_background(self._take_back(engine, entering))
            raise

    async def _enter(self, engine: StorageEngine, name: bytes, lease: int, value: bytes) -> Candidate:
        key = name + b"/%x" % lease
        answer = await self._txn(
            engine,
            TxnRequest(
                compare=[_created(key, 0)],
                success=[RequestOp(request_put=PutRequest(key=key, value=value, lease=lease))],
                failure=[RequestOp(request_range=RangeRequest(key=key))],
            ),
        )
        if answer.succeeded:
            return Candidate(key, answer.revision, lease, value, answer.revision, is_new=True)
        [found] = TxnResponse.FromString(b"".join(answer.message.parts)).responses[0].response_range.kvs
        return Candidate(key, found.create_revision, lease, found.value, answer.revision, is_new=False)

    async def _take_back(self, engine: StorageEngine, entering: "asyncio.Task[Candidate]") -> None:
        try:
            candidate = await entering
            if candidate.is_new:
                await self._leave(engine, candidate.key, candidate.created)
        except Exception as error:  # noqa: BLE001  the lease ends what cannot be taken back
            logger.info("a candidate that nobody waits for could not be taken back: %s", error)

    async def wait(self, engine: StorageEngine, name: bytes, candidate: Candidate) -> bool:
        """Waits until nobody stands before the candidate; whether that was not so at once."""
        waited = False
        request = RangeRequest(
            key=name + b"/",
            range_end=name + b"0",
            sort_target=RangeRequest.CREATE,
            sort_order=RangeRequest.DESCEND,
            limit=1,
            max_create_revision=candidate.created - 1,
            keys_only=True,
        )
        while True:
            found = await engine.range_keys(request)
            if not found.frames:
                return waited
            waited = True
            [before] = key_values(found.frames)
            try:
                # one deletion is all that there is to hear
                async with Watching(engine, before.key, b"", found.revision + 1, puts=False) as watching:
                    await watching.next()
            except errors.Compacted:
                continue  # what has happened since it was looked is not known any more: looked again

    async def change(self, engine: StorageEngine, key: bytes, created: int, value: bytes, lease: int) -> int:
        """Changes the value of a key that was created at this revision; the revision of the change.

        :raises NotLeader: there is no such key :raises EmptyKey: :raises LeaseNotFound: :raises NoSpace:
        :raises RequestTooLarge:
        """
        put = RequestOp(request_put=PutRequest(key=key, value=value, lease=lease))
        answer = await self._txn(engine, TxnRequest(compare=[_created(key, created)], success=[put]))
        if not answer.succeeded:
            raise errors.NotLeader
        return answer.revision

    async def leave(self, engine: StorageEngine, key: bytes, created: int) -> int:
        """Deletes a key that was created at this revision, if it is still there; the newest revision.

        It is carried out even if the call ends meanwhile.

        :raises EmptyKey:
        """
        return await asyncio.shield(self._in_background(self._leave(engine, key, created)))

    async def _leave(self, engine: StorageEngine, key: bytes, created: int) -> int:
        delete = RequestOp(request_delete_range=DeleteRangeRequest(key=key))
        answer = await self._txn(engine, TxnRequest(compare=[_created(key, created)], success=[delete]))
        return answer.revision

    async def _txn(self, engine: StorageEngine, request: TxnRequest) -> Answer:
        check_key(request.compare[0].key)
        encoded = request.SerializeToString()
        check_size(encoded, request, self._most_bytes)
        return await engine.txn(request, len(encoded))

    def _in_background(self, work: Coroutine[Any, Any, Any]) -> "asyncio.Task[Any]":
        task = asyncio.create_task(work)
        self._leaving.add(task)  # the loop itself keeps no task alive
        task.add_done_callback(self._leaving.discard)
        return task


@contextmanager
def refusals() -> Iterator[None]:
    """Refuses as etcd does here: what one of its clients within the server is refused with has lost its code.

    UNAVAILABLE stays, since it tells a client that it may try again.
    """
    try:
        yield
    except errors.EtcdError as error:
        if error.code in (grpc.StatusCode.UNKNOWN, grpc.StatusCode.UNAVAILABLE):
            raise
        raise errors.Refused(grpc.StatusCode.UNKNOWN, error.text) from error


def _created(key: bytes, revision: int) -> Compare:
    return Compare(key=key, target=Compare.CREATE, result=Compare.EQUAL, create_revision=revision)

"""Group commit: all waiting writes of one tenant, evaluated one after the other inside one storage transaction.

Each write sees the state that the one before it left, gets a revision of its own if it changes anything, and is
answered when the transaction is durable. Writes that arrive meanwhile form the next batch, so batches grow with load.
All of a tenant's batches read the tenant's revision as a conflict and write it, so that batches of several daemons
follow one another: that is what makes revisions dense.

A batch is one work of its tenant (`turns`): it gives way to other tenants between its mutations, and within whatever
else is long. What it has read stays true meanwhile: it is evaluated on the transaction's snapshot and on its own
writes, which no one else changes; there is one writer for a tenant in this daemon; and if another daemon commits, the
revision has changed, which the commit finds, so that the batch is evaluated anew. The tenant's reads, watches and
whoever else uses the store see what is committed, as they do while a batch waits for the disk.
"""

import asyncio
import contextvars
import logging
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from fetch import errors
from fetch.engine import alarms
from fetch.engine.batch import Batch, Committed, Mutate, pack_usage, unpack_usage
from fetch.engine.claim import Claim
from fetch.engine.layout import NEVER, Closed, Layout, pack_revision, unpack_last_revision, unpack_revision
from fetch.engine.records import StoredEvent
from fetch.engine.turns import Work
from fetch.stores.protocol import KeyTooLong, Store, StoreFull, StoreUnavailable, TransactionTooLarge
from fetch.stores.transaction import Transaction

T = TypeVar("T")

_MOST_WRITES = 256
_MOST_BYTES = 2 << 20
# no further write is taken in: all tenants' commits share the store's writer, which is held by each for its rows
_MOST_ROWS = 4096
_ROWS_AT_ONCE = 100
_UNDONE_AT_ONCE = 1000
_ACTIONS_AT_ONCE = 100
_TOO_MUCH = KeyTooLong, TransactionTooLarge

logger = logging.getLogger(__name__)

Evaluate = Callable[[Batch], Awaitable[Any]]
_Claimed = tuple[bytes | None, bytes | None]


@dataclass(slots=True)
class _Waiting:
    evaluate: Evaluate
    keys: Sequence[bytes]
    size: int
    answer: "asyncio.Future[Any]"
    caller: contextvars.Context
    unasked: bool


class Writer:
    """The one who writes for a tenant in this daemon."""

    def __init__(
        self,
        store: Store,
        layout: Layout,
        quota: int,
        mutate: Mutate,
        publish: Callable[[int, int, list[StoredEvent]], None],
        committed: Callable[[Committed], None],
        work: Callable[[], Work],
        claim: Claim | None = None,
    ) -> None:
        """`publish(before, revision, events)` is told of every commit, in order, before its callers are answered.

        `work` makes the work that a batch is; `claim` is None where no other daemon is known of.
        """
        self._store = store
        self._layout = layout
        self.quota = quota
        self._mutate = mutate
        self._publish = publish
        self._committed = committed
        self._work = work
        self._claim = claim
        self._waiting: list[_Waiting] = []
        self._running: asyncio.Task[None] | None = None
        self.refusal: type[errors.EtcdError] | None = None  # of all writes that are still to come

    async def submit(
        self,
        evaluate: Callable[[Batch], Awaitable[T]],
        keys: Sequence[bytes] = (),
        size: int = 0,
        *,
        unasked: bool = False,
    ) -> T:
        """Evaluates a write in the next batch, and returns its result when it is durable.

        `keys` are rows that it will read, which are fetched for the whole batch at once; `size` bounds a batch.
        `unasked`: no client asked for it, so that it takes place in a tenant that is closed too, until that is cleared.

        :raises TenantClosed: :raises EtcdError: what the evaluation raised; nothing of the write took place
        """
        if self.refusal is not None:
            raise self.refusal
        answer: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        self._waiting.append(_Waiting(evaluate, keys, size, answer, contextvars.copy_context(), unasked))
        if self._running is None:
            self._running = asyncio.create_task(self._run())
        return await answer

    @property
    def waiting(self) -> int:
        """The writes that no batch has taken yet."""
        return len(self._waiting)

    async def drain(self) -> None:
        """Returns when nothing waits any more."""
        while self._running is not None:
            await asyncio.wait([self._running])

    async def _run(self) -> None:
        try:
            while self._waiting:
                await self._commit(self._take())
        finally:
            self._running = None

    def _take(self) -> list[_Waiting]:
        size = count = 0
        for waiting in self._waiting[:_MOST_WRITES]:
            size += waiting.size
            if count and size > _MOST_BYTES:
                break
            count += 1
        batch, self._waiting = self._waiting[:count], self._waiting[count:]
        return [waiting for waiting in batch if not waiting.answer.done()]

    async def _commit(self, group: list[_Waiting]) -> None:
        while group:
            group = await self._commit_first(group)

    async def _commit_first(self, group: list[_Waiting]) -> list[_Waiting]:
        """Commits as many writes of the group as one transaction takes; the rest."""
        started, clock = time.time_ns(), time.perf_counter()
        attempts = 0

        async def evaluate(transaction: Transaction) -> tuple[int, Batch, list[Any], _Claimed | None]:
            nonlocal attempts
            attempts += 1
            work = self._work()
            transaction.pause = work.pause
            batch = await self._begin(transaction, group, work)
            before = batch.revision
            results: list[Any] = []
            for waiting in group:
                if len(transaction.writes) >= _MOST_ROWS:
                    break
                if results and work.is_spent():
                    await work.give_way()
                results.append(await _evaluate(batch, waiting))
            claimed = await self._renew_claim(transaction) if _finish(batch) else None
            return before, batch, results, claimed

        try:
            before, batch, results, claimed = await self._store.transact(evaluate)
        except Exception as error:  # noqa: BLE001  every caller is told; the writer goes on with the next batch
            if len(group) > 1 and not isinstance(error, (StoreUnavailable, StoreFull)):
                half = len(group) // 2  # what is too much, or the one write that fails all, is found by halving
                await self._commit(group[:half])
                await self._commit(group[half:])
                return []
            for waiting in group:
                if not waiting.answer.done():
                    waiting.answer.set_exception(_as_answer(error))
            seconds = time.perf_counter() - clock
            callers = [waiting.caller for waiting in group]
            self._report(Committed(len(group), 0, attempts, started, seconds, 0, 0, callers, failed=True))
            return []
        if self._claim is not None and claimed is not None:
            self._claim.committed(*claimed)
        self._tell(before, batch)
        if len(batch.after_commit) <= _ACTIONS_AT_ONCE:
            for action in batch.after_commit:
                _carry_out(action, batch.revision)
        else:
            await self._follow(batch)
        answered, rest = group[: len(results)], group[len(results) :]
        for waiting, result in zip(answered, results, strict=True):
            if waiting.answer.done():
                continue
            if isinstance(result, Exception):
                waiting.answer.set_exception(result)
            else:
                waiting.answer.set_result(result)
        seconds = time.perf_counter() - clock
        callers = [waiting.caller for waiting in answered]
        self._report(
            Committed(
                len(answered),
                batch.revision,
                attempts,
                started,
                seconds,
                batch.stored_bytes,
                batch.keys,
                callers,
                sum(not event.deleted for event in batch.events),
                batch.deletes,
                batch.txns,
                batch.revoked,
                batch.alarms - batch.alarms_before,
            )
        )
        return rest

    def _tell(self, before: int, batch: Batch) -> None:
        """Tells the watches of a commit. Its callers are answered whatever fails of that."""
        if batch.events:
            try:
                self._publish(before, batch.revision, batch.events)
            except Exception:
                logger.exception("watches cannot be told of revision %d", batch.revision)

    async def _renew_claim(self, transaction: Transaction) -> _Claimed | None:
        """Writes the claim with a batch that writes anything: the row as it was found, and as it was written."""
        if self._claim is None:
            return None
        stored = await transaction.get(self._layout.writer)
        written = self._claim.renewed(stored)
        if written is not None:
            transaction.set(self._layout.writer, written)
        return stored, written

    def _report(self, committed: Committed) -> None:
        """Tells who observes the engines. The writer goes on whatever comes of it."""
        try:
            self._committed(committed)
        except Exception:
            logger.exception("a commit cannot be reported")

    async def _follow(self, batch: Batch) -> None:
        """Carries out what follows a commit, where it is much. Nothing of it is read or changed meanwhile."""
        work = self._work()
        for action in batch.after_commit:
            _carry_out(action, batch.revision)
            if work.is_spent():
                await work.give_way()

    async def _begin(self, transaction: Transaction, group: list[_Waiting], work: Work) -> Batch:
        layout = self._layout
        rows = [layout.revision, layout.compacted, layout.usage, layout.alarms]
        if self._claim is not None:
            rows.append(layout.writer)
        for waiting in group:
            rows += waiting.keys
        await transaction.prefetch(rows[:_ROWS_AT_ONCE])
        for first in range(_ROWS_AT_ONCE, len(rows), _ROWS_AT_ONCE):
            if work.is_spent():
                await work.give_way()
            await transaction.prefetch(rows[first : first + _ROWS_AT_ONCE])
        revision, closed = unpack_last_revision(await transaction.get_for_update(layout.revision))
        stored_bytes, keys = unpack_usage(await transaction.get(layout.usage))
        raised = alarms.unpack(await transaction.get(layout.alarms))
        return Batch(
            transaction,
            layout,
            self.quota,
            revision,
            unpack_revision(await transaction.get(layout.compacted), NEVER),
            stored_bytes,
            keys,
            raised,
            raised,
            self._mutate,
            group[0].caller,
            work,
            closed=closed,
        )


def _carry_out(action: Callable[[], None], revision: int) -> None:
    try:
        action()
    except Exception:
        logger.exception("what follows the commit of revision %d failed", revision)


async def _evaluate(batch: Batch, waiting: _Waiting) -> Any:
    """The result of one write of the batch, or the error that it met, with everything it had done undone."""
    if batch.closed and (batch.closed is Closed.CLEARED or not waiting.unasked):
        return batch.closed.error()
    transaction = batch.transaction
    mark = transaction.mark()
    before = batch.revision, batch.stored_bytes, batch.keys, len(batch.events), len(batch.after_commit)
    counted = batch.deletes, batch.txns, batch.revoked
    raised = batch.alarms
    batch.mutations, batch.caller = 0, waiting.caller
    try:
        result = await waiting.evaluate(batch)
        if batch.alarms is not raised:
            alarms.pack(batch.alarms)  # what cannot be stored fails here, where it is one write's error
    except (StoreUnavailable, StoreFull, *_TOO_MUCH):
        raise
    except Exception as error:  # noqa: BLE001  one write's failure is its own caller's, not the batch's
        while not transaction.rollback(mark, _UNDONE_AT_ONCE):
            await batch.work.pause()
        batch.revision, batch.stored_bytes, batch.keys, events, actions = before
        batch.deletes, batch.txns, batch.revoked = counted
        del batch.events[events:]
        del batch.after_commit[actions:]
        if not isinstance(error, errors.EtcdError):
            batch.alarms = raised  # the alarm that etcd's refusal raises stays
        return error
    return result


def _finish(batch: Batch) -> bool:
    """Stores what the whole batch has changed; whether it has. The revision is written whenever anything is."""
    transaction, layout = batch.transaction, batch.layout
    if batch.alarms != batch.alarms_before:
        transaction.set(layout.alarms, alarms.pack(batch.alarms))
    if not transaction.writes and not transaction.cleared:
        return False
    transaction.set(layout.usage, pack_usage(batch.stored_bytes, batch.keys))
    transaction.set(layout.revision, pack_revision(batch.revision, batch.closed))
    return True


def _as_answer(error: Exception) -> Exception:
    if isinstance(error, StoreFull | StoreUnavailable):
        return errors.of_store(error)
    if isinstance(error, _TOO_MUCH):
        return errors.RequestTooLarge()
    return error

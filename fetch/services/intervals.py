"""A transaction may change each key once.

etcd refuses a put that meets another put or a delete of the same branch, nested transactions included, before it
evaluates anything (`checkIntervals` in `server/etcdserver/api/v3rpc/key.go`). A key may be put in both branches of
one nested transaction, since only one of them is taken; deletes may overlap each other. A delete of everything from a
key on (an end of 0x00) overlaps nothing here, as in etcd. Of two nested transactions beside each other, the deletes of
the first meet the puts of the second, not the other way round.

What a nested transaction puts and deletes is handed on to the one around it, the smaller set added to the larger, so
that the whole takes n log n steps, and one look-up a level more for each put that lies below deletes.
"""

import heapq
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Self

from fetch import errors
from fetch.api.rpc_pb2 import DeleteRangeRequest, RequestOp
from fetch.engine.turns import Work
from fetch.spans import Span, Spans

_FEW = 32


async def check_intervals(operations: Sequence[RequestOp], work: Work) -> None:
    """Raises what etcd answers when the operations of a branch change a key twice.

    :raises DuplicateKey:
    """
    levels = [await _Branch.of(operations, work)]
    while levels:
        inner = next(levels[-1].nested, None)
        if inner is not None:
            levels.append(await _Branch.of(inner, work))
            continue
        branch = levels.pop()
        await branch.add_own_puts(work)
        if levels:
            await levels[-1].take(branch, work)


@dataclass(slots=True)
class _Branch:
    """The operations of one branch: the branches of its nested transactions, and what it changes together with them.

    `then` is what a nested transaction's first branch changes, while its other one is looked at.
    """

    operations: Sequence[RequestOp]
    nested: Iterator[Sequence[RequestOp]]
    puts: set[bytes] = field(default_factory=set)
    deletes: Spans = field(default_factory=Spans)
    then: "Self | None" = None

    @classmethod
    async def of(cls, operations: Sequence[RequestOp], work: Work) -> Self:
        """The branch with its own deletes, which come first."""
        branches: list[Sequence[RequestOp]] = []
        branch = cls(operations, iter(branches))
        for operation in operations:
            kind = operation.WhichOneof("request")
            if kind == "request_delete_range":
                branch.deletes.add(*_span(operation.request_delete_range))
            elif kind == "request_txn":
                branches += operation.request_txn.success, operation.request_txn.failure
            if work.is_spent():
                await work.give_way()
        return branch

    async def add_own_puts(self, work: Work) -> None:
        """Adds what the branch itself puts.

        :raises DuplicateKey:
        """
        for operation in self.operations:
            if operation.WhichOneof("request") == "request_put":
                key = operation.request_put.key
                if key in self.puts or key in self.deletes:
                    raise errors.DuplicateKey
                self.puts.add(key)
            if work.is_spent():
                await work.give_way()

    async def take(self, inner: Self, work: Work) -> None:
        """Takes over what a nested transaction changes, once both of its branches are known.

        :raises DuplicateKey:
        """
        if self.then is None:
            self.then = inner
            return
        then, self.then = self.then, None
        puts = _joined(then.puts, inner.puts)
        if not self.puts.isdisjoint(puts):
            raise errors.DuplicateKey
        if self.deletes:
            for key in puts:
                if key in self.deletes:
                    raise errors.DuplicateKey
                if work.is_spent():
                    await work.give_way()
        self.puts = _joined(self.puts, puts)
        for deletes in (then.deletes, inner.deletes):
            self.deletes = await _merged(self.deletes, deletes, work)


async def _merged(one: Spans, other: Spans, work: Work) -> Spans:
    """Both in one. To add a span moves those behind it, so that many are better merged than added."""
    smaller, merged = sorted((one, other), key=len)
    spans: Iterable[Span] = smaller
    if len(smaller) * _FEW > len(merged):
        spans, merged = heapq.merge(smaller, merged), Spans()
    for span in spans:
        merged.add(*span)
        if work.is_spent():
            await work.give_way()
    return merged


def _joined(one: set[bytes], other: set[bytes]) -> set[bytes]:
    smaller, larger = (one, other) if len(one) < len(other) else (other, one)
    larger |= smaller
    return larger


def _span(request: DeleteRangeRequest) -> Span:
    if not request.range_end:
        return request.key, request.key + b"\x00"
    return request.key, request.range_end

"""Reading transactions that are nested deeply, or so large that to parse them in one go would hold the event loop.

protobuf's Python parses 100 messages within each other, which are 50 transactions, where etcd's parses 10,000; and 1.5
MiB of small operations take it 36 ms. Both have the same answer here: the request is parsed in pieces, each merged into
the message that it belongs to. What is small enough can be neither deep nor slow, so that few fields are looked at.
"""

from dataclasses import dataclass

from google.protobuf.message import DecodeError

from fetch.api.rpc_pb2 import RequestOp, TxnRequest
from fetch.engine.turns import Turns, Work

PARSED_AT_ONCE = 64 << 10
"""Bytes of a transaction that are parsed within 2 ms, whatever they are."""

_LARGE = 32 << 10
# a message within another takes two bytes at least, so this holds fewer than the 100 that protobuf parses
_DEEP = 190
_DEEPEST = 10_000

_SUCCESS, _FAILURE, _REQUEST_TXN = 2, 3, 4


async def parse_txn(request: bytes, turns: Turns, tenant: str) -> TxnRequest:
    """A transaction of any size and depth that etcd parses, parsed in turns with other tenants' work.

    :raises DecodeError:
    """
    async with turns.work(tenant) as work:
        try:
            return await _parse(request, _LARGE, work)
        except DecodeError:
            return await _parse(request, _DEEP, work)


@dataclass(slots=True)
class _Open:
    """A message that is being parsed: bytes up to `at` have been looked at, those up to `merged` are in it."""

    message: TxnRequest | RequestOp
    merged: int
    at: int
    end: int

    def merge(self, request: bytes, end: int) -> None:
        """Parses what has been passed over, up to a position."""
        if end > self.merged:
            self.message.MergeFromString(request[self.merged : end])
            self.merged = end

    def nests(self, field: int) -> bool:
        """Whether transactions are nested in a field."""
        return field in ((_SUCCESS, _FAILURE) if isinstance(self.message, TxnRequest) else (_REQUEST_TXN,))

    def enter(self, field: int) -> TxnRequest | RequestOp:
        """The message of such a field, behind everything that has been merged."""
        if isinstance(self.message, TxnRequest):
            return (self.message.success if field == _SUCCESS else self.message.failure).add()
        nested = self.message.request_txn
        nested.SetInParent()
        return nested


async def _parse(request: bytes, piece: int, work: Work) -> TxnRequest:
    """Enters nested transactions of at least `piece` bytes, and has protobuf parse what is smaller."""
    outermost = TxnRequest()
    within = [_Open(outermost, 0, 0, len(request))]
    while within:
        level = within[-1]
        if level.at == level.end:
            level.merge(request, level.end)
            within.pop()
        else:
            start = level.at
            field, begin, level.at = _field(request, start, level.end)
            if level.at - begin >= piece and level.nests(field):
                level.merge(request, start)
                level.merged = level.at
                within.append(_Open(level.enter(field), begin, begin, level.at))
                if len(within) > _DEEPEST:
                    raise DecodeError("a transaction is nested too deeply")
            elif level.at - level.merged >= _LARGE:
                level.merge(request, level.at)
        if work.is_spent():
            await work.give_way()
    return outermost


def _field(request: bytes, at: int, end: int) -> tuple[int, int, int]:
    """The number of the field at a position, and where what is in it begins and ends."""
    tag, begin = _varint(request, at, end)
    match tag & 7:  # the wire type
        case 2:
            length, begin = _varint(request, begin, end)
            behind = begin + length
        case 0:
            _, behind = _varint(request, begin, end)
        case 1:
            behind = begin + 8
        case 5:
            behind = begin + 4
        case _:
            return 0, begin, end  # a group, or none at all: protobuf tells
    if behind > end:
        raise DecodeError("a field ends behind its message")
    return tag >> 3, begin, behind


def _varint(request: bytes, at: int, end: int) -> tuple[int, int]:
    number = shift = 0
    while at < end and shift < 70:
        byte = request[at]
        at += 1
        number |= (byte & 127) << shift
        if byte < 128:
            return number, at
        shift += 7
    raise DecodeError("a number does not end")

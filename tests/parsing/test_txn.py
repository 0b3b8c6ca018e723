"""Transactions parsed in pieces are what protobuf parses in one go, and may be deeper than that."""

import asyncio
import random

import pytest
from google.protobuf.message import DecodeError

from fetch.api.rpc_pb2 import PutRequest, RequestOp, TxnRequest
from fetch.chain import parsing
from fetch.engine.turns import Turns


async def parse(request: bytes) -> TxnRequest:
    return await parsing.parse_txn(request, Turns(), "any")


def some(choice: random.Random, depth: int = 0) -> TxnRequest:
    """A transaction of any shape, up to 40 within each other."""
    made = TxnRequest()
    for _ in range(choice.randrange(3)):
        made.compare.add(key=choice.randbytes(choice.randrange(300)), version=choice.randrange(-5, 5))
    for branch in (made.success, made.failure):
        for _ in range(choice.randrange(3)):
            operation = branch.add()
            match choice.randrange(4):
                case 0:
                    operation.request_put.value = choice.randbytes(choice.randrange(400))
                case 1:
                    operation.request_range.limit = choice.randrange(-3, 3)
                case 2 if depth < 40:
                    operation.request_txn.CopyFrom(some(choice, depth + choice.randrange(1, 5)))
    return made


@pytest.mark.parametrize("piece", [1, 60, 190])
@pytest.mark.parametrize("seed", range(30))
async def test_the_pieces_are_the_whole(seed: int, piece: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parsing, "_LARGE", piece)
    request = some(random.Random(seed))
    assert await parse(request.SerializeToString()) == request


async def test_fields_that_nobody_knows_and_that_come_twice_are_as_protobuf_has_them() -> None:
    put, nested = RequestOp(request_put=PutRequest(key=b"a")), RequestOp()
    nested.request_txn.success.add().request_put.key = b"b" * 300
    operation = put.SerializeToString() + nested.SerializeToString() * 2 + b"\x7d\0\0\0\0\x79" + b"\0" * 8 + b"\x78\x05"
    request = b"\x12" + bytes([len(operation) & 127 | 128, len(operation) >> 7]) + operation
    assert await parse(request) == TxnRequest.FromString(request)


@pytest.mark.parametrize(
    "request_", [b"\x12", b"\x12\x05\x00", b"\x0b\x0b", b"\xff" * 20, b"\x12\x04\x22\x02\x12\x7f", b"\x0f", b"\x09\x00"]
)
async def test_what_is_no_transaction_is_refused(request_: bytes) -> None:
    with pytest.raises(DecodeError):
        await parse(request_)


async def test_parsing_a_large_transaction_gives_way() -> None:
    turns, slices = Turns(), 0
    parsed = asyncio.create_task(parsing.parse_txn(b"\x12\x02\x1a\x00" * (1_500_000 // 4), turns, "any"))
    while not parsed.done():
        slices += 1
        await asyncio.sleep(0)
    assert len(parsed.result().success) == 375_000
    assert slices > 10

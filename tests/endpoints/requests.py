"""The parts that transactions are made of, in few words: compares and operations."""

from typing import Unpack

from fetch.api import rpc_pb2
from tests.endpoints.client import PutOptions, RangeOptions

RESULTS = {"=": "EQUAL", "!=": "NOT_EQUAL", ">": "GREATER", "<": "LESS"}


def version(key: bytes, result: str, number: int, range_end: bytes = b"") -> rpc_pb2.Compare:
    return rpc_pb2.Compare(key=key, range_end=range_end, target="VERSION", result=RESULTS[result], version=number)


def create_revision(key: bytes, result: str, revision: int, range_end: bytes = b"") -> rpc_pb2.Compare:
    return rpc_pb2.Compare(
        key=key, range_end=range_end, target="CREATE", result=RESULTS[result], create_revision=revision
    )


def mod_revision(key: bytes, result: str, revision: int, range_end: bytes = b"") -> rpc_pb2.Compare:
    return rpc_pb2.Compare(key=key, range_end=range_end, target="MOD", result=RESULTS[result], mod_revision=revision)


def value(key: bytes, result: str, content: bytes, range_end: bytes = b"") -> rpc_pb2.Compare:
    return rpc_pb2.Compare(key=key, range_end=range_end, target="VALUE", result=RESULTS[result], value=content)


def lease(key: bytes, result: str, lease_id: int, range_end: bytes = b"") -> rpc_pb2.Compare:
    return rpc_pb2.Compare(key=key, range_end=range_end, target="LEASE", result=RESULTS[result], lease=lease_id)


def get(key: bytes, range_end: bytes = b"", **options: Unpack[RangeOptions]) -> rpc_pb2.RequestOp:
    return rpc_pb2.RequestOp(request_range=rpc_pb2.RangeRequest(key=key, range_end=range_end, **options))


def put(key: bytes, content: bytes = b"", **options: Unpack[PutOptions]) -> rpc_pb2.RequestOp:
    return rpc_pb2.RequestOp(request_put=rpc_pb2.PutRequest(key=key, value=content, **options))


def delete(key: bytes, range_end: bytes = b"", *, prev_kv: bool = False) -> rpc_pb2.RequestOp:
    request = rpc_pb2.DeleteRangeRequest(key=key, range_end=range_end, prev_kv=prev_kv)
    return rpc_pb2.RequestOp(request_delete_range=request)


def nested(
    compare: tuple[rpc_pb2.Compare, ...] = (),
    success: tuple[rpc_pb2.RequestOp, ...] = (),
    failure: tuple[rpc_pb2.RequestOp, ...] = (),
) -> rpc_pb2.RequestOp:
    return rpc_pb2.RequestOp(request_txn=rpc_pb2.TxnRequest(compare=compare, success=success, failure=failure))

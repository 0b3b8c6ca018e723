"""Response headers, and the parts of responses that are written as bytes instead of messages."""

import zlib

import grpc

from fetch.api.rpc_pb2 import ResponseHeader
from fetch.chain import Call
from fetch.engine.alarms import MEMBER_ID
from fetch.engine.engine import StorageEngine
from fetch.engine.records import varint
from fetch.errors import Refused

RAFT_TERM = 2

_MORE = b"\x18\x01"
_COUNT = b"\x20"


def tenant_of(call: Call) -> StorageEngine:
    """The engine that authorization has put into the call.

    :raises Refused: PERMISSION_DENIED, when the configured chain has no authorization
    """
    if call.tenant is None:
        raise Refused(grpc.StatusCode.PERMISSION_DENIED, "etcdserver: permission denied: the call has no tenant")
    return call.tenant


def cluster_id(tenant: str) -> int:
    """The ID of a tenant's cluster: made from its name, the same in all daemons."""
    return zlib.crc32(tenant.encode()) << 32 | zlib.adler32(tenant.encode()) | 1


def fill(header: ResponseHeader, engine: StorageEngine, revision: int | None = None) -> None:
    """Fills in a response's header; the revision too, when it is given."""
    header.cluster_id = cluster_id(engine.tenant)
    header.member_id = MEMBER_ID
    header.raft_term = RAFT_TERM
    if revision is not None:
        header.revision = revision


_headers: dict[str, tuple[bytes, bytes]] = {}


def framed_header(engine: StorageEngine, revision: int) -> bytes:
    """A response's header, framed as field 1, which it is of every response."""
    parts = _headers.get(engine.tenant)
    if parts is None:
        constant = ResponseHeader(cluster_id=cluster_id(engine.tenant), member_id=MEMBER_ID).SerializeToString()
        parts = _headers[engine.tenant] = constant + b"\x18", b"\x20" + varint(RAFT_TERM)
    encoded = parts[0] + varint(revision) + parts[1]
    return b"\x0a" + varint(len(encoded)) + encoded


def range_answer(header: bytes, frames: list[bytes], *, more: bool, count: int) -> bytes:
    """A RangeResponse: a header, stored frames as they are, and the two numbers behind them."""
    return b"".join([header, *frames, _MORE if more else b"", _COUNT + varint(count) if count else b""])

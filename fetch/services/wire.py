"""Response headers, and the parts of responses that are written as bytes instead of messages."""

import asyncio
import zlib
from collections.abc import Iterator, Sequence

import grpc

from fetch.api.rpc_pb2 import ResponseHeader
from fetch.chain import Call
from fetch.engine.protocol import Delivery, StorageEngine
from fetch.engine.records import varint
from fetch.errors import Refused

RAFT_TERM = 2

_WATCH_ID = b"\x10"
_FRAGMENT = b"\x38\x01"

_JOINED_AT_ONCE = 8 << 20


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
    header.member_id = engine.member_id
    header.raft_term = RAFT_TERM
    if revision is not None:
        header.revision = revision


_headers: dict[tuple[str, int], tuple[bytes, bytes]] = {}


def framed_header(engine: StorageEngine, revision: int) -> bytes:
    """A response's header, framed as field 1, which it is of every response."""
    key = engine.tenant, engine.member_id
    parts = _headers.get(key)
    if parts is None:
        constant = ResponseHeader(cluster_id=cluster_id(key[0]), member_id=key[1]).SerializeToString()
        parts = _headers[key] = constant + b"\x18", b"\x20" + varint(RAFT_TERM)
    encoded = parts[0] + varint(revision) + parts[1]
    return b"\x0a" + varint(len(encoded)) + encoded


async def joined(parts: list[bytes], size: int) -> bytes:
    """The parts as one message of about that size. A large one is joined in a thread, without the interpreter's lock:
    100 MB take 50 ms. The thread lets go of the parts as well, whose list is empty then."""
    if size > _JOINED_AT_ONCE:
        return await asyncio.get_running_loop().run_in_executor(None, _join, parts)
    return b"".join(parts)


def _join(parts: list[bytes]) -> bytes:
    whole = b"".join(parts)
    while parts:  # one by one: another thread can have the lock between two of them
        parts.pop()
    return whole


async def watch_answers(
    header: bytes, watch_id: int, delivery: Delivery, fragment_bytes: int | None
) -> Iterator[bytes]:
    """The WatchResponse that tells of a delivery; where fragments are taken, as many as a large revision needs.

    Each fragment is made when it is asked for.
    """
    start = header + (_WATCH_ID + varint(watch_id) if watch_id else b"")
    if fragment_bytes is not None and delivery.size >= fragment_bytes:
        return _fragments(start, delivery.frames, fragment_bytes)
    # more than a little is one revision, which may be of any size
    return iter([await joined([start, *delivery.frames], delivery.size)])


def _fragments(start: bytes, frames: Sequence[bytes], most: int) -> Iterator[bytes]:
    at = 0
    while at < len(frames):
        first, size = at, 0
        while at < len(frames) and (at == first or size + len(frames[at]) < most):
            size += len(frames[at])
            at += 1
        yield b"".join([start, _FRAGMENT if at < len(frames) else b"", *frames[first:at]])

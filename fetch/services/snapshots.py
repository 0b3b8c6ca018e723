"""fetch's own service Snapshots: any tenant's snapshots, for administrators."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Mapping
from typing import NoReturn

import grpc
from google.protobuf.message import DecodeError

from fetch import errors
from fetch.chain import Call
from fetch.config import Settings
from fetch.engine.protocol import StorageEngine, Tenants, UnknownTenant
from fetch.services.sending import Sender, cannot_be_written
from fetch.services.streams import Streams
from fetch.snapshots.decoding import MOST_REVISION
from fetch.snapshots.reader import BrokenFileError, FileReader
from fetch.snapshots.restoring import NotAsStoredError, Restored, clear, restore
from fetch.snapshots.spool import Spool, in_thread
from fetch.snapshots.taking import Piece
from fetch.tenants.names import validate_tenant_name
from fetch.v1.snapshots_pb2 import (
    ClearRequest,
    ClearResponse,
    RestoreRequest,
    RestoreResponse,
    SaveRequest,
    SaveResponse,
)

_RESTORED_AT_ONCE = 2
"""In this daemon. Each takes room on the disk for a file of any size."""

_Code = grpc.StatusCode


class Snapshots:
    """The handlers of `fetch.v1.Snapshots`, on raw bytes."""

    name = "fetch.v1.Snapshots"

    def __init__(self, settings: Settings, tenants: Tenants, streams: Streams) -> None:
        self._tenants = tenants
        self._streams = streams
        self._sender = Sender(settings)
        self._restoring = 0

    def handlers(self) -> Mapping[str, grpc.RpcMethodHandler]:
        """The service's methods."""
        return {
            "Save": grpc.unary_stream_rpc_method_handler(self.save),
            "Restore": grpc.stream_stream_rpc_method_handler(self.restore),
            "Clear": grpc.unary_unary_rpc_method_handler(self.clear),
        }

    async def save(self, request: bytes, call: Call) -> None:
        """Save."""
        require_administrator(call)
        engine = await self._open(SaveRequest.FromString(request).tenant)

        async def write(piece: Piece) -> None:
            message = SaveResponse(blob=piece.data, remaining_bytes=piece.remaining)
            await call.write(message.SerializeToString())

        with self._streams.serving():
            await self._sender.send(engine, write)

    async def clear(self, request: bytes, call: Call) -> bytes:
        """Clear."""
        require_administrator(call)
        with self._streams.serving():
            await clear(await self._open(ClearRequest.FromString(request).tenant))
        return ClearResponse().SerializeToString()

    async def restore(self, _: bytes, call: Call) -> None:
        """Restore: takes the whole file, looks through it, and stores it."""
        require_administrator(call)
        if self._restoring >= _RESTORED_AT_ONCE:
            raise errors.TooManyRequests("snapshots")
        self._restoring += 1
        try:
            with self._streams.serving():
                await self._restore(call)
        finally:
            self._restoring -= 1

    async def _restore(self, call: Call) -> None:
        begin = (await _next(call)).begin
        if begin.bump_revision > MOST_REVISION:
            raise errors.Refused(_Code.INVALID_ARGUMENT, "etcdserver: the revision is bumped by more than there can be")
        engine = await self._open(begin.tenant)
        try:
            with Spool(self._sender.directory) as spool:
                await _receive(call, spool)
                file = await in_thread(lambda: FileReader(spool.descriptor, hashed=not begin.skip_hash_check))
                with file:
                    async with _told(call) as told:
                        restored = await restore(engine, file, told.tell, begin.bump_revision)
        except BrokenFileError as error:
            why = f"etcdserver: the snapshot cannot be restored: {error}"
            raise errors.Refused(_Code.INVALID_ARGUMENT, why) from error
        except NotAsStoredError as error:
            raise errors.Refused(_Code.DATA_LOSS, f"etcdserver: {error}") from error
        except OSError as error:
            raise cannot_be_written(error) from error
        await call.write(RestoreResponse(restored=_restored(restored)).SerializeToString())

    async def _open(self, tenant: str) -> StorageEngine:
        """:raises Refused: INVALID_ARGUMENT, NOT_FOUND: there can be no such tenant here"""
        try:
            validate_tenant_name(tenant)
        except ValueError as error:
            raise errors.Refused(_Code.INVALID_ARGUMENT, f"etcdserver: {error}") from error
        try:
            return self._tenants.get(tenant) or await self._tenants.open(tenant)
        except UnknownTenant as error:
            why = f"etcdserver: {tenant} is none of the tenants that this daemon serves (--tenants)"
            raise errors.Refused(_Code.NOT_FOUND, why) from error


def require_administrator(call: Call) -> None:
    """:raises Refused: PERMISSION_DENIED, the caller is none"""
    if not call.administrator:
        why = "etcdserver: permission denied: this is for administrators (--admin-principals)"
        raise errors.Refused(_Code.PERMISSION_DENIED, why)


async def _next(call: Call) -> RestoreRequest:
    """The next message.

    :raises Refused: CANCELLED, there is none
    """
    message = await call.read()
    if message is grpc.aio.EOF:
        _give_up()
    try:
        return RestoreRequest.FromString(message)
    except DecodeError as error:
        raise errors.Refused(_Code.INVALID_ARGUMENT, "etcdserver: the request cannot be read") from error


def _give_up() -> NoReturn:
    raise errors.Refused(_Code.CANCELLED, "etcdserver: the snapshot ended before it was whole")


async def _receive(call: Call, spool: Spool) -> None:
    """Takes the file."""
    while not (message := await _next(call)).end:
        await spool.append([message.blob])


def _restored(restored: Restored) -> RestoreResponse.Restored:
    return RestoreResponse.Restored(
        revision=restored.revision,
        compacted=restored.compacted,
        keys=restored.keys,
        leases=restored.leases,
        stored_bytes=restored.stored_bytes,
    )


class _Progress:
    """Tells a client how far its restoring is, as often as it takes it: what it has not taken is overtaken."""

    def __init__(self, call: Call) -> None:
        self._call = call
        self._latest: RestoreResponse | None = None
        self._news = asyncio.Event()
        self._ended = False

    def tell(self, stage: str, done: int, total: int) -> None:
        """See `restoring.Progress`."""
        progress = RestoreResponse.Progress(stage=stage, done=done, total=total)
        self._latest = RestoreResponse(progress=progress)
        self._news.set()

    def end(self) -> None:
        """There is nothing more."""
        self._ended = True
        self._news.set()

    async def send(self) -> None:
        """Sends until the end."""
        while not self._ended:
            await self._news.wait()
            self._news.clear()
            latest, self._latest = self._latest, None
            if latest is not None:
                await self._call.write(latest.SerializeToString())


@contextlib.asynccontextmanager
async def _told(call: Call) -> AsyncIterator[_Progress]:
    """Progress that is sent while the context is open."""
    progress = _Progress(call)
    sending = asyncio.create_task(progress.send())
    try:
        yield progress
    except BaseException:
        sending.cancel()
        raise
    finally:
        progress.end()
        await asyncio.wait([sending])

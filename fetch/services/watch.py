"""The Watch service: many watches on one stream.

Two tasks serve a stream: one reads what the client asks for, the call's own writes. The writer takes from each watch
that has something everything since its last turn, and writes it as one message; while the client reads slowly it waits,
and nothing is queued for it but what the watches' shared feeds hold.

Follows `server/etcdserver/api/v3rpc/watch.go`.
"""

import asyncio
import random
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass

import grpc

from fetch import errors
from fetch.api.rpc_pb2 import WatchCreateRequest, WatchRequest, WatchResponse
from fetch.chain import Call
from fetch.config import Settings
from fetch.engine.engine import StorageEngine
from fetch.engine.records import varint
from fetch.engine.watch import Delivery, Watcher
from fetch.services.streams import Streams
from fetch.services.wire import fill, framed_header, tenant_of

_NO_WATCH = -1
_ALL_KEYS = b"\x00"
_MESSAGE_BYTES = 2 << 20
_DUPLICATE_ID = "mvcc: duplicate watch ID provided on the WatchStream"
_EMPTY_RANGE = "mvcc: watcher range is empty"

# tags of WatchResponse
_WATCH_ID = b"\x10"
_FRAGMENT = b"\x38\x01"


class Watch:
    """The handler of `etcdserverpb.Watch`, on raw bytes."""

    name = "etcdserverpb.Watch"

    def __init__(self, settings: Settings, streams: Streams) -> None:
        self._streams = streams
        self._progress_seconds = settings.watch_progress_notify_interval
        self._fragment_bytes = settings.max_request_bytes

    def handlers(self) -> Mapping[str, grpc.RpcMethodHandler]:
        """The service's methods."""
        return {"Watch": grpc.stream_stream_rpc_method_handler(self.watch)}

    async def watch(self, _: AsyncIterator[bytes], call: Call) -> None:
        """Watch. Ends when the client hangs up, or the server stops."""
        stream = _Stream(tenant_of(call), call, self._progress_seconds, self._fragment_bytes)
        with self._streams.serving():
            await stream.serve()


@dataclass(slots=True, eq=False)
class _Watch:
    """A watch on a stream. `silent`: nothing has been sent for it since the last round of progress notices."""

    id: int
    watcher: Watcher
    start: int
    fragment: bool
    progress: bool
    silent: bool = False
    ready: bool = False


class _Stream:
    """One stream and its watches."""

    def __init__(self, engine: StorageEngine, call: Call, progress_seconds: float, fragment_bytes: int) -> None:
        self._engine = engine
        self._hub = engine.watches
        self._call = call
        self._progress_seconds = progress_seconds
        self._fragment_bytes = fragment_bytes
        self._watches: dict[int, _Watch] = {}
        self._by_watcher: dict[Watcher, _Watch] = {}
        self._next_id = 0
        # lists and a future, since an idle stream costs memory: a deque or an asyncio.Event takes 760 bytes
        self._ready: list[_Watch] = []
        self._answers: list[bytes] = []
        self._progress_asked: list[_Watch] = []
        self._idle: asyncio.Future[None] | None = None

    async def serve(self) -> None:
        """Reads and writes until one of it fails, then lets go of the stream's watches."""
        self._expect_progress()
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._read())
                await self._write()
        except ExceptionGroup as failed:
            raise failed.exceptions[0] from None
        finally:
            self._progress.cancel()
            for watch in self._watches.values():
                self._hub.cancel_key_watch(watch.watcher)

    # what the client asks for

    async def _read(self) -> None:
        while (message := await self._call.read()) is not grpc.aio.EOF:
            request = WatchRequest.FromString(message)
            match request.WhichOneof("request_union"):
                case "create_request":
                    await self._create(request.create_request)
                case "cancel_request":
                    await self._cancel(request.cancel_request.watch_id)
                case "progress_request":
                    self._progress_asked = list(self._watches.values())
                    self._wake()
        await asyncio.Event().wait()  # a client that has said all is still told what happens, until it hangs up

    async def _create(self, request: WatchCreateRequest) -> None:
        refusal = self._refusal(request)
        response = WatchResponse(created=True, watch_id=_NO_WATCH)
        if refusal:
            response.canceled, response.cancel_reason = True, refusal
            await self._answer(response)
            return
        watch_id = request.watch_id or self._free_id()
        watcher = await self._hub.register_key_watch(
            request.key or _ALL_KEYS,
            request.range_end,
            request.start_revision,
            prev_kv=request.prev_kv,
            puts=WatchCreateRequest.NOPUT not in request.filters,
            deletes=WatchCreateRequest.NODELETE not in request.filters,
            listener=self._happened,
        )
        watch = _Watch(watch_id, watcher, request.start_revision, request.fragment, request.progress_notify)
        self._watches[watch_id] = self._by_watcher[watcher] = watch
        response.watch_id = watch_id
        fill(response.header, self._engine, self._hub.position if request.start_revision else watcher.position)
        self._send(response)
        self._happened(watcher)

    def _refusal(self, request: WatchCreateRequest) -> str:
        if request.start_revision < 0:
            return errors.Compacted.text
        if request.range_end and request.range_end != _ALL_KEYS and (request.key or _ALL_KEYS) >= request.range_end:
            return _EMPTY_RANGE
        return _DUPLICATE_ID if request.watch_id in self._watches and request.watch_id else ""

    def _free_id(self) -> int:
        while self._next_id in self._watches:
            self._next_id += 1
        watch_id = self._next_id
        self._next_id += 1
        return watch_id

    async def _cancel(self, watch_id: int) -> None:
        """Cancelling a watch that there is not is answered with nothing, as etcd does."""
        watch = self._watches.get(watch_id)
        if watch is not None:
            self._end(watch)
            await self._answer(WatchResponse(watch_id=watch_id, canceled=True))

    def _end(self, watch: _Watch) -> None:
        self._hub.cancel_key_watch(watch.watcher)
        del self._watches[watch.id], self._by_watcher[watch.watcher]

    async def _answer(self, response: WatchResponse) -> None:
        fill(response.header, self._engine, self._hub.position if self._watches else await self._engine.revision())
        self._send(response)

    def _send(self, response: WatchResponse) -> None:
        self._answers.append(response.SerializeToString())
        self._wake()

    # what the client is told

    def _happened(self, watcher: Watcher) -> None:
        watch = self._by_watcher.get(watcher)
        if watch is not None and not watch.ready:
            watch.ready = True
            self._ready.append(watch)
            self._wake()

    def _wake(self) -> None:
        if self._idle is not None and not self._idle.done():
            self._idle.set_result(None)

    async def _write(self) -> None:
        while True:
            while self._answers or self._ready:
                ready, self._ready = self._ready, []
                await self._write_answers()
                for watch in ready:
                    await self._serve_watch(watch)
                    await self._write_answers()
            if self._progress_asked:
                watches, self._progress_asked = self._progress_asked, []
                await self._report_progress(watches)
                continue
            self._idle = asyncio.get_running_loop().create_future()
            await self._idle

    async def _write_answers(self) -> None:
        answers, self._answers = self._answers, []
        for answer in answers:
            await self._call.write(answer)

    async def _serve_watch(self, watch: _Watch) -> None:
        watch.ready = False
        if watch.id not in self._watches:
            return
        try:
            delivery = await self._hub.take(watch.watcher)
        except errors.Compacted:
            self._end(watch)
            response = WatchResponse(watch_id=watch.id, canceled=True)
            response.compact_revision = (await self._engine.status()).compacted
            fill(response.header, self._engine)
            await self._call.write(response.SerializeToString())
            return
        if delivery is not None:
            watch.silent = False
            for message in self._messages(watch, delivery):
                await self._call.write(message)
        if watch.watcher.feed is None:
            self._happened(watch.watcher)

    def _messages(self, watch: _Watch, delivery: Delivery) -> list[bytes]:
        """The delivery as messages of bounded size; a revision is split only for a watch that takes fragments."""
        start = framed_header(self._engine, delivery.revision) + (_WATCH_ID + varint(watch.id) if watch.id else b"")
        if len(delivery.joined) < min(_MESSAGE_BYTES, self._fragment_bytes):
            return [start + delivery.joined]
        messages: list[bytes] = []
        pending: list[bytes] = []
        size = 0
        for events in delivery.revisions:
            if watch.fragment:
                messages += self._fragments(start, events)
                continue
            if pending and size + sum(map(len, events)) > _MESSAGE_BYTES:
                messages.append(start + b"".join(pending))
                pending, size = [], 0
            pending += events
            size += sum(map(len, events))
        if pending:
            messages.append(start + b"".join(pending))
        return messages

    def _fragments(self, start: bytes, events: list[bytes]) -> list[bytes]:
        pieces: list[list[bytes]] = [[]]
        size = 0
        for event in events:
            if pieces[-1] and size + len(event) >= self._fragment_bytes:
                pieces.append([])
                size = 0
            pieces[-1].append(event)
            size += len(event)
        last = len(pieces) - 1
        return [start + (_FRAGMENT if index < last else b"") + b"".join(piece) for index, piece in enumerate(pieces)]

    async def _report_progress(self, watches: list[_Watch]) -> None:
        """Promises the client that it has everything up to a revision, once that is so.

        Not for a watch that starts in the future: it has nothing to be up to date with.
        """
        revision = await self._hub.caught_up()
        while any(not self._hub.is_synced(watch.watcher) for watch in watches if watch.id in self._watches):
            for watch in watches:
                await self._serve_watch(watch)
        if not any(watch.start > revision for watch in watches):
            response = WatchResponse(watch_id=_NO_WATCH)
            fill(response.header, self._engine, revision)
            await self._call.write(response.SerializeToString())

    def _expect_progress(self) -> None:
        seconds = self._progress_seconds * random.uniform(1, 1.1)  # noqa: S311  spreads the load
        self._progress = asyncio.get_running_loop().call_later(seconds, self._notify)

    def _notify(self) -> None:
        """Tells watches that asked for it, and of which nothing was heard for an interval, how far they are."""
        for watch in self._watches.values():
            if watch.progress and watch.silent and self._hub.is_synced(watch.watcher):
                revision = self._hub.position
                if watch.start <= revision:
                    response = WatchResponse(watch_id=watch.id)
                    fill(response.header, self._engine, revision)
                    self._send(response)
            watch.silent = True
        self._expect_progress()

"""The Watch service: many watches on one stream.

Two tasks serve a stream: one reads what the client asks for, the call's own writes. The writer takes from each watch
that has something what has happened since its last turn, and writes it as one message; while the client reads slowly it
waits, with no more than a message's worth in its hands, and nothing is queued for it but what the watches' shared feeds
hold. What is long takes turns with others: many requests at once, many watches that have something, a long answer.

Follows `server/etcdserver/api/v3rpc/watch.go`. One file, since a stream's two tasks change the same state between any
two of their awaits: who reads one has to see the other.
"""

import asyncio
import random
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import grpc

from fetch import errors
from fetch.api.rpc_pb2 import WatchCreateRequest, WatchRequest, WatchResponse
from fetch.chain import Call
from fetch.config import Settings
from fetch.engine.protocol import MESSAGE_BYTES, KeyWatch, StorageEngine, WatchInstance
from fetch.engine.turns import Work
from fetch.services.streams import Streams
from fetch.services.wire import fill, framed_header, tenant_of, watch_answers

_NO_WATCH = -1
_ALL_KEYS = b"\x00"
_DUPLICATE_ID = "mvcc: duplicate watch ID provided on the WatchStream"
_EMPTY_RANGE = "mvcc: watcher range is empty"

# what a stream does before it gives way, in microseconds: what it reads, writes, and looks at
_COST_OF_A_TURN = 1000
_SERVED = 30
_LOOKED_AT = 1
_MESSAGES_IN_A_TURN = 64
_WATCHES_AT_ONCE = 8
_MOST_ANSWERS = 1000
"""Answers that may wait to be written. etcd stops reading at 16."""


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
    """A watch on a stream.

    `silent`: nothing has been sent for it since the last round of progress notices. `ready`: it is to be served.
    `behind`: it has not come to where the others are. A watch that compaction has ended keeps its ID until the client
    cancels it.
    """

    id: int
    watcher: KeyWatch
    start: int
    fragment: bool
    progress: bool
    silent: bool = False
    ready: bool = False
    behind: bool = False


class _Stream:
    """One stream and its watches."""

    def __init__(self, engine: StorageEngine, call: Call, progress_seconds: float, fragment_bytes: int) -> None:
        self._engine = engine
        self._instance: WatchInstance[Any] = engine.create_watch_instance()
        self._instance.register_watch_listener(self._happened)
        self._call = call
        self._progress_seconds = progress_seconds
        self._fragment_bytes = fragment_bytes
        self._limit = min(MESSAGE_BYTES, fragment_bytes)
        self._watches: dict[int, _Watch] = {}
        self._by_watcher: dict[KeyWatch, _Watch] = {}
        self._next_id = 0
        self._behind = 0
        # those that start in the future, at least when they came, and those that compaction has ended
        self._not_to_promise: dict[_Watch, None] = {}
        # lists and futures, since an idle stream costs memory: a deque or an asyncio.Event takes 760 bytes
        self._ready: list[_Watch] = []
        self._serving: list[_Watch] = []
        self._answers: list[bytes] = []
        self._progress_asked = False
        self._notices_due = False
        self._idle: asyncio.Future[None] | None = None
        self._written: asyncio.Future[None] | None = None

    async def serve(self) -> None:
        """Reads and writes until one of it fails, then lets go of the stream's watches."""
        self._expect_progress()
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._read())
                try:
                    await self._write()
                except errors.EtcdError as error:
                    # the group keeps the traceback in a cycle, and with it the message that was refused
                    raise error.with_traceback(None) from None
        except ExceptionGroup as failed:
            raise failed.exceptions[0] from None
        finally:
            self._progress.cancel()
            self._by_watcher = {}  # nobody is woken any more
            self._engine.delete_watch_instance(self._instance)

    # what the client asks for

    async def _read(self) -> None:
        cost = 0
        while (message := await self._call.read()) is not grpc.aio.EOF:
            request = WatchRequest.FromString(message)
            match request.WhichOneof("request_union"):
                case "create_request":
                    await self._create(request.create_request)
                case "cancel_request":
                    await self._cancel(request.cancel_request.watch_id)
                case "progress_request":
                    self._ask_for_progress()
            cost = await self._give_way_after(cost + _SERVED)  # a client may send many at once
            while len(self._answers) >= _MOST_ANSWERS:
                self._written = asyncio.get_running_loop().create_future()
                await self._written
        await asyncio.Event().wait()  # a client that has said all is still told what happens, until it hangs up

    async def _create(self, request: WatchCreateRequest) -> None:
        refusal = self._refusal(request)
        response = WatchResponse(created=True, watch_id=_NO_WATCH)
        if refusal:
            response.canceled, response.cancel_reason = True, refusal
            await self._answer(response)
            return
        watch_id = request.watch_id or self._free_id()
        # only this task adds watches, one after the other, so the ID is still free when the watch has been registered
        watcher = await self._instance.register_key_watch(
            request.key or _ALL_KEYS,
            request.range_end,
            request.start_revision,
            prev_kv=request.prev_kv,
            puts=WatchCreateRequest.NOPUT not in request.filters,
            deletes=WatchCreateRequest.NODELETE not in request.filters,
        )
        watch = _Watch(watch_id, watcher, request.start_revision, request.fragment, request.progress_notify)
        self._watches[watch_id] = self._by_watcher[watcher] = watch
        self._note(watch)
        if request.start_revision > self._instance.received:
            self._not_to_promise[watch] = None
        response.watch_id = watch_id
        fill(response.header, self._engine, self._instance.received if request.start_revision else watcher.position)
        self._send(response)
        if watch.behind or self._instance.has_more(watcher):
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
        watch = self._watches.pop(watch_id, None)
        if watch is not None:
            self._end(watch)
            self._not_to_promise.pop(watch, None)
            await self._answer(WatchResponse(watch_id=watch_id, canceled=True))

    def _end(self, watch: _Watch) -> None:
        self._instance.cancel_key_watch(watch.watcher)
        self._by_watcher.pop(watch.watcher, None)
        self._note(watch)

    async def _answer(self, response: WatchResponse) -> None:
        received = self._instance.received
        fill(response.header, self._engine, received if received >= 0 else await self._engine.revision())
        self._send(response)

    def _send(self, response: WatchResponse) -> None:
        self._answers.append(response.SerializeToString())
        self._wake()

    # what the client is told

    def _happened(self, watcher: KeyWatch) -> bool:
        """Has the watch served; whether the writer was woken for it."""
        watch = self._by_watcher.get(watcher)
        if watch is None or watch.ready:
            return False
        watch.ready = True
        self._ready.append(watch)
        return self._wake()

    def _wake(self) -> bool:
        if self._idle is None or self._idle.done():
            return False
        self._idle.set_result(None)
        return True

    async def _write(self) -> None:
        while True:
            # a watch is ready after the answer that it exists: that is written before the watch is looked at
            if self._answers:
                await self._write_answers()
            elif self._ready or self._serving:
                await self._serve()
            elif self._notices_due:
                await self._notify()
            elif self._progress_asked and not self._behind:
                await self._report_progress()
            else:
                self._idle = asyncio.get_running_loop().create_future()
                await self._idle

    async def _write_answers(self) -> None:
        answers, self._answers = self._answers, []
        await self._write_all(answers)
        if self._written is not None and not self._written.done():
            self._written.set_result(None)

    async def _write_all(self, messages: Sequence[bytes]) -> None:
        cost = 0
        for message in messages:
            await self._call.write(message)
            cost = await self._give_way_after(cost + _SERVED)

    async def _serve(self) -> None:
        """Serves some of the watches that are ready."""
        if not self._serving:
            self._serving, self._ready = self._ready[::-1], []
        serving = self._serving
        if len(serving) <= _WATCHES_AT_ONCE:
            while serving:
                await self._serve_watch(serving.pop())
            return
        messages: list[bytes] = []
        size = 0
        async with self._engine.turns.work(self._engine.tenant) as work:
            while serving and size < MESSAGE_BYTES and len(messages) < _MESSAGES_IN_A_TURN and not work.is_spent():
                for message in await self._take(serving.pop(), work=work):
                    messages.append(message)
                    size += len(message)
        # no work is under way while the client reads or does not
        for message in messages:
            await self._call.write(message)

    async def _serve_watch(self, watch: _Watch, up_to: int | None = None) -> None:
        for message in await self._take(watch, up_to):
            await self._call.write(message)

    async def _take(self, watch: _Watch, up_to: int | None = None, work: Work | None = None) -> Iterator[bytes]:
        """The messages that the watch has to be told now, of which all but fragments are one."""
        watch.ready = False
        watcher = watch.watcher
        if watcher.ended:
            return iter(())
        try:
            delivery = await self._instance.take(watcher, self._limit, up_to, work)
        except errors.Compacted:
            return iter(await self._compacted(watch))
        if delivery is None:
            self._note(watch)
            if self._instance.has_more(watcher):  # nothing of what it has taken was for it
                self._happened(watcher)
            return iter(())
        watch.silent = False
        self._note(watch)
        if watch.behind or self._instance.has_more(watcher):
            self._happened(watcher)
        # what was taken is told even if the watch has been cancelled meanwhile: the answer to that comes behind it
        start = framed_header(self._engine, delivery.revision)
        return await watch_answers(start, watch.id, delivery, self._fragment_bytes if watch.fragment else None)

    async def _compacted(self, watch: _Watch) -> list[bytes]:
        """Ends a watch of which compaction has overtaken the position. Its ID stays taken until the client cancels."""
        if watch.watcher.ended:
            return []
        self._end(watch)
        self._not_to_promise[watch] = None
        response = WatchResponse(watch_id=watch.id, canceled=True)
        response.compact_revision = (await self._engine.status()).compacted
        fill(response.header, self._engine)
        return [response.SerializeToString()]

    def _note(self, watch: _Watch) -> None:
        """Counts the watches that are behind."""
        behind = watch.watcher.is_behind
        self._behind += behind - watch.behind
        watch.behind = behind

    # progress

    def _ask_for_progress(self) -> None:
        """Takes note that the client asks for progress. Not for a stream with a watch that starts in the future, which
        has nothing to be up to date with, or with one that compaction has ended: etcd does not answer either."""
        while self._not_to_promise:
            watch = next(iter(self._not_to_promise))
            if watch.watcher.ended or watch.start > self._instance.received:
                return
            del self._not_to_promise[watch]  # its start has come
        if self._watches:
            self._progress_asked = True
            self._wake()

    async def _report_progress(self) -> None:
        """Promises the client that it has everything up to a revision, once that is so. Waits for who is behind."""
        await self._instance.caught_up()
        while self._answers:
            await self._write_answers()
        # what is promised is told first, and nothing behind it, so no answer speaks of less than the client has.
        # Watches that come meanwhile are announced behind the promise, which is none for them
        revision, cost = self._instance.position, 0
        for watch in list(self._watches.values()):
            if watch.start > revision:
                self._progress_asked = False
                return
            if watch.watcher.position > revision:
                return  # it has read the log further than that: this begins anew, and waits for as much
            while not watch.watcher.ended and not self._instance.is_synced(watch.watcher, revision):
                await self._serve_watch(watch, revision)
                cost += _SERVED
                if watch.behind:
                    return  # it was left behind: once it has caught up, this begins anew
            cost = await self._give_way_after(cost + _LOOKED_AT)
        self._progress_asked = False
        if self._watches:
            response = WatchResponse(watch_id=_NO_WATCH)
            fill(response.header, self._engine, revision)
            await self._call.write(response.SerializeToString())

    def _expect_progress(self) -> None:
        seconds = self._progress_seconds * random.uniform(1, 1.1)  # noqa: S311  spreads the load
        self._progress = asyncio.get_running_loop().call_later(seconds, self._time_to_notify)

    def _time_to_notify(self) -> None:
        self._notices_due = True
        self._wake()
        self._expect_progress()

    async def _notify(self) -> None:
        """Tells watches that asked for it, and of which nothing was heard for an interval, how far they are."""
        self._notices_due = False
        cost = 0
        for watch in list(self._watches.values()):
            if watch.progress and watch.silent and self._instance.is_synced(watch.watcher):
                # one that has read the log may be further than its instance
                revision = max(self._instance.position, watch.watcher.position)
                if watch.start <= revision:
                    response = WatchResponse(watch_id=watch.id)
                    fill(response.header, self._engine, revision)
                    await self._call.write(response.SerializeToString())
                    cost += _SERVED
            watch.silent = True
            cost = await self._give_way_after(cost + _LOOKED_AT)

    async def _give_way_after(self, cost: int) -> int:
        """Lets others go first when there was so much to do, in microseconds; what has been done since they could."""
        if cost < _COST_OF_A_TURN:
            return cost
        async with self._engine.turns.work(self._engine.tenant):
            return 0

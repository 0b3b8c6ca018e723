"""One connection of HTTP/2, with many requests at once. Frames and their rules are h2's.

One task reads the connection and hands out what comes; each request has a task in which the application runs. What a
client sends faster than it is taken stays with the client: each stream's window opens as its request is taken.
"""

import asyncio
import contextlib
from asyncio import StreamReader, StreamWriter
from collections import deque
from collections.abc import Iterable

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.errors import ErrorCodes
from h2.events import (
    ConnectionTerminated,
    DataReceived,
    Event,
    RemoteSettingsChanged,
    RequestReceived,
    StreamEnded,
    StreamReset,
    WindowUpdated,
)
from h2.exceptions import H2Error
from h2.settings import SettingCodes

from fetch.http.asgi import Application, Message, Scope
from fetch.http.pace import Pace
from fetch.http.serving.bounds import HEAD_BYTES, IDLE_SECONDS, READ_BYTES, RESETS, STREAMS, WINDOW_BYTES
from fetch.http.serving.peer import Peer, date

_GONE: Message = {"type": "http.disconnect"}
_SLICE_BYTES = 512
"""What is parsed in one go: as many frames as take about a millisecond, whatever they are."""
_OPEN_BYTES = WINDOW_BYTES // 2


class Http2:
    """A connection. `is_idle` tells whether it can be closed without a loss to anyone."""

    def __init__(
        self,
        reader: StreamReader,
        writer: StreamWriter,
        application: Application,
        peer: Peer,
        most_streams: int = STREAMS,
    ) -> None:
        self._reader, self._writer = reader, writer
        self._application, self._peer = application, peer
        self._http = H2Connection(H2Configuration(client_side=False, header_encoding=None))
        self._http.local_settings = type(self._http.local_settings)(
            client=False,
            initial_values={
                SettingCodes.MAX_CONCURRENT_STREAMS: most_streams,
                SettingCodes.MAX_HEADER_LIST_SIZE: HEAD_BYTES,
                SettingCodes.INITIAL_WINDOW_SIZE: WINDOW_BYTES,
                SettingCodes.ENABLE_CONNECT_PROTOCOL: 0,
            },
        )
        self._http.decoder.max_header_list_size = HEAD_BYTES
        self._streams: dict[int, _Stream] = {}
        self._taken = 0
        self._given_up = 0
        self._draining = False
        self._pace = Pace()
        self._idle_since = asyncio.get_running_loop().time()

    @property
    def is_idle(self) -> bool:
        """Whether nothing that has been asked is still to be answered."""
        return not self._streams

    def drain(self) -> None:
        """Answers what has been asked, and nothing more."""
        self._draining = True
        if self.is_idle:
            self._close()

    def _close(self) -> None:
        # not before all is answered: h2 lets nothing be said behind it
        with contextlib.suppress(H2Error):
            self._http.close_connection()
        self.flush()
        self._writer.close()

    async def serve(self, first: bytes) -> None:
        """Serves the connection to its end. `first` has been read of it.

        :raises OSError: :raises TimeoutError:
        """
        self._http.initiate_connection()
        # the streams' own windows bound what is held; this one lets no stream wait for another
        self._http.increment_flow_control_window(STREAMS * WINDOW_BYTES)
        self.flush()
        data = first
        try:
            while True:
                for at in range(0, len(data), _SLICE_BYTES):
                    for event in self._http.receive_data(data[at : at + _SLICE_BYTES]):
                        self._happened(event)
                    self.flush()
                    await self._pace.keep()
                await self._writer.drain()
                data = await self._read()
                if not data:
                    return
        except H2Error:
            self.flush()  # the reason, which h2 has written
            await self._writer.drain()
        finally:
            tasks = [stream.end() for stream in self._streams.values()]
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _read(self) -> bytes:
        if self._streams:
            return await self._reader.read(READ_BYTES)
        async with asyncio.timeout_at(self._idle_since + IDLE_SECONDS):
            return await self._reader.read(READ_BYTES)

    def _happened(self, event: Event) -> None:
        match event:
            case RequestReceived():
                self._begin(event)
            case DataReceived():
                self._take(event)
            case StreamEnded():
                if stream := self._streams.get(event.stream_id or 0):
                    stream.feed(None)
            case StreamReset():
                self._given_up += 1
                if stream := self._streams.get(event.stream_id or 0):
                    stream.end()
                if self._given_up > RESETS:
                    self._http.close_connection(ErrorCodes.ENHANCE_YOUR_CALM)
                    self.flush()
                    raise OSError("the client gives up too many requests")
            case WindowUpdated() | RemoteSettingsChanged():
                for stream in self._opened(event):
                    stream.make_room()
            case ConnectionTerminated():
                for stream in self._streams.values():
                    stream.end()

    def _opened(self, event: WindowUpdated | RemoteSettingsChanged) -> Iterable["_Stream"]:
        if isinstance(event, WindowUpdated) and event.stream_id:
            return [stream] if (stream := self._streams.get(event.stream_id)) else []
        return list(self._streams.values())

    def _begin(self, event: RequestReceived) -> None:
        if self._draining:
            self._http.reset_stream(event.stream_id or 0, ErrorCodes.REFUSED_STREAM)
            return
        special: dict[bytes, bytes] = {}
        headers: list[tuple[bytes, bytes]] = []
        for name, value in event.headers or ():
            if bytes(name).startswith(b":"):
                special[bytes(name)] = bytes(value)
            else:
                headers.append((bytes(name), bytes(value)))
        if b":authority" in special and all(name != b"host" for name, _ in headers):
            headers.insert(0, (b"host", special[b":authority"]))
        method = special.get(b":method", b"")
        scope = self._peer.scope("2", method, special.get(b":path", b"/"), headers)
        stream_id = event.stream_id or 0
        stream = _Stream(self, stream_id, is_head=method == b"HEAD")
        self._streams[stream_id] = stream
        stream.task = asyncio.create_task(self._run(stream, scope))

    async def _run(self, stream: "_Stream", scope: Scope) -> None:
        try:
            await self._application(scope, stream.receive, stream.send)
        except OSError:
            pass  # the client is gone
        finally:
            self._end(stream)

    def _end(self, stream: "_Stream") -> None:
        """A request has been answered, or will not be."""
        self._streams.pop(stream.id, None)
        self._given_up = max(self._given_up - 1, 0) if stream.is_answered else self._given_up
        if not self._streams:
            self._idle_since = asyncio.get_running_loop().time()
        if not (stream.is_answered and stream.is_whole):
            with contextlib.suppress(H2Error):
                why = ErrorCodes.NO_ERROR if stream.is_answered else ErrorCodes.INTERNAL_ERROR
                self._http.reset_stream(stream.id, why)
        self.flush()
        if self._draining and self.is_idle:
            self._close()

    def _take(self, event: DataReceived) -> None:
        size = event.flow_controlled_length or 0
        self._taken += size
        if self._taken >= _OPEN_BYTES:
            self._http.increment_flow_control_window(self._taken)
            self._taken = 0
        if (stream := self._streams.get(event.stream_id or 0)) and (event.data or size):
            stream.feed(event.data or b"", size)

    # for streams

    def flush(self) -> None:
        """Writes what is to be said."""
        if data := self._http.data_to_send():
            self._writer.write(data)

    def opened(self, stream_id: int, size: int) -> None:
        """So much of a request has been taken."""
        with contextlib.suppress(H2Error):
            self._http.increment_flow_control_window(size, stream_id)
            self.flush()

    def begin_answer(self, stream_id: int, status: int, headers: list[tuple[bytes, bytes]]) -> None:
        """Says the head of an answer.

        :raises OSError: the client is gone
        """
        try:
            self._http.send_headers(stream_id, [(b":status", str(status).encode()), date(), *headers])
        except H2Error as error:
            raise OSError("the stream is closed") from error
        self.flush()

    def send(self, stream_id: int, data: memoryview, *, last: bool) -> int:
        """Sends as much of this as there is room for; how much that is.

        :raises OSError: the client is gone
        """
        try:
            room = min(self._http.local_flow_control_window(stream_id), self._http.max_outbound_frame_size, len(data))
            if room > 0 or not data:
                self._http.send_data(stream_id, bytes(data[:room]), end_stream=last and room == len(data))
        except H2Error as error:
            raise OSError("the stream is closed") from error
        self.flush()
        return max(room, 0)

    async def drained(self) -> None:
        """Returns when the connection has room."""
        await self._writer.drain()
        await self._pace.keep()


class _Stream:
    """A request and its answer."""

    def __init__(self, connection: Http2, stream_id: int, *, is_head: bool) -> None:
        self.id = stream_id
        self.task: asyncio.Task[None] | None = None
        self.is_whole = self.is_answered = False
        self._connection = connection
        self._is_head = is_head
        self._body: deque[tuple[bytes, int]] = deque()
        self._untold = 0
        self._gone = self._is_told = False
        self._changed = asyncio.Event()
        self._room = asyncio.Event()

    def feed(self, data: bytes | None, size: int = 0) -> None:
        """Takes what has come of the request; None is its end."""
        if data is None:
            self.is_whole = True
        else:
            self._body.append((data, size))
        self._changed.set()

    def make_room(self) -> None:
        """The window may have opened."""
        self._room.set()

    def end(self) -> "asyncio.Future[None]":
        """The client is gone: the application is told, and does not go on."""
        self._gone = True
        self._changed.set()
        self._room.set()
        assert self.task is not None  # noqa: S101  it is made with the stream
        self.task.cancel()
        return self.task

    async def receive(self) -> Message:
        """What comes of the request, and then the word that the client is gone."""
        while True:
            if self._gone or self.is_answered:
                return _GONE
            if self._body:
                data, size = self._body.popleft()
                self._untold += size
                if self._untold >= _OPEN_BYTES or not self._body:
                    self._connection.opened(self.id, self._untold)
                    self._untold = 0
                return {"type": "http.request", "body": data, "more_body": True}
            if self.is_whole and not self._is_told:
                self._is_told = True
                return {"type": "http.request", "body": b"", "more_body": False}
            self._changed.clear()
            await self._changed.wait()

    async def send(self, message: Message) -> None:
        """Sends a part of the answer; returns when there is room for the next.

        :raises OSError: the client is gone
        """
        if self._gone:
            raise OSError("the client is gone")
        if message["type"] == "http.response.start":
            self._connection.begin_answer(self.id, message["status"], list(message["headers"]))
            return
        last = not message.get("more_body", False)
        left = memoryview(b"" if self._is_head else message.get("body", b""))
        while left or last:
            self._room.clear()
            sent = self._connection.send(self.id, left, last=last)
            done = sent == len(left)
            left = left[sent:]
            if done:
                self.is_answered = last
                break
            if not sent:
                await self._room.wait()
                if self._gone:
                    raise OSError("the client is gone")
            await self._connection.drained()
        await self._connection.drained()

"""A listener in the test's own process, and clients of it that say exactly what they are told to."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import DataReceived, Event, ResponseReceived, StreamEnded, StreamReset, WindowUpdated
from h2.exceptions import H2Error

from fetch.http.asgi import Application, Receive, Scope, Send
from fetch.http.serving.listener import Listener
from tests.endpoints.process import free_port

SECONDS = 60


@contextlib.asynccontextmanager
async def serving(application: Application) -> AsyncIterator[int]:
    """Serves the application on http://; its port."""
    port = free_port()
    listener = Listener(application)
    await listener.start(f"http://127.0.0.1:{port}")
    try:
        yield port
    finally:
        await listener.stop()


async def connect(port: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    return await asyncio.open_connection("127.0.0.1", port)


async def converse(port: int, said: bytes) -> bytes:
    """All that is answered to this, until the server closes the connection."""
    reader, writer = await connect(port)
    with contextlib.suppress(ConnectionError):
        writer.write(said)
        await writer.drain()
    answered = b""
    with contextlib.suppress(ConnectionError):
        async with asyncio.timeout(SECONDS):
            while data := await reader.read(65536):
                answered += data
    writer.close()
    return answered


async def whole(receive: Receive) -> bytes:
    """A request's body."""
    body = b""
    while (message := await receive())["type"] == "http.request":
        body += message["body"]
        if not message["more_body"]:
            return body
    raise ConnectionError("the client is gone")


async def answer(send: Send, body: bytes, status: int = 200) -> None:
    headers = [(b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


async def echo(_: Scope, receive: Receive, send: Send) -> None:
    """Answers with what it is asked."""
    await answer(send, await whole(receive))


@dataclass(slots=True)
class Endless:
    """Sends for ever; `sent` bytes there was room for. `gone` is set when it hears that its client is gone."""

    sent: int = 0
    gone: asyncio.Event = field(default_factory=asyncio.Event)

    async def __call__(self, _: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        sending = asyncio.create_task(self._send(send))
        try:
            while (await receive())["type"] != "http.disconnect":
                pass
        finally:
            self.gone.set()
            sending.cancel()

    async def _send(self, send: Send) -> None:
        while True:
            await send({"type": "http.response.body", "body": b"x" * 4096, "more_body": True})
            self.sent += 4096


class Http2Client:
    """A client of HTTP/2, without TLS."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self.writer = reader, writer
        self.http = H2Connection(H2Configuration(client_side=True, header_encoding="utf-8"))
        self._events: list[Event] = []

    @classmethod
    @contextlib.asynccontextmanager
    async def to(cls, port: int) -> AsyncIterator["Http2Client"]:
        client = cls(*await connect(port))
        client.http.initiate_connection()
        await client.flush()
        try:
            yield client
        finally:
            client.writer.close()

    async def flush(self) -> None:
        self.writer.write(self.http.data_to_send())
        await self.writer.drain()

    def ask(self, path: str = "/", method: str = "POST", *, end: bool = False) -> int:
        """Begins a request; its stream."""
        stream = self.http.get_next_available_stream_id()
        head = [(":method", method), (":path", path), (":scheme", "http"), (":authority", "localhost")]
        self.http.send_headers(stream, head, end_stream=end)
        return stream

    async def next(self, *kinds: type[Event], stream: int | None = None) -> Event:
        """The next event of these kinds; ConnectionError when the server closes the connection."""
        async with asyncio.timeout(SECONDS):
            while True:
                for at, event in enumerate(self._events):
                    if isinstance(event, kinds) and stream in (None, getattr(event, "stream_id", None)):
                        return self._events.pop(at)
                data = await self._reader.read(65536)
                if not data:
                    raise ConnectionError("the server has closed the connection")
                self._events += self.http.receive_data(data)
                with contextlib.suppress(H2Error):
                    await self.flush()

    async def answered(self, stream: int) -> tuple[int, bytes]:
        """(status, body) of an answer, as it comes."""
        status, body = 0, b""
        while True:
            event = await self.next(ResponseReceived, DataReceived, StreamEnded, StreamReset, stream=stream)
            if isinstance(event, ResponseReceived):
                status = int(dict(event.headers or ())[":status"])
            elif isinstance(event, DataReceived):
                body += event.data or b""
                self.http.acknowledge_received_data(event.flow_controlled_length or 0, stream)
                await self.flush()
            else:
                return status, body

    async def send(self, stream: int, data: bytes, *, end: bool = False) -> None:
        """Sends as the server has room for it."""
        while data:
            room = min(self.http.local_flow_control_window(stream), self.http.max_outbound_frame_size)
            if room <= 0:
                await self.next(WindowUpdated)
                continue
            self.http.send_data(stream, data[:room])
            data = data[room:]
            await self.flush()
        if end:
            self.http.end_stream(stream)
            await self.flush()


def heads(*lines: str) -> bytes:
    """A request's head."""
    return "\r\n".join([*lines, "", ""]).encode()


def statuses(answers: bytes) -> Sequence[int]:
    """The status of each answer on a connection of HTTP/1.1."""
    return [int(part.split(b" ", 1)[0]) for part in answers.split(b"HTTP/1.1 ")[1:]]

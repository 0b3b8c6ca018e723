"""A call as its handler sees it: `grpc.aio.ServicerContext` on the transport's calls."""

import asyncio
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NoReturn, Protocol

import grpc
from grpc.aio import EOF, AbortError, UsageError

from fetch_transport._codes import OK, number_of
from fetch_transport._metadata import Metadatum, Pairs
from fetch_transport._native import Call

Deserializer = Callable[[bytes], Any]
Serializer = Callable[[Any], bytes]

_FINISHED = "RPC already finished."


class Flusher(Protocol):
    """Whoever sees to it that what has been said is sent."""

    max_send_message_length: int

    def flush_soon(self) -> None:
        """Sends what has been said, together with what else is said in this turn of the loop."""


class Context(grpc.aio.ServicerContext[Any, Any]):
    """What a handler can know of its call and say to it.

    Beside grpcio's promises: `write` returns at once while the transport has room for the message (64 KiB of a call)
    and waits for it otherwise; `set_compression` and `disable_next_message_compression` change nothing, since
    responses are never compressed.
    """

    # What most calls never touch stands on the class: making a context is a good part of a short call's cost.
    _code: Any = None
    _details = ""
    _trailing: tuple[tuple[str, str | bytes], ...] = ()
    _aborted: AbortError | None = None
    _initial_sent = False
    # Nothing more will be sent: the status is on its way, or the client has gone.
    _over = False
    _cancelled = False
    # Until the first `feed`: a call whose only request went to its handler directly has no more to read.
    _ended = True
    _messages: deque[bytes] | None = None
    _reader: asyncio.Future[None] | None = None
    _writer: asyncio.Future[None] | None = None
    _callbacks: list[Callable[["Context"], None]] | None = None

    def __init__(
        self, call: Call, flusher: Flusher, deserializer: Deserializer | None, serializer: Serializer | None
    ) -> None:
        self._call = call
        self._flusher = flusher
        self._deserializer = deserializer
        self._serializer = serializer

    # Messages

    async def read(self) -> Any:
        """The next request, or `grpc.aio.EOF` after the last and after the call was cut off.

        Raises:
            UsageError: the call has been finished, or another read is waiting.
        """
        if self._over and not self._cancelled:
            raise UsageError(_FINISHED)
        message = await self.receive()
        if message is None:
            return EOF
        return message if self._deserializer is None else self._deserializer(message)

    async def receive(self) -> bytes | None:
        """The next request as it came, or None after the last."""
        while not self._messages:
            if self._over or self._ended:
                return None
            if self._reader is not None:
                raise UsageError("another read is waiting")
            self._reader = asyncio.get_running_loop().create_future()
            try:
                await self._reader
            finally:
                self._reader = None
        message = self._messages.popleft()
        if not self._messages:
            # an idle stream costs memory, and an empty deque 760 bytes of it
            self._messages = None
        if self._call.consumed(len(message)):
            self._flusher.flush_soon()
        return message

    async def write(self, message: Any) -> None:
        """Sends a response; waits while the client leaves no room for it.

        Raises:
            UsageError: the call is over.
        """
        self._check_not_over()
        raw = self.serialize(message)
        self._initial_sent = True
        has_room = self._call.send(raw)
        self._flusher.flush_soon()
        if not has_room:
            await self._room()

    async def _room(self) -> None:
        if self._writer is None or self._writer.done():
            self._writer = asyncio.get_running_loop().create_future()
        # Shielded, since two tasks may wait for it and one be cancelled.
        await asyncio.shield(self._writer)
        self._check_not_over()

    def serialize(self, message: Any) -> bytes:
        """A response as it goes out.

        Raises:
            MessageTooLargeError: it is larger than the server may send.
        """
        raw: bytes = message if self._serializer is None else self._serializer(message)
        limit = self._flusher.max_send_message_length
        if len(raw) > limit:
            raise MessageTooLargeError(len(raw), limit)
        return raw

    # Metadata and status

    async def send_initial_metadata(self, initial_metadata: Pairs) -> None:
        """Sends the headers of the response.

        Raises:
            UsageError: they have been sent, or the call is over.
            ValueError: a key or a value that gRPC does not allow.
        """
        self._check_not_over()
        if self._initial_sent:
            raise UsageError("Send initial metadata failed: already sent")
        self._call.send_initial_metadata([(key, value) for key, value in initial_metadata])
        self._initial_sent = True
        self._flusher.flush_soon()

    async def abort(self, code: grpc.StatusCode, details: str = "", trailing_metadata: Pairs = ()) -> NoReturn:
        """Ends the call with an error, which is sent at once.

        Raises:
            AbortError: always, to leave the handler; it must not be kept from the transport.
            UsageError: the call is over or was aborted before, or the code is OK.
        """
        if self._aborted is not None:
            raise UsageError("Abort already called!")
        # Where the client has gone there is nobody to tell, but the handler is to be left all the same.
        if not self._cancelled:
            self._check_not_over()
        number = number_of(code)
        if number == OK:
            raise UsageError("abort() called with StatusCode.OK")
        self._code = code
        self._details = details or self._details
        self._trailing = tuple((key, value) for key, value in trailing_metadata) or self._trailing
        self._call.finish(number, self._details, self._trailing)
        self._aborted = AbortError("Locally aborted.")
        self._over = True
        self._flusher.flush_soon()
        raise self._aborted

    async def abort_with_status(self, status: grpc.Status) -> NoReturn:
        """Ends the call as `abort` does, with a status and its metadata."""
        await self.abort(status.code, status.details, status.trailing_metadata or ())

    def set_trailing_metadata(self, trailing_metadata: Pairs) -> None:
        """Sets what is sent with the status."""
        self._trailing = tuple((key, value) for key, value in trailing_metadata)

    # The stubs know the client's Metadata alone; grpcio's server gives plain tuples here, as this one does.

    def trailing_metadata(self) -> tuple[tuple[str, str | bytes], ...]:  # type: ignore[override]
        """What is sent with the status."""
        return self._trailing

    def set_code(self, code: grpc.StatusCode) -> None:
        """Sets the code that the call ends with.

        Raises:
            ValueError: neither a code nor a number.
        """
        number_of(code)
        self._code = code

    def code(self) -> Any:
        """The code as it was set; None before."""
        return self._code

    def set_details(self, details: str) -> None:
        """Sets the text that the call ends with."""
        self._details = details

    def details(self) -> str:
        """The text as it was set; empty before."""
        return self._details

    def set_compression(self, compression: grpc.Compression) -> None:
        """Changes nothing: responses are never compressed, which every client has to accept."""

    def disable_next_message_compression(self) -> None:
        """Changes nothing: responses are never compressed."""

    # The client and its call

    def invocation_metadata(self) -> tuple[Metadatum, ...]:  # type: ignore[override]
        """What the client has sent beside its messages, in its order."""
        return self._call.invocation_metadata

    def peer(self) -> str:
        """The client's address as grpcio writes it, such as `ipv4:127.0.0.1:40000`."""
        return self._call.peer()

    def peer_identities(self) -> Iterable[bytes] | None:
        """The values of the property that names the client; None without a certificate."""
        key = self._call.peer_identity_key()
        return None if key is None else self._call.auth_context()[key]

    def peer_identity_key(self) -> str | None:
        """The property that names the client: its alternative names where it has some, else its common name."""
        return self._call.peer_identity_key()

    def auth_context(self) -> Mapping[str, Iterable[bytes]]:
        """How the connection is secured and what the client's certificate says; read-only, one for a connection."""
        return self._call.auth_context()

    def time_remaining(self) -> float:
        """Seconds until the deadline, not below zero; None without one."""
        # grpcio's annotation knows no None, though its server returns it.
        return self._call.time_remaining()  # type: ignore[return-value]

    def add_done_callback(self, callback: Callable[["Context"], None]) -> None:
        """Calls back with this context when all that the handler has said is sent, or the client has gone."""
        if self._callbacks is None:
            self._callbacks = []
        self._callbacks.append(callback)

    def cancelled(self) -> bool:
        """Whether the client or the deadline has cut the call off, or CANCELLED was set."""
        return self._cancelled or self._code is grpc.StatusCode.CANCELLED

    def done(self) -> bool:
        """Whether the call is over."""
        return self._over

    # For the server

    @property
    def call(self) -> Call:
        """The transport's side of the call."""
        return self._call

    @property
    def aborted(self) -> AbortError | None:
        """What `abort` has raised."""
        return self._aborted

    def use(self, deserializer: Deserializer | None, serializer: Serializer | None) -> None:
        """Sets how messages are read and written, where that is known only now."""
        self._deserializer = deserializer
        self._serializer = serializer

    def feed(self, message: bytes | None, ended: bool) -> None:
        """Takes a request that has come, the word that it was the last, or both."""
        if message is not None:
            if self._messages is None:
                self._messages = deque()
            self._messages.append(message)
        self._ended = ended
        self._wake(self._reader)

    def make_room(self) -> None:
        """Lets a waiting writer go on."""
        self._wake(self._writer)

    def cut_off(self) -> None:
        """The client has gone or its time is up: nothing that is still said reaches it."""
        self._cancelled = not self._over or self._cancelled
        self._over = True
        self._wake(self._reader)
        self._wake(self._writer)

    def complete(self, response: bytes | None) -> None:
        """Ends the call with the code that was set, or OK, after a unary response where there is one."""
        if self._over:
            return
        number = OK if self._code is None else number_of(self._code)
        if number == OK and response is not None:
            if not self._trailing and not self._details:
                self._call.reply(response)
                self._over = True
                return
            self._call.send(response)
        self._finish(number, self._details)

    def fail(self, code: grpc.StatusCode, details: str) -> None:
        """Ends the call with an error: the code that the handler has set, if it has, else this one."""
        if self._over:
            return
        number = OK if self._code is None else number_of(self._code)
        try:
            self._finish(number or number_of(code), details)
        except (TypeError, ValueError):
            # Metadata that cannot be sent must not keep the error from being sent.
            self._trailing = ()
            self._finish(number or number_of(code), details)

    def _finish(self, number: int, details: str) -> None:
        self._call.finish(number, details, self._trailing)
        self._over = True
        self._wake(self._reader)
        self._wake(self._writer)

    def has_callbacks(self) -> bool:
        """Whether somebody waits to hear that the call has ended."""
        return self._callbacks is not None

    def take_callbacks(self) -> list[Callable[["Context"], None]]:
        """The callbacks, which are called once."""
        callbacks, self._callbacks = self._callbacks, None
        return callbacks or []

    def _check_not_over(self) -> None:
        if self._aborted is not None:
            raise self._aborted
        if self._over:
            raise UsageError(_FINISHED)

    @staticmethod
    def _wake(waiter: asyncio.Future[None] | None) -> None:
        if waiter is not None and not waiter.done():
            waiter.set_result(None)


class MessageTooLargeError(Exception):
    """A response that the server may not send; the call ends with RESOURCE_EXHAUSTED."""

    def __init__(self, length: int, limit: int) -> None:
        super().__init__(f"SERVER: Sent message larger than max ({length} vs. {limit})")

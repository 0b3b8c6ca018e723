"""A call on its way through the request chain."""

from collections.abc import Callable
from typing import Any

import grpc

from fetch.engine.protocol import StorageEngine

_WAITING = frozenset({"/v3lockpb.Lock/Lock", "/v3electionpb.Election/Campaign"})


class Call(grpc.aio.ServicerContext):  # type: ignore[misc]  # grpcio's class is untyped
    """One gRPC call on its way through the request chain: grpcio's context, with what the interceptors found out.

    `method` is the full method name, `request` the message as raw bytes, empty where it is a stream of them, which
    `request_streaming` tells; `response_streaming` tells whether the answers are one. `authorization` sets
    `tenant` and `administrator`, `classification` sets `kind` and `message` (the request, parsed).
    """

    __slots__ = (
        "administrator",
        "context",
        "kind",
        "message",
        "method",
        "request",
        "request_streaming",
        "response_streaming",
        "tenant",
    )

    def __init__(self, method: str, request: bytes, context: grpc.aio.ServicerContext) -> None:
        self.method = method
        self.request = request
        self.context = context
        self.request_streaming = False
        self.response_streaming = False
        self.tenant: StorageEngine | None = None
        self.administrator = False
        self.kind = ""
        self.message: Any = None

    @property
    def is_open_ended(self) -> bool:
        """Whether it may take any time by its nature: its answers are a stream, or it waits for what others have."""
        return self.response_streaming or self.method in _WAITING

    def take_over(self, call: "Call") -> None:
        """Takes over what is known of another call: for one that stands in for it."""
        self.request_streaming, self.response_streaming = call.request_streaming, call.response_streaming
        self.tenant, self.administrator = call.tenant, call.administrator
        self.kind, self.message = call.kind, call.message

    async def read(self) -> Any:
        """The next message of the client's stream, `grpc.aio.EOF` behind the last."""
        return await self.context.read()

    async def write(self, message: bytes) -> None:
        """Sends a message to the client; returns when there is room for the next."""
        await self.context.write(message)

    async def send_initial_metadata(self, initial_metadata: Any) -> None:
        await self.context.send_initial_metadata(initial_metadata)

    async def abort(self, code: grpc.StatusCode, details: str = "", trailing_metadata: Any = ()) -> None:
        await self.context.abort(code, details, trailing_metadata)

    async def abort_with_status(self, status: grpc.Status) -> None:
        await self.context.abort_with_status(status)

    def set_trailing_metadata(self, trailing_metadata: Any) -> None:
        self.context.set_trailing_metadata(trailing_metadata)

    def invocation_metadata(self) -> Any:
        return self.context.invocation_metadata()

    def set_code(self, code: grpc.StatusCode) -> None:
        self.context.set_code(code)

    def set_details(self, details: str) -> None:
        self.context.set_details(details)

    def set_compression(self, compression: grpc.Compression) -> None:
        self.context.set_compression(compression)

    def disable_next_message_compression(self) -> None:
        self.context.disable_next_message_compression()

    def peer(self) -> str:
        return str(self.context.peer())

    def peer_identities(self) -> Any:
        return self.context.peer_identities()

    def peer_identity_key(self) -> Any:
        return self.context.peer_identity_key()

    def auth_context(self) -> Any:
        return self.context.auth_context()

    def time_remaining(self) -> Any:
        return self.context.time_remaining()

    def trailing_metadata(self) -> Any:
        return self.context.trailing_metadata()

    def code(self) -> Any:
        return self.context.code()

    def details(self) -> Any:
        return self.context.details()

    def add_done_callback(self, callback: Callable[[Any], None]) -> None:
        self.context.add_done_callback(callback)

    def cancelled(self) -> bool:
        return bool(self.context.cancelled())

    def done(self) -> bool:
        return bool(self.context.done())

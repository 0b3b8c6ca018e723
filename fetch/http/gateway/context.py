"""A request over HTTP as the handler of a gRPC method sees it: a `grpc.aio.ServicerContext` in the same process."""

import time
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Any, NoReturn

import grpc

from fetch.http.asgi import Scope, certificates_of
from fetch.http.gateway.metadata import Metadata, Told

_SECURITY = "transport_security_type"
_CERTIFICATE, _CHAIN = "x509_pem_cert", "x509_pem_cert_chain"
_FINISHED = "RPC already finished."

Read = Callable[[], Awaitable[bytes | None]]
Write = Callable[[bytes], Awaitable[None]]


class HttpContext(grpc.aio.ServicerContext):  # type: ignore[misc]  # grpcio's class is untyped
    """One call. `read` and `write` are given its messages as bytes; `finish` is told that it is over."""

    def __init__(self, scope: Scope, told: Told, read: Read, write: Write) -> None:
        self._scope, self._told = scope, told
        self._read, self._write = read, write
        self._code: grpc.StatusCode | None = None
        self._details = ""
        self._trailing: Metadata = ()
        self._is_over = self._is_aborted = self._is_cancelled = False
        self._callbacks: list[Callable[[Any], None]] = []

    # messages

    async def read(self) -> Any:
        """The next message of the client's stream, `grpc.aio.EOF` behind the last."""
        message = await self._read()
        return grpc.aio.EOF if message is None else message

    async def write(self, message: bytes) -> None:
        """Sends a message; returns when there is room for the next.

        :raises UsageError: the call is over
        """
        self._check_not_over()
        await self._write(message)

    # what the call ends with

    async def send_initial_metadata(self, initial_metadata: Any) -> None:
        """Has no place in an answer over HTTP that a client of etcd's would look at."""

    async def abort(self, code: grpc.StatusCode, details: str = "", trailing_metadata: Any = ()) -> NoReturn:
        """Ends the call with an error.

        :raises AbortError: always
        :raises UsageError: the call is over, or the code is OK
        """
        if self._is_aborted:
            raise grpc.aio.UsageError("Abort already called!")
        if not self._is_cancelled:
            self._check_not_over()
        if code is grpc.StatusCode.OK:
            raise grpc.aio.UsageError("abort() called with StatusCode.OK")
        self._code, self._details = code, details or self._details
        self._trailing = tuple(trailing_metadata) or self._trailing
        self._is_aborted = True
        raise grpc.aio.AbortError("Locally aborted.")

    async def abort_with_status(self, status: grpc.Status) -> NoReturn:
        """Ends the call as `abort` does."""
        await self.abort(status.code, status.details, status.trailing_metadata or ())

    def set_trailing_metadata(self, trailing_metadata: Any) -> None:
        """Sets what comes with the status."""
        self._trailing = tuple(trailing_metadata)

    def trailing_metadata(self) -> Metadata:
        """What comes with the status."""
        return self._trailing

    def set_code(self, code: grpc.StatusCode) -> None:
        """Sets the code that the call ends with."""
        self._code = code

    def code(self) -> grpc.StatusCode | None:
        """The code as it was set; None before."""
        return self._code

    def set_details(self, details: str) -> None:
        """Sets the text that the call ends with."""
        self._details = details

    def details(self) -> str:
        """The text as it was set; empty before."""
        return self._details

    def set_compression(self, compression: grpc.Compression) -> None:
        """Changes nothing: answers are not compressed."""

    def disable_next_message_compression(self) -> None:
        """Changes nothing: answers are not compressed."""

    # the client

    def invocation_metadata(self) -> Metadata:
        """What the request's headers say beside the message."""
        return self._told.metadata

    def peer(self) -> str:
        """The client's address, as gRPC writes it."""
        host, port = (self._scope.get("client") or ("", 0))[:2]
        return f"ipv6:%5B{host}%5D:{port}" if ":" in host else f"ipv4:{host}:{port}"

    def auth_context(self) -> Mapping[str, Iterable[bytes]]:
        """How the connection is secured, and the client's certificate."""
        if self._scope.get("scheme") != "https":
            return {_SECURITY: [b"insecure"]}
        certificates = certificates_of(self._scope)
        secured = {_SECURITY: [b"ssl"]}
        if certificates:
            secured[_CERTIFICATE] = [certificates[0].encode()]
        if len(certificates) > 1:
            secured[_CHAIN] = ["".join(certificates).encode()]
        return secured

    def peer_identity_key(self) -> str | None:
        """None: whom the certificate names is for authorization to read from it."""
        return None

    def peer_identities(self) -> Iterable[bytes] | None:
        """None, as there is no property that names the client."""
        return None

    def time_remaining(self) -> float | None:
        """Seconds until the deadline, not below zero; None without one."""
        deadline = self._told.deadline
        return None if deadline is None else max(deadline - time.monotonic(), 0.0)

    # its end

    def add_done_callback(self, callback: Callable[[Any], None]) -> None:
        """Calls back when all has been sent, or the client has gone."""
        self._callbacks.append(callback)

    def cancelled(self) -> bool:
        """Whether the client or the deadline has cut the call off."""
        return self._is_cancelled

    def done(self) -> bool:
        """Whether the call is over."""
        return self._is_over

    def finish(self, *, cancelled: bool = False) -> None:
        """The call is over."""
        if self._is_over:
            return
        self._is_over, self._is_cancelled = True, cancelled
        callbacks, self._callbacks = self._callbacks, []
        for callback in callbacks:
            callback(self)

    def _check_not_over(self) -> None:
        if self._is_over or self._is_aborted:
            raise grpc.aio.UsageError(_FINISHED)

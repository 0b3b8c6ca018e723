"""The extension: HTTP/2 in a thread of its own (`src/`)."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal, Self, final

from fetch_transport._metadata import Metadatum
from fetch_transport._settings import Settings

MESSAGE: Literal[0]
END: Literal[1]
WRITABLE: Literal[2]
CANCELLED: Literal[3]
OVER: Literal[4]

@final
class Call:
    """A call; what is said is sent at the transport's next `flush`."""

    @property
    def id(self) -> int: ...
    @property
    def method(self) -> str: ...
    @property
    def message(self) -> bytes | None:
        """The first message, if it had come when the call began."""
    @property
    def ended(self) -> bool:
        """Whether the client had sent its last message when the call began."""
    @property
    def invocation_metadata(self) -> tuple[Metadatum, ...]: ...
    def peer(self) -> str: ...
    def peer_identity_key(self) -> str | None: ...
    def auth_context(self) -> Mapping[str, list[bytes]]: ...
    def time_remaining(self) -> float | None:
        """Seconds until the deadline, not below zero; None without one."""
    def reply(self, message: bytes) -> None:
        """Sends the only message of the response and the status OK."""
    def send(self, message: bytes) -> bool:
        """Sends one message; False asks to wait for WRITABLE before the next."""
    def send_initial_metadata(self, pairs: Sequence[tuple[str, str | bytes]]) -> None: ...
    def finish(self, code: int, details: str, trailing: Sequence[tuple[str, str | bytes]]) -> None: ...
    def consumed(self, length: int) -> bool:
        """Gives back the room of a message; True where that must be flushed."""
    def tell_when_over(self) -> bool:
        """Asks for OVER when all that was said is sent, or cannot be; False where that is so already."""

@final
class Request:
    """A request of plain HTTP; what is said is sent at the transport's next `flush`."""

    @property
    def id(self) -> int: ...
    @property
    def message(self) -> bytes | None:
        """The first part of the body, if it had come when the request began."""
    @property
    def ended(self) -> bool:
        """Whether the client had sent everything when the request began."""
    def scope(self) -> dict[str, Any]:
        """The scope for an ASGI application."""
    def respond(self, status: int, headers: Sequence[tuple[bytes, bytes]], body: bytes, whole: bool) -> bool:
        """Sends the head of the response with a part of its body; the rest as `send` has it.

        Raises:
            ValueError: a status or a header that HTTP does not have.
        """
    def send(self, body: bytes, whole: bool) -> bool:
        """Sends a part of the body, the last if it makes it whole; False asks to wait for WRITABLE before the next."""
    def abort(self) -> None:
        """Ends a response that is not whole, so that the client notices."""
    def ask(self) -> bool:
        """Has a client that waits for that send its body; True where that must be flushed."""
    def consumed(self, length: int) -> bool:
        """Gives back the room of a part of the body; True where that must be flushed."""

@final
class Credentials:
    """A port's side of TLS."""

    def __new__(
        cls,
        private_key: bytes,
        certificate_chain: bytes,
        client_roots: bytes | None,
        revoked: Mapping[bytes, set[bytes]],
        versions: Sequence[str],
        cipher_suites: Sequence[str],
    ) -> Self: ...
    def replace(self, other: Credentials) -> None:
        """New handshakes are done with what the other has."""

@final
class Transport:
    """The server's thread, which runs from `start` until everything is closed after `drain` or `cancel`."""

    def __new__(cls, settings: Settings) -> Self: ...
    def add_port(self, address: str, credentials: Credentials | None, http_only: bool) -> int: ...
    def start(self, has_application: bool) -> None:
        """Starts the thread; with an application ports are for plain HTTP beside gRPC, too."""
    def fileno(self) -> int:
        """A descriptor that is readable while there is something to take."""
    def take(self) -> tuple[list[Call], list[Request], list[tuple[int, int, bytes | None, bool]], bool]:
        """The next batch: calls and requests begun, (id, kind, message, ended) of others, and whether it is the end.

        Connections take turns in it; the descriptor stays readable while there is more.
        """
    def refusals_fileno(self) -> int:
        """A descriptor that is readable while there are refusals to take."""
    def take_refusals(self) -> tuple[list[tuple[str, str]], int]:
        """Handshakes that have failed: (the client's address, why) of a few, and how many more there were."""
    def flush(self) -> None: ...
    def drain(self) -> None:
        """Takes no more calls; closes each connection after its last."""
    def cancel(self) -> None:
        """Cuts off every call and connection."""

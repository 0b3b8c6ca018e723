"""The channel arguments of grpcio that mean something here."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Self

UNLIMITED = 2**32 - 1
"""Bytes of a message that gRPC's framing cannot exceed; what -1 stands for."""


@dataclass(frozen=True, slots=True)
class Settings:
    """Limits and intervals of a server.

    Attributes:
        max_receive_message_length: bytes of a request (`grpc.max_receive_message_length`, -1: no limit).
        max_send_message_length: bytes of a response (`grpc.max_send_message_length`, -1: no limit).
        max_concurrent_streams: calls at once on a connection (`grpc.max_concurrent_streams`).
        max_bytes_of_a_client: what all connections of whom a certificate names may hold of the server
            (`fetch_transport.max_bytes_of_a_client`), a quarter of it requests; beyond, calls are RESOURCE_EXHAUSTED.
        refusal: the text of that (`fetch_transport.refusal`).
        handshake_timeout_ms: time for the handshakes of TLS and HTTP/2 (`grpc.server_handshake_timeout_ms`).
        http_idle_timeout_ms: time for the head of the next request of HTTP/1.1, from the end of the one before
            (`fetch_transport.http_idle_timeout_ms`).
        max_handshakes: connections within their handshakes, the oldest yields (`fetch_transport.max_handshakes`).
        reuse_port: whether several processes may bind the same port (`grpc.so_reuseport`).
        keepalive_time_ms: silence before a connection is pinged (`grpc.keepalive_time_ms`).
        keepalive_timeout_ms: time for the answer (`grpc.keepalive_timeout_ms`).
        keepalive_permit_without_calls: ping without calls too (`grpc.keepalive_permit_without_calls`).
    """

    max_receive_message_length: int = 4 * 1024 * 1024
    max_send_message_length: int = UNLIMITED
    max_concurrent_streams: int = 10_000
    max_bytes_of_a_client: int = 512 * 1024 * 1024
    refusal: str = "too many requests"
    handshake_timeout_ms: int = 10_000
    http_idle_timeout_ms: int = 60_000
    max_handshakes: int = 1000
    reuse_port: bool = True
    keepalive_time_ms: int | None = 2 * 60 * 60 * 1000
    keepalive_timeout_ms: int = 20_000
    keepalive_permit_without_calls: bool = False

    @classmethod
    def from_options(cls, options: Iterable[tuple[str, Any]]) -> Self:
        """Reads channel arguments as grpcio takes them; those it has for other things are passed over."""
        known: dict[str, Any] = {}
        for name, value in options:
            match name:
                case "grpc.max_receive_message_length" | "grpc.max_send_message_length":
                    known[name.removeprefix("grpc.")] = UNLIMITED if value < 0 else value
                case "grpc.max_concurrent_streams" | "grpc.keepalive_timeout_ms":
                    known[name.removeprefix("grpc.")] = value
                case "grpc.server_handshake_timeout_ms":
                    known["handshake_timeout_ms"] = value
                case (
                    "fetch_transport.max_bytes_of_a_client"
                    | "fetch_transport.refusal"
                    | "fetch_transport.http_idle_timeout_ms"
                    | "fetch_transport.max_handshakes"
                ):
                    known[name.removeprefix("fetch_transport.")] = value
                case "grpc.keepalive_time_ms":
                    # grpcio's INT_MAX stands for never.
                    known["keepalive_time_ms"] = value if value < 2**31 - 1 else None
                case "grpc.keepalive_permit_without_calls":
                    known["keepalive_permit_without_calls"] = bool(value)
                case "grpc.so_reuseport":
                    known["reuse_port"] = bool(value)
        return cls(**known)

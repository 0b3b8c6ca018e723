"""Calls without a server: what interceptors look at, and nothing behind it."""

from collections.abc import Mapping, Sequence
from typing import Any, cast

import grpc

from fetch.chain import Call

Identity = Mapping[str, Sequence[bytes]]
INSECURE: Identity = {"transport_security_type": [b"insecure"]}
"""What both transports say of a client on a listener without TLS."""


class _Context:
    """grpcio's context, as far as these interceptors ask for it."""

    def __init__(self, identity: Identity) -> None:
        self._identity = identity

    def auth_context(self) -> Identity:
        return self._identity

    def peer(self) -> str:
        return "ipv4:127.0.0.1:40000"


def call(method: str = "/etcdserverpb.KV/Range", request: bytes = b"", identity: Identity | None = None) -> Call:
    """A call of a client with this identity, as grpcio tells it."""
    return Call(method, request, cast(grpc.aio.ServicerContext, _Context(INSECURE if identity is None else identity)))


async def answer(passed: Call) -> Any:
    """The end of the chain: answers with the call itself, as it came here."""
    return passed

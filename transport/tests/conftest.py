"""A server of either kind, made by one fixture: what a test asserts holds for grpcio's own server too."""

import dataclasses
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import grpc
import pytest
from certificates import Authority, Identity

import fetch_transport

SERVICE = "test.Service"
BOUND = 90
"""Seconds after which a call has hung."""


@dataclasses.dataclass(frozen=True)
class Kind:
    """A server to test: how one is made, and its credentials."""

    name: str
    server: Callable[..., Any]
    ssl_server_credentials: Callable[..., Any]


NATIVE = Kind("native", fetch_transport.server, fetch_transport.ssl_server_credentials)
GRPCIO = Kind("grpcio", grpc.aio.server, grpc.ssl_server_credentials)


@pytest.fixture(params=[NATIVE, GRPCIO], ids=lambda kind: kind.name)
def kind(request: pytest.FixtureRequest) -> Kind:
    """Both servers, for what they have in common."""
    return request.param


@dataclasses.dataclass
class Running:
    """A server that serves, with a channel to it."""

    server: Any
    port: int
    channel: grpc.aio.Channel


Serve = Callable[..., Awaitable[Running]]


def handlers_of(methods: dict[str, grpc.RpcMethodHandler]) -> tuple[grpc.GenericRpcHandler, ...]:
    """Methods of one service."""
    return (grpc.method_handlers_generic_handler(SERVICE, methods),)


def path(method: str) -> str:
    """A method's path."""
    return f"/{SERVICE}/{method}"


async def _serving(started: list[Running], kind: Kind, methods: dict[str, Any], **arguments: Any) -> Running:
    server = kind.server(**arguments)
    server.add_generic_rpc_handlers(handlers_of(methods))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    running = Running(server, port, grpc.aio.insecure_channel(f"127.0.0.1:{port}"))
    started.append(running)
    return running


@pytest.fixture
async def serve(kind: Kind) -> AsyncIterator[Serve]:
    """Starts servers of both kinds for handlers; they are stopped after the test."""
    started: list[Running] = []

    async def start(methods: dict[str, grpc.RpcMethodHandler], **arguments: Any) -> Running:
        return await _serving(started, kind, methods, **arguments)

    yield start
    for running in started:
        await running.channel.close()
        await running.server.stop(None)


@pytest.fixture
async def serve_native() -> AsyncIterator[Serve]:
    """Starts servers of ours alone, for what grpcio does otherwise or not at all."""
    started: list[Running] = []

    async def start(methods: dict[str, grpc.RpcMethodHandler], **arguments: Any) -> Running:
        return await _serving(started, NATIVE, methods, **arguments)

    yield start
    for running in started:
        await running.channel.close()
        await running.server.stop(None)


@pytest.fixture(scope="session")
def authority() -> Authority:
    """The authority that servers trust."""
    return Authority.named("trusted")


@pytest.fixture(scope="session")
def server_identity(authority: Authority) -> Identity:
    """What servers present."""
    return authority.server()

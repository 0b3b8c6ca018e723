"""Connections are ended from above the transport, those that are meant and no others."""

import asyncio
import contextlib
import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from fetch.tls import connections as module
from fetch.tls.connections import Connections, shut_down

DESCRIPTORS = Path("/proc/self/fd")


@contextlib.contextmanager
def connected(host: str) -> Iterator[tuple[socket.socket, socket.socket]]:
    """Two ends of a connection: the client's, the server's."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.create_server((host, 0), family=family, dualstack_ipv6=host == "::") as listener:
        target = ("127.0.0.1" if host == "::" else host, listener.getsockname()[1])
        with socket.create_connection(target, timeout=10) as client:
            server, _ = listener.accept()
            with server:
                yield client, server


def open_descriptors() -> int:
    return len(list(DESCRIPTORS.iterdir()))


def peer_of(client: socket.socket) -> str:
    host, port, *_ = client.getsockname()
    return f"ipv6:%5B{host}%5D:{port}" if ":" in host else f"ipv4:{host}:{port}"


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "::"])
async def test_the_connection_from_an_address_is_ended(host: str) -> None:
    if host != "127.0.0.1" and not socket.has_dualstack_ipv6():
        pytest.skip("there is no IPv6 here")
    with connected(host) as (client, _):
        await shut_down([peer_of(client)])
        assert client.recv(1) == b""


async def test_other_connections_go_on() -> None:
    with connected("127.0.0.1") as (ended, _), connected("127.0.0.1") as (client, server):
        await shut_down([peer_of(ended)])
        server.send(b"x")
        assert client.recv(1) == b"x"


@pytest.mark.parametrize("peer", ["unix:/socket", "", "ipv4:127.0.0.1:1", "vsock:1:2"])
async def test_an_address_that_nobody_has_ends_nothing(peer: str) -> None:
    with connected("127.0.0.1") as (client, server):
        await shut_down([peer])
        server.send(b"x")
        assert client.recv(1) == b"x"


async def test_no_descriptor_is_left_behind() -> None:
    with connected("127.0.0.1") as (client, _), tempfile.TemporaryFile():
        before = open_descriptors()
        await shut_down([peer_of(client)])
        assert open_descriptors() == before


async def test_looking_gives_way_to_others() -> None:
    turns = 0

    async def count() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    with connected("127.0.0.1") as (client, _), contextlib.ExitStack() as stack:
        for _ in range(600):
            stack.enter_context(socket.socket())
        counting = asyncio.create_task(count())
        await shut_down([peer_of(client)])
        counting.cancel()
    assert turns >= 600 // 256


async def test_what_gathers_while_it_looks_waits_for_the_next_look(monkeypatch: pytest.MonkeyPatch) -> None:
    looks: list[set[str]] = []
    going = asyncio.Event()

    async def look(peers: set[str]) -> int:
        looks.append(peers)
        if len(looks) == 1:
            connections.end_soon("third")
            connections.end_soon("third")
        else:
            going.set()
        return 0

    monkeypatch.setattr(module, "shut_down", look)
    monkeypatch.setattr(module, "_FAREWELL_SECONDS", 0)
    connections = Connections()
    connections.end_soon("first")
    connections.end_soon("second")
    await going.wait()
    assert looks == [{"first", "second"}, {"third"}]

"""What one tenant can do to the daemon over HTTP, and what others notice of it."""

import contextlib
import select
import socket
import ssl
import threading
from collections.abc import Iterator
from urllib.parse import urlsplit

import pytest

from tests.http.web import FetchWeb, Web

MEGABYTE = 1 << 20


@contextlib.contextmanager
def raw(web: Web) -> Iterator[socket.socket]:
    """A connection on which anything may be said."""
    parts = urlsplit(web.url)
    context = ssl.create_default_context(cafile=web.authority)
    context.load_cert_chain(f"{web.certificate}.crt", f"{web.certificate}.key")
    context.set_alpn_protocols(["http/1.1"])
    with (
        socket.create_connection((parts.hostname or "", parts.port or 0), timeout=60) as plain,
        context.wrap_socket(plain, server_hostname=parts.hostname) as connection,
    ):
        yield connection


def resident(web: FetchWeb) -> int:
    """Bytes of memory that the daemon has."""
    with open(f"/proc/{web.server.process.pid}/statm") as file:  # noqa: PTH123
        return int(file.read().split()[1]) * 4096


def test_bodies_that_do_not_end_are_bounded_for_a_tenant(fetch_http: FetchWeb) -> None:
    hostile, other = fetch_http.new_tenant(), fetch_http.new_tenant()
    before = resident(fetch_http)
    refused, connections = 0, []
    with contextlib.ExitStack() as stack:
        for _ in range(40):
            connection = stack.enter_context(raw(hostile))
            connection.sendall(b"POST /v3/kv/put HTTP/1.1\r\nHost: a\r\nContent-Length: 4000000\r\n\r\n")
            with contextlib.suppress(ConnectionError):
                connection.sendall(b" " * 3_900_000)
            connections.append(connection)
        while refused < 20:  # those for whom there was no room, once they hear of it
            readable, _, _ = select.select(connections, [], [], 60)
            assert readable
            for connection in readable:
                connections.remove(connection)
                with contextlib.suppress(ConnectionError):
                    assert b" 429 " in connection.recv(1000)
                refused += 1
        assert resident(fetch_http) - before < 200 * MEGABYTE
        assert other.ask("/v3/kv/range", '{"key":"YQ=="}').status == 200


def test_answers_that_are_not_read_are_not_made(fetch_http: FetchWeb) -> None:
    hostile, other = fetch_http.new_tenant(), fetch_http.new_tenant()
    for number in range(16):
        hostile.post("/v3/kv/put", key=f"YW{number % 10}{'AB'[number // 10]}", value="AAAA" * (MEGABYTE // 4))
    before = resident(fetch_http)
    asked = b'{"key":"AA==","range_end":"AA=="}'
    with contextlib.ExitStack() as stack:
        for _ in range(30):
            connection = stack.enter_context(raw(hostile))
            connection.sendall(
                b"POST /v3/kv/range HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n%s" % (len(asked), asked)
            )
        assert other.ask("/v3/kv/range", '{"key":"YQ=="}').status == 200
        assert resident(fetch_http) - before < 400 * MEGABYTE  # `memory` lets a tenant hold 256


HEAVY = {
    "many elements": b'{"compare":[' + b",".join([b"{}"] * 150_000) + b"]}",
    "many names": b"{" + b",".join(b'"a%d":1' % number for number in range(60_000)) + b"}",
}


@pytest.mark.parametrize("name", HEAVY)
def test_others_are_served_while_and_after_heavy_json_is_read(fetch_http: FetchWeb, name: str) -> None:
    hostile, other = fetch_http.new_tenant(), fetch_http.new_tenant()
    busy = [threading.Thread(target=hostile.ask, args=("/v3/kv/txn", HEAVY[name])) for _ in range(3)]
    for thread in busy:
        thread.start()
    assert other.ask("/v3/kv/range", '{"key":"YQ=="}').status == 200
    for thread in busy:
        thread.join()
    assert other.ask("/v3/kv/range", '{"key":"YQ=="}').status == 200

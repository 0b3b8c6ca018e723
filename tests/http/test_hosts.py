"""Requests without TLS are answered for the hosts of --host-whitelist, as etcd's are."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from fetch.http.hosts import guarded, host_of
from tests.endpoints.fetch import Fetch
from tests.endpoints.process import free_port
from tests.http.serving import converse, heads, statuses


async def status(hosts: tuple[str, ...], host: str, scheme: str = "http") -> int:
    """What a request that names this host is answered."""
    sent: list[dict[str, Any]] = []

    async def send(message: Any) -> None:
        sent.append(message)

    async def receive() -> Any:
        raise AssertionError("nothing of the request is asked for")

    async def application(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})

    scope = {"type": "http", "method": "GET", "scheme": scheme, "headers": [(b"host", host.encode())]}
    await guarded(application, hosts)(scope, receive, send)
    return int(sent[0]["status"])


@pytest.mark.parametrize(
    ("hosts", "host", "expected"),
    [
        (("*",), "anything", 200),
        ((), "anything", 200),
        (("a", "*"), "anything", 200),
        (("localhost",), "localhost:2379", 200),
        (("localhost",), "localhost", 200),
        (("::1",), "[::1]:2379", 200),
        (("localhost",), "rebound.example:2379", 421),
        (("localhost",), "", 421),
        (("localhost",), "localhost.example", 421),
    ],
)
async def test_the_host_is_one_of_those_listed(hosts: tuple[str, ...], host: str, expected: int) -> None:
    assert await status(hosts, host) == expected


async def test_what_comes_by_tls_is_answered_whatever_it_names() -> None:
    assert await status(("localhost",), "rebound.example", "https") == 200


@pytest.mark.parametrize(
    ("named", "host"), [("a:1", "a"), ("a", "a"), ("[::1]:1", "::1"), ("::1", "::1"), ("a:b", "a:b"), ("a:", "a")]
)
def test_a_host_has_no_port(named: str, host: str) -> None:
    assert host_of({"headers": [(b"host", named.encode())]}) == host


async def test_a_daemon_answers_for_those_hosts_alone(tmp_path: Path) -> None:
    port = free_port()
    flags = [f"--listen-client-http-urls=http://127.0.0.1:{port}", "--anonymous-tenant=guest", "--host-whitelist=good"]
    with Fetch("embedded").start(tmp_path, flags):
        for host, expected in (("good:1", 200), ("bad", 421)):
            asked = heads("GET /version HTTP/1.1", f"Host: {host}", "Connection: close")
            assert statuses(await asyncio.wait_for(converse(port, asked), 60)) == [expected]

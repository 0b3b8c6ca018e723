"""Refusals are seen: each reason has a line and is counted, and nobody writes the log full."""

import json
import logging
import socket
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest

from fetch.observation import refusals as module
from fetch.observation.instruments import Instruments
from fetch.observation.refusals import EACH_SECONDS, LONGEST, Refusals
from fetch.tls import certificates
from tests.endpoints.client import Client
from tests.endpoints.fetch import Fetch, FetchServer
from tests.endpoints.process import free_port
from tests.refused.test_identity import CHOSEN, NATIVE

SECONDS = 60


class Clock:
    """Stands until it is set."""

    def __init__(self) -> None:
        self.time = 1000.0

    def __call__(self) -> float:
        return self.time


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def instruments() -> Instruments:
    return Instruments()


@pytest.fixture
def refusals(instruments: Instruments, clock: Clock) -> Refusals:
    return Refusals(instruments, clock)


@pytest.fixture
def told(caplog: pytest.LogCaptureFixture) -> Iterator[list[dict[str, str]]]:
    """The fields of the lines, as they come."""
    lines: list[dict[str, str]] = []
    handler = logging.Handler()
    handler.emit = lambda record: lines.append(record.fields)  # type: ignore[method-assign, attr-defined]
    module.logger.addHandler(handler)
    yield lines
    module.logger.removeHandler(handler)


def test_the_first_of_its_kind_is_told(refusals: Refusals, told: list[dict[str, str]]) -> None:
    refusals.report("quota", tenant="alpha", peer="ipv4:127.0.0.1:1", why="full")
    assert told == [{"reason": "quota", "tenant": "alpha", "peer": "ipv4:127.0.0.1:1", "why": "full"}]


def test_what_comes_again_is_counted_and_told_by_number(
    refusals: Refusals, told: list[dict[str, str]], clock: Clock, instruments: Instruments
) -> None:
    for _ in range(10_000):
        refusals.report("quota", tenant="alpha", why="full")
    assert len(told) == 1
    clock.time += EACH_SECONDS
    refusals.report("quota", tenant="alpha", why="full")
    assert told[1:] == [{"reason": "quota", "tenant": "alpha", "why": "full", "left_out": "9999"}]
    assert instruments.counter("fetch.refusals", "", ("reason", "tenant")).cells == {("quota", "alpha"): 10_001}


def test_what_was_left_out_is_told_though_nothing_comes_any_more(
    refusals: Refusals, told: list[dict[str, str]], clock: Clock
) -> None:
    for _ in range(3):
        refusals.report("quota", tenant="alpha", why="full")
    clock.time += EACH_SECONDS
    refusals.look()
    refusals.look()
    assert told[1:] == [{"reason": "quota", "tenant": "alpha", "left_out": "2"}]


def test_one_tenants_refusals_hide_no_others(refusals: Refusals, told: list[dict[str, str]]) -> None:
    for tenant in ("alpha", "alpha", "beta"):
        refusals.report("quota", tenant=tenant)
    refusals.report("memory", tenant="alpha")
    assert [(line["reason"], line["tenant"]) for line in told] == [
        ("quota", "alpha"),
        ("quota", "beta"),
        ("memory", "alpha"),
    ]


def test_lines_of_many_addresses_are_bounded_and_the_rest_is_a_number(
    refusals: Refusals, told: list[dict[str, str]], clock: Clock
) -> None:
    for number in range(50_000):
        refusals.report("handshake", who=f"ipv4:{number}", why="no certificate")
    assert len(told) == module.BURST
    clock.time += EACH_SECONDS
    refusals.look()
    assert told[-1] == {"reason": "handshake", "left_out": 50_000 - module.BURST}
    assert len(told) == module.BURST + 1


def test_what_is_remembered_is_bounded(refusals: Refusals, clock: Clock) -> None:
    for number in range(3 * module.KNOWN):
        clock.time += 1  # so that there is a line for each
        refusals.report("handshake", who=str(number), why="no certificate")
    assert len(refusals._told) <= module.KNOWN


def test_every_refusal_is_in_a_line_or_in_a_number(
    refusals: Refusals, told: list[dict[str, str]], clock: Clock
) -> None:
    for number in range(5000):
        clock.time += 0.01
        refusals.report("memory", tenant=f"tenant-{number % 97}", why="too much")
        if number % 1000 == 0:
            refusals.look()
    for _ in range(100):
        clock.time += EACH_SECONDS
        refusals.look()
    assert sum("why" in line for line in told) + sum(int(line.get("left_out", 0)) for line in told) == 5000


def test_what_clients_sent_is_cut_off(refusals: Refusals, told: list[dict[str, str]]) -> None:
    refusals.report("principal", who="x", why="y" * 10_000)
    assert len(told[0]["why"]) == LONGEST + 1


# a daemon


def is_refused(client: Client, key: bytes, value: bytes) -> bool:
    try:
        client.put(key, value)
    except grpc.RpcError:
        return True
    return False


@pytest.fixture(scope="module", params=[CHOSEN] if CHOSEN else ["grpcio", NATIVE])
def transport(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


class Daemon:
    """A daemon that has little room, and what it says."""

    def __init__(self, server: FetchServer, metrics: str) -> None:
        self.server, self._metrics = server, metrics

    def counted(self, reason: str, tenant: str) -> float:
        with urllib.request.urlopen(f"{self._metrics}/metrics", timeout=SECONDS) as answer:
            lines = answer.read().decode().splitlines()
        name = f'fetch_refusals_total{{reason="{reason}",tenant="{tenant}"}} '
        return sum(float(line.removeprefix(name)) for line in lines if line.startswith(name))

    def told(self, reason: str, **expected: str) -> dict[str, Any]:
        """The first line of this reason with these fields, which is waited for."""
        while True:
            for line in self.server.process.log().splitlines():
                if line.startswith("{"):
                    fields = json.loads(line)
                    known = {name: fields.get(name) for name in expected}
                    if (fields["msg"], fields.get("reason"), known) == ("refused", reason, expected):
                        return dict(fields)
            self.counted(reason, "")  # takes as long as the daemon needs to come to it


@pytest.fixture(scope="module")
def daemon(transport: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    metrics = f"http://127.0.0.1:{free_port()}"
    flags = [
        f"--transport={transport}",
        "--workers=1",
        "--log-format=json",
        f"--listen-metrics-urls={metrics}",
        "--quota-backend-bytes=20000",
        "--max-txn-ops=2",
        "--max-request-bytes=50000",
        "--interceptors=+rate_limit",
        f"--config={tmp_path_factory.mktemp('settings')}/fetch.toml",
    ]
    Path(flags[-1].partition("=")[2]).write_text("[interceptor.rate_limit]\ntenants = {limited = 1}\n")
    with Fetch("embedded").start(tmp_path_factory.mktemp(transport), flags) as server:
        yield Daemon(server, metrics)


def test_a_principal_that_is_refused_is_told_with_its_name_and_address(daemon: Daemon) -> None:
    with daemon.server.connect_as("not a tenant") as client, pytest.raises(grpc.RpcError):
        client.range(b"key")
    line = daemon.told("principal")
    assert "'not a tenant'" in line["why"]
    assert line["peer"].startswith("ipv4:127.0.0.1:")
    assert daemon.counted("principal", "") >= 1


def test_a_quota_that_is_reached_and_its_alarm_are_told(daemon: Daemon) -> None:
    with daemon.server.connect_as("full") as client:
        assert any(is_refused(client, b"%d" % number, b"x" * 1000) for number in range(100))
    assert daemon.told("quota")["tenant"] == "full"
    assert daemon.told("alarm")["alarm"] == "NOSPACE"
    assert daemon.counted("alarm", "full") == 1


def test_limits_that_are_met_are_told_by_their_names(daemon: Daemon) -> None:
    with daemon.server.connect_as("limited") as client:
        assert is_refused(client, b"key", b"x" * 60_000)
        assert any(is_refused(client, b"key", b"") for _ in range(100))
    for reason in ("max_request_bytes", "rate_limit"):
        line = daemon.told(reason, tenant="limited")
        assert line["method"].startswith("/etcdserverpb.KV/")
        assert daemon.counted(reason, "limited") >= 1


def test_a_handshake_that_fails_is_told_where_the_transport_tells(daemon: Daemon, transport: str) -> None:
    if transport == "grpcio":
        pytest.skip("grpcio tells nobody but its own log, and not whose it was")
    stranger = certificates.issue(certificates.authority("stranger"), "alpha")
    with daemon.server.connect_with(stranger) as client, pytest.raises(grpc.RpcError):
        client.range(b"key")
    line = daemon.told("handshake")
    assert line["peer"].startswith("ipv4:127.0.0.1:")
    assert "invalid peer certificate" in line["why"]
    assert daemon.counted("handshake", "") >= 1


def test_what_is_no_tls_is_told_and_does_not_fill_the_log(daemon: Daemon, transport: str) -> None:
    if transport == "grpcio":
        pytest.skip("grpcio tells nobody but its own log, and not whose it was")
    host, _, port = daemon.server.address.partition(":")
    before = daemon.counted("handshake", "")
    for _ in range(300):
        with socket.create_connection((host, int(port)), timeout=SECONDS) as connection:
            connection.sendall(b"GET / HTTP/1.1\r\n\r\n")
            connection.recv(100)
    while daemon.counted("handshake", "") < before + 300:
        pass
    lines = [line for line in daemon.server.process.log().splitlines() if '"reason": "handshake"' in line]
    assert 1 <= len(lines) < 100

"""What one tenant may make the daemon hold and do, and that others go on meanwhile."""

import contextlib
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import grpc
import pytest

from fetch.api import rpc_pb2
from tests.endpoints.client import Client
from tests.endpoints.fetch import Fetch, FetchServer
from tests.memory.frames import connected

MIB = 1 << 20
KV = "/etcdserverpb.KV/"
WATCH = "/etcdserverpb.Watch/Watch"
ALL = rpc_pb2.RangeRequest(key=b"\0", range_end=b"\0").SerializeToString()
BOUND = "[interceptor.memory]\nbytes = 33554432\n"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FetchServer]:
    """A tenant may hold 32 MiB."""
    directory = tmp_path_factory.mktemp("bounded")
    (directory / "fetch.toml").write_text(BOUND)
    with Fetch("embedded").start(directory / "fetch", [f"--config={directory / 'fetch.toml'}"]) as running:
        yield running


@pytest.fixture
def other(server: FetchServer) -> Iterator[Client]:
    """Another tenant, which is not to notice anything."""
    with server.connect_as("other") as client:
        yield client


def anonymous_mib(server: FetchServer) -> float:
    """What the daemon's memory holds that is no file's."""
    for line in Path(f"/proc/{server.process.pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Anonymous:"):
            return int(line.split()[1]) / 1024
    raise AssertionError


def goes_on(client: Client) -> None:
    for number in range(50):
        client.put(b"key", b"%d" % number)
        assert client.get(b"key").value == b"%d" % number


def test_answers_that_nobody_reads_are_bounded(server: FetchServer, other: Client, tmp_path: Path) -> None:
    with server.connect_as("hoarder") as client:
        for number in range(10):
            client.put(b"large-%d" % number, b"x" * MIB)
    before = anonymous_mib(server)
    with ExitStack() as stack:
        for _ in range(4):
            frames = stack.enter_context(connected(server, "hoarder", tmp_path))
            for _ in range(10):
                frames.send([frames.call(KV + "Range", ALL)])
        goes_on(other)
        # 40 answers of 10 MiB, of which eight were being made when the bound was reached; grpcio has each twice
        assert anonymous_mib(server) - before < 300
    goes_on(other)
    with server.connect_as("hoarder") as client:
        assert client.range(b"\0", b"\0").count == 10


def test_messages_of_watches_that_are_refused_are_let_go_of(server: FetchServer, other: Client, tmp_path: Path) -> None:
    create = rpc_pb2.WatchRequest(create_request=rpc_pb2.WatchCreateRequest(key=b"watched"))
    watch = create.SerializeToString()
    with ExitStack() as stack:
        streams = stack.enter_context(connected(server, "deaf", tmp_path))
        writer = stack.enter_context(server.connect_as("deaf"))
        streams.send([streams.call(WATCH, watch) for _ in range(200)])
        goes_on(other)
        before = anonymous_mib(server)
        writer.put(b"watched", b"x" * MIB)
        goes_on(other)
        # 32 messages of 1 MiB may wait; the others are refused as they are made, one after the other
        assert anonymous_mib(server) - before < 100
    goes_on(other)


def test_thousands_of_writes_in_flight_cancel_nobody_elses_calls(
    server: FetchServer, other: Client, tmp_path: Path
) -> None:
    put = rpc_pb2.PutRequest(key=b"busy", value=b"x").SerializeToString()
    with ExitStack() as stack:
        busy = [stack.enter_context(connected(server, "busy", tmp_path)) for _ in range(8)]
        for frames in busy:
            frames.send([frames.call(KV + "Put", put) for _ in range(900)])
        goes_on(other)


def test_rapid_resets_cancel_nobody_elses_calls(server: FetchServer, other: Client, tmp_path: Path) -> None:
    put = rpc_pb2.PutRequest(key=b"reset", value=b"x").SerializeToString()
    with ExitStack() as stack:
        resetting = [stack.enter_context(connected(server, "resetting", tmp_path)) for _ in range(8)]
        for frames in resetting:
            # the server may hang up on it
            with contextlib.suppress(OSError):
                frames.send([frames.call(KV + "Put", put, reset=True) for _ in range(900)])
        goes_on(other)


def test_a_call_at_a_time_is_served_however_small_the_bound(server: FetchServer) -> None:
    with server.connect_as("alone") as client:
        for number in range(40):
            client.put(b"large-%d" % number, b"x" * MIB)
        for _ in range(3):
            assert client.range(b"\0", b"\0").count == 40
        with pytest.raises(grpc.RpcError, match="request is too large"):
            client.put(b"large", b"x" * (2 * MIB - 1000))

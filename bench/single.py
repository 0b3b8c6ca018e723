"""Single measurements: starting on what is stored, and writing while somebody watches without reading."""

import queue
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import grpc

from bench.contenders import Certificates, Contender, Server
from bench.generator import Figures, Generator
from fetch.api import rpc_pb2

_SLOW_WATCHERS = 20
_WRITES = 3_000
_FILLING = 6_000
"""Writes after which nothing more fits between the server and those who do not read."""
_PREFIX = "slow"


def start(contender: Contender, directory: Path, issued: Certificates, stored: int) -> dict[str, Any]:
    """Seconds from the start of the process to its first answer, on a directory in which `stored` objects lie."""
    began = time.monotonic()
    with contender.start(directory, issued) as server:
        seconds = time.monotonic() - began
        return {"server": contender.name, "stored": stored, "seconds": seconds, **server.memory()}


def slow_watchers(generator: Generator, server: Server) -> Iterator[dict[str, Any]]:
    """One client's writes, first with nobody watching, then with watchers that never read; in milliseconds."""
    for watchers in (0, _SLOW_WATCHERS, 0, _SLOW_WATCHERS):
        with ExitStack() as stack:
            for _ in range(watchers):
                stack.enter_context(_unread_watch(server))
            if watchers:
                _write(generator, server, _FILLING)
            figures = _write(generator, server, _WRITES)
        yield {"server": server.contender.name, "not_reading": watchers, **figures.record(), **server.memory()}


def _write(generator: Generator, server: Server, writes: int) -> Figures:
    return generator.run(server, "put", _PREFIX, total=writes, clients=8, conns=1)


@contextmanager
def _unread_watch(server: Server) -> Iterator[None]:
    """A watch of what is written, of which only the notice that it exists is taken."""
    key = f"/registry/{_PREFIX}/".encode()
    create = rpc_pb2.WatchCreateRequest(key=key, range_end=key[:-1] + b"0", prev_kv=True)
    requests: queue.SimpleQueue[rpc_pb2.WatchRequest | None] = queue.SimpleQueue()
    requests.put(rpc_pb2.WatchRequest(create_request=create))
    options = (("grpc.use_local_subchannel_pool", 1),)
    with grpc.secure_channel(server.address, server.issued.credentials(), options) as channel:
        watch = channel.stream_stream(
            "/etcdserverpb.Watch/Watch", rpc_pb2.WatchRequest.SerializeToString, rpc_pb2.WatchResponse.FromString
        )
        responses = watch(iter(requests.get, None))
        next(responses)
        yield
        requests.put(None)
        responses.cancel()

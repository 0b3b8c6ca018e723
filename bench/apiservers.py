"""Idle kube-apiservers: what their connections and watches cost, of imitated ones and of real ones."""

import contextlib
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from bench.contenders import Server
from bench.generator import Generator
from fetch.tls.certificates import Certificate
from tests.endpoints.process import StartError
from tests.kube.apiserver import start_apiserver_on
from tests.kube.programs import find_programs

COUNTS = (0, 1, 4, 16)
REAL = 2
CONNECTIONS, WATCHES = 69, 62
"""Of a kube-apiserver 1.37 that has nothing to do: one for each kind of resource."""

_SETTLE_SECONDS = 5.0
_REAL_SETTLE_SECONDS = 60.0
_CPU_SECONDS = 10.0


def imitated(generator: Generator, server: Server) -> Iterator[dict[str, Any]]:
    """The server's memory, and its CPU by second, with ever more of them; each has a tenant of its own."""
    with contextlib.ExitStack() as stack:
        held = 0
        for count in COUNTS:
            if count > held:
                issued = [server.issued.another(f"apiserver-{number}") for number in range(held, count)]
                options = {"conns": CONNECTIONS, "watches": WATCHES}
                idle = stack.enter_context(generator.running("idle", server, issued, "idle", **options))
                idle.read()
                held = count
            yield {"kind_of": "imitated", "apiservers": count, **_at_rest(server, _SETTLE_SECONDS)}


def real(server: Server, directory: Path) -> Iterator[dict[str, Any]]:
    """The same with real ones, of which each has what it does after its start behind it.

    :raises RuntimeError: one does not start
    """
    programs = find_programs()
    if isinstance(programs, str):
        yield {"server": server.contender.name, "kind_of": "real", "missing": programs}
        return
    yield {"kind_of": "real", "apiservers": 0, **_at_rest(server, _SETTLE_SECONDS)}
    signer = Certificate.read(server.issued.directory, "ca")
    with contextlib.ExitStack() as stack:
        for count in range(1, REAL + 1):
            own = directory / str(count)
            starting = start_apiserver_on(server.address, signer, f"{server.issued.tenant}-real-{count}", programs, own)
            apiserver = stack.enter_context(starting)
            try:
                apiserver.wait_until_ready()
            except StartError as error:
                raise RuntimeError(str(error)) from error
            yield {"kind_of": "real", "apiservers": count, **_at_rest(server, _REAL_SETTLE_SECONDS)}


def _at_rest(server: Server, seconds: float) -> dict[str, Any]:
    time.sleep(seconds)
    before = server.cpu()
    time.sleep(_CPU_SECONDS)
    cpu = (server.cpu() - before) / _CPU_SECONDS
    return {"server": server.contender.name, "cpu": cpu, **server.memory()}

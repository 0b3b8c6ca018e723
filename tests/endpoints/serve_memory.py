"""`python -m tests.endpoints.serve_memory serve …`: fetch's services and interceptors over the storage engine in memory.

Takes the settings of `fetch serve`; those of the store and of what is observed mean nothing.
"""

import asyncio
import contextlib
import sys
from collections.abc import AsyncIterator

from fetch import chain, server
from fetch.cli import main
from fetch.config import Settings
from fetch.engine.memory.engine import MemoryTenants
from fetch.http.application import Application
from fetch.http.gateway.gateway import Gateway
from fetch.observation.instruments import Instruments
from fetch.services.health import Health
from fetch.services.streams import Streams
from fetch.tls.material import files_of
from fetch.transport import methods_of, server_of

_DEEPEST = 100_000
"""The engine walks transactions by recursion, which may be nested 10,000 deep."""


class _NeverLost:
    """Stands for the store, of which the daemon asks whether it has to end."""

    async def lost(self) -> None:
        await asyncio.Event().wait()


@contextlib.asynccontextmanager
async def running(settings: Settings, worker: int = 0) -> AsyncIterator[_NeverLost]:
    tenants = MemoryTenants(server._quota(settings), server._allowed(settings))
    instruments = Instruments(settings.metrics_tenants)
    links = chain.load(chain.REQUEST_GROUP, settings.interceptors, settings, tenants, instruments)
    health, streams = Health(), Streams()
    methods = methods_of(server._services(settings, health, streams, tenants), links)
    application = Application({}, cross_origin=True, gateway=Gateway(methods, settings))
    rotation = server.rotation_of(files_of(settings), instruments)
    serving = server_of(methods, settings, application, rotation)
    await serving.start()
    try:
        yield _NeverLost()
    finally:
        streams.stop()
        await serving.stop(1)


if __name__ == "__main__":
    server.running = running  # type: ignore[assignment]
    sys.setrecursionlimit(_DEEPEST)
    sys.argv[0] = "fetch"
    main()

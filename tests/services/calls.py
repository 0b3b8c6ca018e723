"""Calls of services without a server, over the storage engine in memory."""

from typing import Any

from fetch.chain import Call
from fetch.config import Settings
from fetch.engine.protocol import StorageEngine
from tests.interceptors import calls

SETTINGS = Settings(listen_client_urls=("http://127.0.0.1:2379",), anonymous_tenant="alpha")


async def unary(service: Any, method: str, request: bytes, engine: StorageEngine) -> bytes:
    """The answer of a service's method, as bytes."""
    answer: bytes = await service.handlers()[method].unary_unary(request, _call(engine, request))
    return answer


async def streamed(service: Any, method: str, request: bytes, engine: StorageEngine) -> None:
    """Calls a method that answers with a stream."""
    await service.handlers()[method].unary_stream(request, _call(engine, request))


def _call(engine: StorageEngine, request: bytes) -> Call:
    made = calls.call(request=request)
    made.tenant = engine
    return made

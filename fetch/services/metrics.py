"""What is measured, as far as the caller may know it: an administrator everything, a tenant what is its own."""

from collections.abc import Awaitable, Callable, Sequence

import grpc

from fetch import chain
from fetch.observation.engines import Observation
from fetch.services.wire import tenant_of

_METHOD = "/fetch.http.Pages/Metrics"
"""What the request chain knows it by. It is no method of gRPC: it is asked over HTTP."""


def metrics_of_caller(
    everything: Callable[[], Awaitable[bytes]], observation: Observation, links: Sequence[chain.Link]
) -> grpc.RpcMethodHandler:
    """Answers with text for Prometheus, behind the request chain. `everything` makes that of all tenants."""

    async def answer(_: bytes, call: chain.Call) -> bytes:
        if call.administrator:
            return await everything()
        engine = tenant_of(call)
        await observation.sample_of(engine)
        return observation.text_of(engine.tenant)

    return chain.wrap(_METHOD, grpc.unary_unary_rpc_method_handler(answer), links)

"""grpc.health: whether the daemon serves. Needs no tenant."""

import asyncio
from collections.abc import Mapping

import grpc
from grpc_health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse

from fetch.chain import Call
from fetch.errors import Refused

_SERVICES = ("", "etcdserverpb.KV", "etcdserverpb.Watch", "etcdserverpb.Lease", "etcdserverpb.Maintenance")


class Health:
    """The handlers of `grpc.health.v1.Health`, on raw bytes. `set_serving` changes what they answer."""

    name = "grpc.health.v1.Health"

    def __init__(self) -> None:
        self._serving = True
        self._changed = asyncio.Event()

    def handlers(self) -> Mapping[str, grpc.RpcMethodHandler]:
        """The service's methods."""
        return {
            "Check": grpc.unary_unary_rpc_method_handler(self.check),
            "Watch": grpc.unary_stream_rpc_method_handler(self.watch),
        }

    def set_serving(self, *, serving: bool) -> None:
        """Answers SERVING or NOT_SERVING from now on, and tells those who watch."""
        self._serving = serving
        self._changed.set()
        self._changed = asyncio.Event()

    async def check(self, request: bytes, _: Call) -> bytes:
        """Check.

        :raises Refused: NOT_FOUND for a service that is not served
        """
        if HealthCheckRequest.FromString(request).service not in _SERVICES:
            raise Refused(grpc.StatusCode.NOT_FOUND, "unknown service")
        return self._status(known=True)

    async def watch(self, request: bytes, call: Call) -> None:
        """Watch: the status now and whenever it changes."""
        known = HealthCheckRequest.FromString(request).service in _SERVICES
        while True:
            changed = self._changed
            await call.write(self._status(known=known))
            await changed.wait()

    def _status(self, *, known: bool) -> bytes:
        status = HealthCheckResponse.SERVING if self._serving else HealthCheckResponse.NOT_SERVING
        response = HealthCheckResponse(status=status if known else HealthCheckResponse.SERVICE_UNKNOWN)
        return bytes(response.SerializeToString())

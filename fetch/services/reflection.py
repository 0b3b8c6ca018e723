"""grpc.reflection: which services there are and what their messages look like. Needs no tenant."""

from collections.abc import AsyncIterator, Mapping, Sequence

import grpc
from grpc_reflection.v1alpha import reflection
from grpc_reflection.v1alpha.reflection_pb2 import ServerReflectionRequest

from fetch.chain import Call


class Reflection:
    """The handler of one version's `ServerReflection`, on raw bytes; v1 and v1alpha have the same messages."""

    def __init__(self, version: str, services: Sequence[str]) -> None:
        """`version` is `v1` or `v1alpha`, `services` are the full names of those that are served."""
        self.name = f"grpc.reflection.{version}.ServerReflection"
        self._servicer = reflection.aio.ReflectionServicer([*services, self.name])

    def handlers(self) -> Mapping[str, grpc.RpcMethodHandler]:
        """The service's methods."""
        return {"ServerReflectionInfo": grpc.stream_stream_rpc_method_handler(self.info)}

    async def info(self, _: AsyncIterator[bytes], call: Call) -> None:
        """ServerReflectionInfo."""
        async for response in self._servicer.ServerReflectionInfo(_requests(call), call):
            await call.write(response.SerializeToString())


async def _requests(call: Call) -> AsyncIterator[ServerReflectionRequest]:
    while (message := await call.read()) is not grpc.aio.EOF:
        yield ServerReflectionRequest.FromString(message)

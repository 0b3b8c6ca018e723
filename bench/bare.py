"""`python -m bench.bare PORT`: grpcio's server with next to nothing behind it, which shows what the server alone costs.

Raw-bytes handlers over a dictionary: get, and kube-apiserver's create, update and delete. No interceptors, no TLS,
nothing stored, no old revisions.
"""

import asyncio
import sys

import grpc

from fetch.api.kv_pb2 import KeyValue
from fetch.api.rpc_pb2 import (
    DeleteRangeResponse,
    PutResponse,
    RangeRequest,
    RangeResponse,
    ResponseHeader,
    ResponseOp,
    TxnRequest,
    TxnResponse,
)


class Bare:
    """The keys and the revision."""

    def __init__(self) -> None:
        self._keys: dict[bytes, KeyValue] = {}
        self._revision = 1

    def _range(self, request: RangeRequest) -> RangeResponse:
        if request.range_end:
            found = [kv for key, kv in sorted(self._keys.items()) if request.key <= key < request.range_end]
        else:
            kv = self._keys.get(request.key)
            found = [] if kv is None else [kv]
        return RangeResponse(header=ResponseHeader(revision=self._revision), kvs=found, count=len(found))

    async def range(self, request: bytes, _: grpc.aio.ServicerContext) -> bytes:
        """Range, without limits."""
        return self._range(RangeRequest.FromString(request)).SerializeToString()

    async def txn(self, request: bytes, _: grpc.aio.ServicerContext) -> bytes:
        """Txn, of one compare by mod_revision and one operation."""
        message = TxnRequest.FromString(request)
        compare, operation = message.compare[0], message.success[0]
        current = self._keys.get(compare.key)
        response = TxnResponse(succeeded=(current.mod_revision if current else 0) == compare.mod_revision)
        if not response.succeeded:
            response.responses.append(ResponseOp(response_range=self._range(message.failure[0].request_range)))
        else:
            self._revision += 1
            if operation.HasField("request_put"):
                self._keys[compare.key] = KeyValue(
                    key=compare.key,
                    value=operation.request_put.value,
                    mod_revision=self._revision,
                    create_revision=current.create_revision if current else self._revision,
                    version=current.version + 1 if current else 1,
                )
                response.responses.append(ResponseOp(response_put=PutResponse()))
            else:
                del self._keys[compare.key]
                response.responses.append(ResponseOp(response_delete_range=DeleteRangeResponse(deleted=1)))
        response.header.revision = self._revision
        return response.SerializeToString()


async def _serve(port: str) -> None:
    bare = Bare()
    server = grpc.aio.server()
    handlers = {
        "Range": grpc.unary_unary_rpc_method_handler(bare.range),
        "Txn": grpc.unary_unary_rpc_method_handler(bare.txn),
    }
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("etcdserverpb.KV", handlers),))
    server.add_insecure_port(f"127.0.0.1:{port}")
    await server.start()
    await server.wait_for_termination()


if __name__ == "__main__":
    asyncio.run(_serve(sys.argv[1]))

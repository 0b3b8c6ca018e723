"""What etcd serves and fetch does not: UNIMPLEMENTED, with a sentence that says why."""

from typing import NoReturn

import grpc

from fetch.chain import Call
from fetch.errors import Refused


def refuse(reason: str, *, streams: bool = False) -> grpc.RpcMethodHandler:
    """A handler that refuses every call for this reason."""

    async def refused(_request: bytes, _call: Call) -> NoReturn:
        raise Refused(grpc.StatusCode.UNIMPLEMENTED, f"etcdserver: not served: {reason}")

    if streams:
        return grpc.unary_stream_rpc_method_handler(refused)
    return grpc.unary_unary_rpc_method_handler(refused)

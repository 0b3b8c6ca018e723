"""What etcd serves and fetch does not: UNIMPLEMENTED, with a sentence that says why."""

from collections.abc import Mapping
from typing import NoReturn

import grpc

from fetch.chain import Call
from fetch.errors import Refused

_AUTH_METHODS = (
    "AuthEnable",
    "AuthDisable",
    "AuthStatus",
    "Authenticate",
    "UserAdd",
    "UserGet",
    "UserList",
    "UserDelete",
    "UserChangePassword",
    "UserGrantRole",
    "UserRevokeRole",
    "RoleAdd",
    "RoleGet",
    "RoleList",
    "RoleDelete",
    "RoleGrantPermission",
    "RoleRevokePermission",
)


def refuse(reason: str, *, streams: bool = False) -> grpc.RpcMethodHandler:
    """A handler that refuses every call for this reason."""

    async def refused(_request: bytes, _call: Call) -> NoReturn:
        raise Refused(grpc.StatusCode.UNIMPLEMENTED, f"etcdserver: not served: {reason}")

    if streams:
        return grpc.unary_stream_rpc_method_handler(refused)
    return grpc.unary_unary_rpc_method_handler(refused)


class Auth:
    """`etcdserverpb.Auth`, refused: who may do what is settled by the client's certificate."""

    name = "etcdserverpb.Auth"

    def handlers(self) -> Mapping[str, grpc.RpcMethodHandler]:
        """The service's methods."""
        refusal = refuse("the client's certificate chooses a tenant and may do everything in it; there are no users")
        return dict.fromkeys(_AUTH_METHODS, refusal)

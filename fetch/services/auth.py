"""The Auth service for a tenant: that of an etcd whose authentication is off, without users and without roles.

For an administrator it is the register of tenants: see `users`.

Who somebody is, and may do, is settled by the certificate, so there is nothing to turn on. Clients that ask whether
they have to authenticate are told that they do not, and who asks of a user or a role is told that there is none. What
would make one is refused. Follows `server/etcdserver/api/v3rpc/auth.go` and `server/auth/store.go`.
"""

from collections.abc import Mapping

import grpc
from google.protobuf.message import Message

from fetch import errors
from fetch.api.rpc_pb2 import (
    AuthDisableResponse,
    AuthenticateRequest,
    AuthRoleAddRequest,
    AuthRoleDeleteRequest,
    AuthRoleGetRequest,
    AuthRoleGrantPermissionRequest,
    AuthRoleListResponse,
    AuthRoleRevokePermissionRequest,
    AuthStatusResponse,
    AuthUserAddRequest,
    AuthUserChangePasswordRequest,
    AuthUserDeleteRequest,
    AuthUserGetRequest,
    AuthUserGrantRoleRequest,
    AuthUserListResponse,
    AuthUserRevokeRoleRequest,
)
from fetch.chain import Call
from fetch.services.unserved import refuse
from fetch.services.users import Method, Users
from fetch.services.wire import framed_header, tenant_of

_REVISION = 1
"""The revision of users and roles that nobody has ever changed."""

_NO_USERS = "the client's certificate chooses a tenant and may do everything in it; there are no users within"

_Named = type[
    AuthUserGetRequest
    | AuthUserDeleteRequest
    | AuthUserChangePasswordRequest
    | AuthUserGrantRoleRequest
    | AuthUserRevokeRoleRequest
    | AuthRoleGetRequest
    | AuthRoleDeleteRequest
    | AuthRoleRevokePermissionRequest
]


class Auth:
    """The handlers of `etcdserverpb.Auth`, on raw bytes."""

    name = "etcdserverpb.Auth"

    def __init__(self, users: Users | None = None) -> None:
        """`users` is what administrators are served; None: the same as all."""
        self._users = users

    def handlers(self) -> Mapping[str, grpc.RpcMethodHandler]:
        """The service's methods."""
        of_tenants = self._handlers_of_tenants()
        if self._users is None:
            return of_tenants
        of_administrators = self._users.methods()
        return {name: _by_caller(handler, of_administrators[name]) for name, handler in of_tenants.items()}

    def _handlers_of_tenants(self) -> Mapping[str, grpc.RpcMethodHandler]:
        return {
            "AuthEnable": refuse(_NO_USERS),
            "AuthDisable": _tells(AuthDisableResponse()),
            "AuthStatus": _tells(AuthStatusResponse(enabled=False, authRevision=_REVISION)),
            "Authenticate": grpc.unary_unary_rpc_method_handler(self.authenticate),
            "UserAdd": grpc.unary_unary_rpc_method_handler(self.add_user),
            "UserGet": _misses(AuthUserGetRequest, errors.UserNotFound),
            "UserList": _tells(AuthUserListResponse()),
            "UserDelete": _misses(AuthUserDeleteRequest, errors.UserNotFound),
            "UserChangePassword": _misses(AuthUserChangePasswordRequest, errors.UserNotFound),
            "UserGrantRole": _misses(AuthUserGrantRoleRequest, errors.UserNotFound),
            "UserRevokeRole": _misses(AuthUserRevokeRoleRequest, errors.UserNotFound),
            "RoleAdd": grpc.unary_unary_rpc_method_handler(self.add_role),
            "RoleGet": _misses(AuthRoleGetRequest, errors.RoleNotFound),
            "RoleList": _tells(AuthRoleListResponse()),
            "RoleDelete": _misses(AuthRoleDeleteRequest, errors.RoleNotFound),
            "RoleGrantPermission": grpc.unary_unary_rpc_method_handler(self.grant_permission),
            "RoleRevokePermission": _misses(AuthRoleRevokePermissionRequest, errors.RoleNotFound),
        }

    async def authenticate(self, request: bytes, call: Call) -> bytes:
        """Authenticate: etcd's clients go on without a token when they are told this."""
        AuthenticateRequest.FromString(request)
        tenant_of(call)
        raise errors.AuthNotEnabled

    async def add_user(self, request: bytes, call: Call) -> bytes:
        """UserAdd. etcd takes users before authentication is turned on, which it never is here."""
        message = AuthUserAddRequest.FromString(request)
        tenant_of(call)
        raise _may_not("user") if message.name else errors.UserEmpty

    async def add_role(self, request: bytes, call: Call) -> bytes:
        """RoleAdd. As with users."""
        message = AuthRoleAddRequest.FromString(request)
        tenant_of(call)
        raise _may_not("role") if message.name else errors.RoleEmpty

    async def grant_permission(self, request: bytes, call: Call) -> bytes:
        """RoleGrantPermission."""
        message = AuthRoleGrantPermissionRequest.FromString(request)
        tenant_of(call)
        raise errors.RoleNotFound if message.HasField("perm") else errors.PermissionNotGiven


def _by_caller(handler: grpc.RpcMethodHandler, of_administrators: Method) -> grpc.RpcMethodHandler:
    """A handler that serves administrators in another way than tenants."""
    of_tenants: Method = handler.unary_unary

    async def serve(request: bytes, call: Call) -> bytes:
        return await (of_administrators(request, call) if call.administrator else of_tenants(request, call))

    return grpc.unary_unary_rpc_method_handler(serve)


def _may_not(what: str) -> errors.Refused:
    return errors.Refused(
        grpc.StatusCode.PERMISSION_DENIED, f"etcdserver: permission denied: a tenant adds no {what}: {_NO_USERS}"
    )


def _tells(answer: Message) -> grpc.RpcMethodHandler:
    """A handler that answers with this, at the tenant's revision. What is asked has no fields."""
    encoded = answer.SerializeToString()

    async def told(_: bytes, call: Call) -> bytes:
        engine = tenant_of(call)
        return framed_header(engine, await engine.revision()) + encoded

    return grpc.unary_unary_rpc_method_handler(told)


def _misses(request_type: _Named, error: type[errors.EtcdError]) -> grpc.RpcMethodHandler:
    """A handler of what is asked of a user or a role, of which there are none."""

    async def missed(request: bytes, call: Call) -> bytes:
        request_type.FromString(request)
        tenant_of(call)
        raise error

    return grpc.unary_unary_rpc_method_handler(missed)

"""The Auth service for an administrator: the register of tenants. A user is a tenant, known by its certificate.

What etcd's users have besides a name is kept and shown, roles and their permissions, and changes nothing: a tenant may
do everything in its keyspace and nothing elsewhere. There are no passwords. To delete a user is to delete the tenant,
which can be brought back for a week; to add it again in that time is to give up what it had. Errors are those of etcd's
`server/auth/store.go`.
"""

from collections.abc import Awaitable, Callable, Mapping
from typing import TypeVar

import grpc
from google.protobuf.message import Message

from fetch import errors
from fetch.api import auth_pb2, rpc_pb2
from fetch.chain import Call
from fetch.services.wire import framed_header, tenant_of
from fetch.tenants.records import Conflict, NoSuchTenant, TenantExists
from fetch.tenants.register import Register
from fetch.tenants.roles import NoSuchRole, NotGranted, RoleExists
from fetch.v1.records_pb2 import Permission

Method = Callable[[bytes, Call], Awaitable[bytes]]
"""A unary call's handler, on raw bytes."""

Request = TypeVar("Request", bound=Message)

_PAGE = 250
_NO_PASSWORDS = "etcdserver: a tenant has no password, its certificate is what it is known by: add it without one"
_ALWAYS_ON = "etcdserver: tenants are known by their certificates, which cannot be turned off"


class Users:
    """The methods of `etcdserverpb.Auth`, for administrators."""

    def __init__(self, register: Register) -> None:
        self._register = register
        self._roles = register.roles

    def methods(self) -> Mapping[str, Method]:
        """The methods by their names."""
        return {
            "AuthEnable": _method(rpc_pb2.AuthEnableRequest, self._enable),
            "AuthDisable": _method(rpc_pb2.AuthDisableRequest, self._disable),
            "AuthStatus": _method(rpc_pb2.AuthStatusRequest, self._status),
            "Authenticate": _method(rpc_pb2.AuthenticateRequest, self._authenticate),
            "UserAdd": _method(rpc_pb2.AuthUserAddRequest, self._add),
            "UserGet": _method(rpc_pb2.AuthUserGetRequest, self._get),
            "UserList": _method(rpc_pb2.AuthUserListRequest, self._list),
            "UserDelete": _method(rpc_pb2.AuthUserDeleteRequest, self._delete),
            "UserChangePassword": _method(rpc_pb2.AuthUserChangePasswordRequest, self._change_password),
            "UserGrantRole": _method(rpc_pb2.AuthUserGrantRoleRequest, self._grant_role),
            "UserRevokeRole": _method(rpc_pb2.AuthUserRevokeRoleRequest, self._revoke_role),
            "RoleAdd": _method(rpc_pb2.AuthRoleAddRequest, self._add_role),
            "RoleGet": _method(rpc_pb2.AuthRoleGetRequest, self._get_role),
            "RoleList": _method(rpc_pb2.AuthRoleListRequest, self._list_roles),
            "RoleDelete": _method(rpc_pb2.AuthRoleDeleteRequest, self._delete_role),
            "RoleGrantPermission": _method(rpc_pb2.AuthRoleGrantPermissionRequest, self._permit),
            "RoleRevokePermission": _method(rpc_pb2.AuthRoleRevokePermissionRequest, self._forbid),
        }

    async def _enable(self, _: rpc_pb2.AuthEnableRequest) -> Message:
        """It is, which etcd too takes for granted."""
        return rpc_pb2.AuthEnableResponse()

    async def _disable(self, _: rpc_pb2.AuthDisableRequest) -> Message:
        raise errors.Refused(grpc.StatusCode.FAILED_PRECONDITION, _ALWAYS_ON)

    async def _status(self, _: rpc_pb2.AuthStatusRequest) -> Message:
        return rpc_pb2.AuthStatusResponse(enabled=True, authRevision=await self._register.revision())

    async def _authenticate(self, _: rpc_pb2.AuthenticateRequest) -> Message:
        """Clients that were given a password go on without a token when they are told this."""
        raise errors.AuthNotEnabled

    async def _add(self, request: rpc_pb2.AuthUserAddRequest) -> Message:
        if not request.name:
            raise errors.UserEmpty
        if not request.options.no_password:
            raise errors.Refused(grpc.StatusCode.FAILED_PRECONDITION, _NO_PASSWORDS)
        await self._register.create(request.name, gives_up_deleted=True)
        return rpc_pb2.AuthUserAddResponse()

    async def _get(self, request: rpc_pb2.AuthUserGetRequest) -> Message:
        record = (await self._register.get(request.name)).record
        if record.deleted:
            raise errors.UserNotFound
        return rpc_pb2.AuthUserGetResponse(roles=record.roles)

    async def _list(self, _: rpc_pb2.AuthUserListRequest) -> Message:
        users: list[str] = []
        after, more = "", True
        while more:
            page, more = await self._register.page(after, _PAGE)
            users += [it.record.name for it in page if not it.record.deleted]
            after = page[-1].record.name if page else after
        return rpc_pb2.AuthUserListResponse(users=users)

    async def _delete(self, request: rpc_pb2.AuthUserDeleteRequest) -> Message:
        try:
            await self._register.delete(request.name)
        except Conflict:
            raise errors.UserNotFound from None
        return rpc_pb2.AuthUserDeleteResponse()

    async def _change_password(self, request: rpc_pb2.AuthUserChangePasswordRequest) -> Message:
        await self._get(rpc_pb2.AuthUserGetRequest(name=request.name))
        raise errors.Refused(grpc.StatusCode.FAILED_PRECONDITION, _NO_PASSWORDS)

    async def _grant_role(self, request: rpc_pb2.AuthUserGrantRoleRequest) -> Message:
        await self._roles.grant(request.user, request.role)
        return rpc_pb2.AuthUserGrantRoleResponse()

    async def _revoke_role(self, request: rpc_pb2.AuthUserRevokeRoleRequest) -> Message:
        try:
            await self._roles.revoke(request.name, request.role)
        except NotGranted:
            raise errors.RoleNotGranted from None
        return rpc_pb2.AuthUserRevokeRoleResponse()

    async def _add_role(self, request: rpc_pb2.AuthRoleAddRequest) -> Message:
        if not request.name:
            raise errors.RoleEmpty
        await self._roles.add(request.name)
        return rpc_pb2.AuthRoleAddResponse()

    async def _get_role(self, request: rpc_pb2.AuthRoleGetRequest) -> Message:
        role = await self._roles.get(request.role)
        found = [
            auth_pb2.Permission(permType=it.kind, key=it.key, range_end=it.range_end)  # type: ignore[arg-type]
            for it in role.permissions
        ]
        return rpc_pb2.AuthRoleGetResponse(perm=found)

    async def _list_roles(self, _: rpc_pb2.AuthRoleListRequest) -> Message:
        return rpc_pb2.AuthRoleListResponse(roles=await self._roles.names())

    async def _delete_role(self, request: rpc_pb2.AuthRoleDeleteRequest) -> Message:
        await self._roles.delete(request.role)
        return rpc_pb2.AuthRoleDeleteResponse()

    async def _permit(self, request: rpc_pb2.AuthRoleGrantPermissionRequest) -> Message:
        if not request.HasField("perm"):
            raise errors.PermissionNotGiven
        given = request.perm
        permission = Permission(kind=given.permType, key=given.key, range_end=given.range_end)
        await self._roles.permit(request.name, permission)
        return rpc_pb2.AuthRoleGrantPermissionResponse()

    async def _forbid(self, request: rpc_pb2.AuthRoleRevokePermissionRequest) -> Message:
        try:
            await self._roles.forbid(request.role, request.key, request.range_end)
        except NotGranted:
            raise errors.PermissionNotGranted from None
        return rpc_pb2.AuthRoleRevokePermissionResponse()


def _method(request_type: type[Request], answer: Callable[[Request], Awaitable[Message]]) -> Method:
    """A method that answers an administrator, at the revision of its own keyspace."""

    async def method(request: bytes, call: Call) -> bytes:
        message = request_type()
        message.ParseFromString(request)
        engine = tenant_of(call)
        try:
            encoded = (await answer(message)).SerializeToString()
        except NoSuchTenant:
            raise errors.UserNotFound from None
        except NoSuchRole:
            raise errors.RoleNotFound from None
        except TenantExists:
            raise errors.UserExists from None
        except RoleExists:
            raise errors.RoleExists from None
        except Conflict as error:
            raise errors.Refused(grpc.StatusCode.FAILED_PRECONDITION, f"etcdserver: {error}") from None
        except ValueError as error:
            raise errors.Refused(grpc.StatusCode.INVALID_ARGUMENT, f"etcdserver: {error}") from None
        return framed_header(engine, await engine.revision()) + encoded

    return method

"""Auth where it is off and has never been on: there are no users and no roles, and nobody has to authenticate."""

import grpc
import pytest
from google.protobuf.message import Message
from grpc import StatusCode

from fetch.api import auth_pb2, rpc_pb2
from tests.endpoints.client import Client
from tests.endpoints.refusals import Refusal, refused

NOT_ENABLED = Refusal(StatusCode.FAILED_PRECONDITION, "etcdserver: authentication is not enabled")
USER_NOT_FOUND = Refusal(StatusCode.FAILED_PRECONDITION, "etcdserver: user name not found")
ROLE_NOT_FOUND = Refusal(StatusCode.FAILED_PRECONDITION, "etcdserver: role name not found")
USER_EMPTY = Refusal(StatusCode.INVALID_ARGUMENT, "etcdserver: user name is empty")
ROLE_EMPTY = Refusal(StatusCode.INVALID_ARGUMENT, "etcdserver: role name is empty")
PERMISSION_NOT_GIVEN = Refusal(StatusCode.INVALID_ARGUMENT, "etcdserver: permission not given")

READ = auth_pb2.Permission(permType="READ", key=b"a")


def call(client: Client, method: str, request: Message) -> bytes:
    return client.call_raw(f"/etcdserverpb.Auth/{method}", request.SerializeToString())


@pytest.mark.since(3, 5, "there is no AuthStatus")
def test_authentication_is_off(client: Client) -> None:
    revision = client.put(b"a").header.revision
    status = rpc_pb2.AuthStatusResponse.FromString(call(client, "AuthStatus", rpc_pb2.AuthStatusRequest()))
    assert (status.enabled, status.header.revision) == (False, revision)


@pytest.mark.since(3, 5, "there is no AuthStatus")
def test_users_and_roles_have_their_first_revision(client: Client) -> None:
    status = rpc_pb2.AuthStatusResponse.FromString(call(client, "AuthStatus", rpc_pb2.AuthStatusRequest()))
    assert status.authRevision == 1


@pytest.mark.parametrize("name", ["", "a", "root"])
def test_nobody_is_authenticated(client: Client, name: str) -> None:
    with refused(NOT_ENABLED):
        call(client, "Authenticate", rpc_pb2.AuthenticateRequest(name=name, password="secret"))


def test_there_are_no_users(client: Client) -> None:
    revision = client.put(b"a").header.revision
    found = rpc_pb2.AuthUserListResponse.FromString(call(client, "UserList", rpc_pb2.AuthUserListRequest()))
    assert (list(found.users), found.header.revision) == ([], revision)


def test_there_are_no_roles(client: Client) -> None:
    revision = client.put(b"a").header.revision
    found = rpc_pb2.AuthRoleListResponse.FromString(call(client, "RoleList", rpc_pb2.AuthRoleListRequest()))
    assert (list(found.roles), found.header.revision) == ([], revision)


@pytest.mark.parametrize("name", ["", "a", "root"])
@pytest.mark.parametrize(
    ("method", "request_type", "field"),
    [
        ("UserGet", rpc_pb2.AuthUserGetRequest, "name"),
        ("UserDelete", rpc_pb2.AuthUserDeleteRequest, "name"),
        ("UserChangePassword", rpc_pb2.AuthUserChangePasswordRequest, "name"),
        ("UserGrantRole", rpc_pb2.AuthUserGrantRoleRequest, "user"),
        ("UserRevokeRole", rpc_pb2.AuthUserRevokeRoleRequest, "name"),
    ],
)
def test_a_user_is_not_found(client: Client, method: str, request_type: type[Message], field: str, name: str) -> None:
    with refused(USER_NOT_FOUND):
        call(client, method, request_type(**{field: name}))


@pytest.mark.parametrize("name", ["", "a", "root"])
@pytest.mark.parametrize("method", ["RoleGet", "RoleDelete", "RoleRevokePermission"])
def test_a_role_is_not_found(client: Client, method: str, name: str) -> None:
    with refused(ROLE_NOT_FOUND):
        call(client, method, getattr(rpc_pb2, f"Auth{method}Request")(role=name))


def test_a_role_that_is_not_found_is_granted_nothing(client: Client) -> None:
    with refused(ROLE_NOT_FOUND):
        call(client, "RoleGrantPermission", rpc_pb2.AuthRoleGrantPermissionRequest(name="a", perm=READ))


@pytest.mark.since(3, 6, "some of its patch releases die of it")
def test_a_permission_is_asked_for_before_its_role(client: Client) -> None:
    with refused(PERMISSION_NOT_GIVEN):
        call(client, "RoleGrantPermission", rpc_pb2.AuthRoleGrantPermissionRequest(name="a"))


def test_a_user_has_a_name(client: Client) -> None:
    with refused(USER_EMPTY):
        call(client, "UserAdd", rpc_pb2.AuthUserAddRequest(password="secret"))


def test_a_role_has_a_name(client: Client) -> None:
    with refused(ROLE_EMPTY):
        call(client, "RoleAdd", rpc_pb2.AuthRoleAddRequest())


def test_what_is_off_can_be_turned_off(client: Client) -> None:
    revision = client.put(b"a").header.revision
    answer = rpc_pb2.AuthDisableResponse.FromString(call(client, "AuthDisable", rpc_pb2.AuthDisableRequest()))
    assert answer.header.revision == revision


def test_what_is_no_message_is_refused(client: Client) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        client.call_raw("/etcdserverpb.Auth/Authenticate", b"\xff\xff")
    assert caught.value.code() == StatusCode.INTERNAL

"""etcd's Auth service as administrators have it: users are tenants. Called as etcdctl and Kamaji's driver call it."""

import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import TypeVar

import grpc
import pytest
from google.protobuf.message import Message
from grpc import StatusCode

from fetch.api import auth_pb2, rpc_pb2
from fetch.tls import certificates
from tests import peers
from tests.endpoints.client import Client
from tests.endpoints.fetch import STORES, Fetch, FetchServer
from tests.endpoints.refusals import Refusal, refused
from tests.endpoints.server import Missing

Response = TypeVar("Response", bound=Message)

ADMIN = "admin.example"
USER_EXISTS = Refusal(StatusCode.FAILED_PRECONDITION, "etcdserver: user name already exists")
USER_NOT_FOUND = Refusal(StatusCode.FAILED_PRECONDITION, "etcdserver: user name not found")
USER_EMPTY = Refusal(StatusCode.INVALID_ARGUMENT, "etcdserver: user name is empty")
ROLE_EXISTS = Refusal(StatusCode.FAILED_PRECONDITION, "etcdserver: role name already exists")
ROLE_NOT_FOUND = Refusal(StatusCode.FAILED_PRECONDITION, "etcdserver: role name not found")
ROLE_EMPTY = Refusal(StatusCode.INVALID_ARGUMENT, "etcdserver: role name is empty")
ROLE_NOT_GRANTED = Refusal(StatusCode.FAILED_PRECONDITION, "etcdserver: role is not granted to the user")
PERMISSION_NOT_GIVEN = Refusal(StatusCode.INVALID_ARGUMENT, "etcdserver: permission not given")
PERMISSION_NOT_GRANTED = Refusal(StatusCode.FAILED_PRECONDITION, "etcdserver: permission is not granted to the role")
NOT_ENABLED = Refusal(StatusCode.FAILED_PRECONDITION, "etcdserver: authentication is not enabled")
DELETED = Refusal(StatusCode.PERMISSION_DENIED, "etcdserver: permission denied: the tenant is deleted")


@pytest.fixture(scope="module", params=STORES, ids=lambda store: store.name)
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[FetchServer]:
    """fetch on each store, with an administrator."""
    store: Fetch | Missing = request.param
    assert isinstance(store, Fetch)
    with store.start(tmp_path_factory.mktemp(store.name), [f"--admin-principals={ADMIN},other"]) as running:
        yield running


@pytest.fixture
def admin(server: FetchServer) -> Iterator[Client]:
    with server.connect_as(ADMIN) as client:
        yield client


@pytest.fixture
def name(server: FetchServer) -> str:
    """A name that no tenant has had."""
    return server.endpoint.new_tenant()


@pytest.fixture
def user(admin: Client, name: str) -> str:
    """A tenant that the administrator has made."""
    add_user(admin, name)
    return name


def call(client: Client, method: str, request: Message) -> bytes:
    return client.call_raw(f"/etcdserverpb.Auth/{method}", request.SerializeToString())


def add_user(client: Client, name: str) -> None:
    options = auth_pb2.UserAddOptions(no_password=True)
    call(client, "UserAdd", rpc_pb2.AuthUserAddRequest(name=name, options=options))


def roles_of(client: Client, name: str) -> list[str]:
    answer = call(client, "UserGet", rpc_pb2.AuthUserGetRequest(name=name))
    return list(rpc_pb2.AuthUserGetResponse.FromString(answer).roles)


def users(client: Client) -> list[str]:
    answer = call(client, "UserList", rpc_pb2.AuthUserListRequest())
    return list(rpc_pb2.AuthUserListResponse.FromString(answer).users)


def add_role(client: Client, name: str) -> None:
    call(client, "RoleAdd", rpc_pb2.AuthRoleAddRequest(name=name))


def permissions_of(client: Client, name: str) -> list[auth_pb2.Permission]:
    answer = call(client, "RoleGet", rpc_pb2.AuthRoleGetRequest(role=name))
    return list(rpc_pb2.AuthRoleGetResponse.FromString(answer).perm)


def status(client: Client) -> rpc_pb2.AuthStatusResponse:
    return rpc_pb2.AuthStatusResponse.FromString(call(client, "AuthStatus", rpc_pb2.AuthStatusRequest()))


def permit(client: Client, role: str, key: bytes, range_end: bytes, kind: str = "READWRITE") -> None:
    permission = auth_pb2.Permission(permType=kind, key=key, range_end=range_end)  # type: ignore[arg-type]
    call(client, "RoleGrantPermission", rpc_pb2.AuthRoleGrantPermissionRequest(name=role, perm=permission))


# users


def test_authentication_is_on_for_an_administrator(admin: Client) -> None:
    assert status(admin).enabled


def test_the_revision_of_users_and_roles_goes_up_with_each_change(admin: Client, name: str) -> None:
    before = status(admin).authRevision
    add_user(admin, name)
    add_role(admin, name)
    assert status(admin).authRevision == before + 2


def test_a_user_that_was_added_is_a_tenant(server: FetchServer, admin: Client, user: str) -> None:
    assert user in users(admin)
    assert roles_of(admin, user) == []
    with server.connect_as(user) as tenant:
        assert tenant.put(b"a").header.revision == 2


def test_a_tenant_is_a_user(server: FetchServer, admin: Client, name: str) -> None:
    with server.connect_as(name) as tenant:
        tenant.put(b"a")
    assert name in users(admin)
    with refused(USER_EXISTS):
        add_user(admin, name)


def test_a_user_is_added_once(admin: Client, user: str) -> None:
    with refused(USER_EXISTS):
        add_user(admin, user)


def test_a_user_has_a_name(admin: Client) -> None:
    with refused(USER_EMPTY):
        add_user(admin, "")


@pytest.mark.parametrize("wrong", ["two words", "alpha#1", "é", "x" * 254])
def test_a_name_that_no_tenant_can_have_is_refused(admin: Client, wrong: str) -> None:
    with pytest.raises(grpc.RpcError, match="a tenant's name"):
        add_user(admin, wrong)


def test_no_password_is_kept(admin: Client, name: str, user: str) -> None:
    request = rpc_pb2.AuthUserAddRequest(name=f"{name}-other", password="secret")
    with pytest.raises(grpc.RpcError, match="a tenant has no password"):
        call(admin, "UserAdd", request)
    assert f"{name}-other" not in users(admin)
    with pytest.raises(grpc.RpcError, match="a tenant has no password"):
        call(admin, "UserChangePassword", rpc_pb2.AuthUserChangePasswordRequest(name=user, password="secret"))


def test_nobody_is_known_by_a_password(admin: Client) -> None:
    with refused(NOT_ENABLED):
        call(admin, "Authenticate", rpc_pb2.AuthenticateRequest(name="root", password="secret"))


def test_what_is_on_is_turned_on_and_never_off(admin: Client) -> None:
    call(admin, "AuthEnable", rpc_pb2.AuthEnableRequest())
    with pytest.raises(grpc.RpcError, match="cannot be turned off"):
        call(admin, "AuthDisable", rpc_pb2.AuthDisableRequest())


def test_a_deleted_user_is_refused_and_its_watch_ends(server: FetchServer, admin: Client, user: str) -> None:
    with server.connect_as(user) as tenant, tenant.watch() as watch:
        watch.create(b"a")
        call(admin, "UserDelete", rpc_pb2.AuthUserDeleteRequest(name=user))
        with refused(DELETED):
            watch.receive()
        with refused(DELETED):
            tenant.put(b"a")
    assert user not in users(admin)


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
def test_a_deleted_user_is_not_found(
    admin: Client, user: str, method: str, request_type: type[Message], field: str
) -> None:
    call(admin, "UserDelete", rpc_pb2.AuthUserDeleteRequest(name=user))
    with refused(USER_NOT_FOUND):
        call(admin, method, request_type(**{field: user}))


def test_a_user_that_is_added_again_begins_anew(server: FetchServer, admin: Client, user: str) -> None:
    with server.connect_as(user) as tenant:
        tenant.put(b"a", b"old")
    call(admin, "UserDelete", rpc_pb2.AuthUserDeleteRequest(name=user))
    add_user(admin, user)
    with server.connect_as(user) as tenant:
        assert tenant.range(b"a").count == 0
        assert tenant.put(b"b").header.revision == 2


def test_an_administrator_is_no_user_and_has_an_empty_keyspace(server: FetchServer, admin: Client) -> None:
    assert ADMIN not in users(admin)
    assert admin.range(b"health").count == 0
    with pytest.raises(grpc.RpcError, match="is an administrator"):
        add_user(admin, "other")
    with refused(USER_NOT_FOUND):
        call(admin, "UserDelete", rpc_pb2.AuthUserDeleteRequest(name=ADMIN))


# roles


def test_a_role_is_kept_and_shown(admin: Client, name: str) -> None:
    add_role(admin, name)
    permit(admin, name, b"/b/", b"/b0")
    permit(admin, name, b"/a/", b"/a0", "READ")
    assert [(it.permType, it.key) for it in permissions_of(admin, name)] == [(0, b"/a/"), (2, b"/b/")]
    answer = call(admin, "RoleList", rpc_pb2.AuthRoleListRequest())
    assert name in rpc_pb2.AuthRoleListResponse.FromString(answer).roles


def test_a_permission_that_is_given_again_is_another(admin: Client, name: str) -> None:
    add_role(admin, name)
    permit(admin, name, b"/a/", b"/a0", "READ")
    permit(admin, name, b"/a/", b"/a0", "WRITE")
    assert [it.permType for it in permissions_of(admin, name)] == [1]


def test_a_permission_is_taken_away(admin: Client, name: str) -> None:
    add_role(admin, name)
    permit(admin, name, b"/a/", b"/a0")
    request = rpc_pb2.AuthRoleRevokePermissionRequest(role=name, key=b"/a/", range_end=b"/a0")
    call(admin, "RoleRevokePermission", request)
    assert permissions_of(admin, name) == []
    with refused(PERMISSION_NOT_GRANTED):
        call(admin, "RoleRevokePermission", request)


def test_a_user_has_roles_in_order_each_once(admin: Client, user: str) -> None:
    for role in (f"{user}-b", f"{user}-a"):
        add_role(admin, role)
    for role in (f"{user}-b", f"{user}-a", f"{user}-b"):
        call(admin, "UserGrantRole", rpc_pb2.AuthUserGrantRoleRequest(user=user, role=role))
    assert roles_of(admin, user) == [f"{user}-a", f"{user}-b"]


def test_a_role_is_taken_from_a_user(admin: Client, user: str) -> None:
    add_role(admin, user)
    call(admin, "UserGrantRole", rpc_pb2.AuthUserGrantRoleRequest(user=user, role=user))
    request = rpc_pb2.AuthUserRevokeRoleRequest(name=user, role=user)
    call(admin, "UserRevokeRole", request)
    assert roles_of(admin, user) == []
    with refused(ROLE_NOT_GRANTED):
        call(admin, "UserRevokeRole", request)


def test_a_role_that_is_deleted_is_nobodys(admin: Client, user: str) -> None:
    add_role(admin, user)
    call(admin, "UserGrantRole", rpc_pb2.AuthUserGrantRoleRequest(user=user, role=user))
    call(admin, "RoleDelete", rpc_pb2.AuthRoleDeleteRequest(role=user))
    assert roles_of(admin, user) == []
    with refused(ROLE_NOT_FOUND):
        permissions_of(admin, user)


def test_roles_are_refused_as_etcd_refuses_them(admin: Client, user: str) -> None:
    add_role(admin, user)
    with refused(ROLE_EXISTS):
        add_role(admin, user)
    with refused(ROLE_EMPTY):
        add_role(admin, "")
    with refused(ROLE_NOT_FOUND):
        call(admin, "UserGrantRole", rpc_pb2.AuthUserGrantRoleRequest(user=user, role="none"))
    with refused(ROLE_NOT_FOUND):
        call(admin, "RoleDelete", rpc_pb2.AuthRoleDeleteRequest(role="none"))
    with refused(ROLE_NOT_FOUND):
        permit(admin, "none", b"a", b"")
    with refused(PERMISSION_NOT_GIVEN):
        call(admin, "RoleGrantPermission", rpc_pb2.AuthRoleGrantPermissionRequest(name=user))


def test_a_role_changes_nothing_for_a_tenant(server: FetchServer, admin: Client, user: str) -> None:
    add_role(admin, user)
    permit(admin, user, b"/only/", b"/only0", "READ")
    call(admin, "UserGrantRole", rpc_pb2.AuthUserGrantRoleRequest(user=user, role=user))
    with server.connect_as(user) as tenant:
        assert tenant.put(b"anything").header.revision == 2


# who may not


def test_a_tenant_sees_and_changes_nothing_of_it(server: FetchServer, admin: Client, user: str) -> None:
    with server.connect_as(f"{user}-curious") as tenant:
        assert not status(tenant).enabled
        assert users(tenant) == []
        with refused(USER_NOT_FOUND):
            call(tenant, "UserDelete", rpc_pb2.AuthUserDeleteRequest(name=user))
        with pytest.raises(grpc.RpcError, match="a tenant adds no user"):
            add_user(tenant, f"{user}-made")
    assert f"{user}-made" not in users(admin)
    assert user in users(admin)


# programs


def test_what_kamaji_asks_for_with_etcdctl(server: FetchServer, name: str, tmp_path: Path) -> None:
    """The calls of Kamaji's driver for etcd over a control plane's life, made by its administrator's certificate."""
    found = peers.find("etcdctl") or pytest.skip("there is no etcdctl: `make peers` builds it where Go is")

    def etcdctl(*arguments: str, fails: bool = False) -> str:
        command = [found, f"--endpoints=https://{server.address}", f"--cacert={tmp_path}/ca.crt"]
        command += [f"--cert={tmp_path}/admin.crt", f"--key={tmp_path}/admin.key", *arguments]
        ended = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
        assert (ended.returncode != 0) == fails, ended
        return ended.stdout + ended.stderr

    server.endpoint.authority.write(tmp_path, "ca")
    certificates.issue(server.endpoint.authority, ADMIN).write(tmp_path, "admin")
    assert "Authentication Status: true" in etcdctl("auth", "status")
    assert "user name not found" in etcdctl("user", "get", name, fails=True)
    assert f"User {name} created" in etcdctl("user", "add", name, "--no-password")
    assert "role name not found" in etcdctl("role", "get", name, fails=True)
    etcdctl("role", "add", name)
    etcdctl("role", "grant-permission", name, "--prefix=true", "readwrite", f"/{name}/")
    etcdctl("user", "grant-role", name, name)
    assert f"Roles: {name}" in etcdctl("user", "get", name)
    with server.connect_as(name) as tenant:
        tenant.put(f"/{name}/registry/a".encode())
    assert etcdctl("del", "--prefix", f"/{name}/").strip() == "0"  # the administrator's own keyspace has none
    etcdctl("role", "delete", name)
    etcdctl("user", "delete", name)
    assert name not in etcdctl("user", "list").split()
    with server.connect_as(name) as tenant, refused(DELETED):
        tenant.range(b"a")

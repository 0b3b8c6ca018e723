"""`fetch tenants`, and the service that it calls: what administrators do through a daemon, and nobody else."""

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import grpc
import pytest
from grpc import StatusCode

from fetch.tls import certificates
from fetch.v1 import tenants_pb2
from tests.endpoints.fetch import STORES, Fetch, FetchServer
from tests.endpoints.refusals import Refusal, refused
from tests.endpoints.server import Missing

ADMIN = "admin.example"
DISABLED = Refusal(StatusCode.PERMISSION_DENIED, "etcdserver: permission denied: the tenant is disabled")
DELETED = Refusal(StatusCode.PERMISSION_DENIED, "etcdserver: permission denied: the tenant is deleted")
METHODS = ("List", "Get", "Create", "Set", "Disable", "Enable", "Delete", "Undelete")

Command = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture(scope="module", params=STORES, ids=lambda store: store.name)
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[FetchServer]:
    """fetch on each store, with an administrator."""
    store: Fetch | Missing = request.param
    assert isinstance(store, Fetch)
    with store.start(tmp_path_factory.mktemp(store.name), [f"--admin-principals={ADMIN}"]) as running:
        yield running


@pytest.fixture
def name(server: FetchServer) -> str:
    """A name that no tenant has had."""
    return server.endpoint.new_tenant()


@pytest.fixture
def tenants(server: FetchServer, tmp_path: Path) -> Command:
    """`fetch tenants`, by the administrator's certificate; fails the test unless it `exits` as it should."""
    server.endpoint.authority.write(tmp_path, "ca")
    certificates.issue(server.endpoint.authority, ADMIN).write(tmp_path, "admin")

    def run(*arguments: str, exits: int = 0) -> "subprocess.CompletedProcess[str]":
        command = [sys.executable, "-m", "fetch", "tenants", *arguments, f"--endpoints=https://{server.address}"]
        command += [f"--cacert={tmp_path}/ca.crt", f"--cert={tmp_path}/admin.crt", f"--key={tmp_path}/admin.key"]
        ended = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False, timeout=60
        )
        assert ended.returncode == exits, ended
        return ended

    return run


def test_a_tenants_life(server: FetchServer, name: str, tenants: Command) -> None:
    tenants("create", name, "--quota=1000000", "--notes=of Anna", "--label=team=a", "--label=stage=x")
    with server.connect_as(name) as client:
        client.put(b"a", b"v" * 100)
        client.lease_grant(600)
        shown = json.loads(tenants("show", name, "--output=json").stdout)
        assert (shown["state"], shown["quota"], shown["labels"]) == ("ACTIVE", 1000000, {"team": "a", "stage": "x"})
        assert (shown["contents"]["revision"], shown["contents"]["keys"], shown["contents"]["leases"]) == (
            "2",
            "1",
            "1",
        )
        tenants("disable", name)
        with refused(DISABLED):
            client.put(b"a")
        tenants("enable", name)
        assert client.put(b"b").header.revision == 3
        tenants("delete", name, "--yes")
        with refused(DELETED):
            client.range(b"a")
        assert "deleted, 167 h left" in tenants("show", name).stdout
        tenants("undelete", name)
        assert client.range(b"a").count == 1


def test_a_deleted_tenants_name_is_used_again_when_that_is_meant(
    server: FetchServer, name: str, tenants: Command
) -> None:
    with server.connect_as(name) as client:
        client.put(b"a")
        tenants("delete", name, "--yes", "--grace=1h")
        assert "can be brought back" in tenants("create", name, exits=1).stderr
        tenants("create", name, "--give-up-deleted")
        assert client.range(b"a").count == 0


def test_without_grace_nothing_can_be_brought_back(name: str, tenants: Command) -> None:
    tenants("create", name)
    tenants("delete", name, "--yes", "--grace=0s")
    assert tenants("undelete", name, exits=1).stderr == f"fetch: there is no tenant {name}\n"


def test_tenants_are_listed_in_a_table(name: str, tenants: Command) -> None:
    tenants("create", name, "--notes=of Anna")
    head, *rows = tenants("list").stdout.splitlines()
    assert head.split() == ["NAME", "STATE", "CREATED", "USED", "QUOTA", "LABELS", "NOTES"]
    [row] = [row for row in rows if row.startswith(f"{name} ")]
    assert row.endswith("of Anna")


def test_a_quota_is_set_and_given_back(server: FetchServer, name: str, tenants: Command) -> None:
    with server.connect_as(name) as client:
        client.put(b"a")
        tenants("set", name, "--quota=500")
        with pytest.raises(grpc.RpcError, match="database space exceeded"):
            client.put(b"b", b"v" * 1000)
    tenants("set", name, "--quota=default")
    assert "quota" not in json.loads(tenants("show", name, "--output=json").stdout)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("show", "none"), "there is no tenant none"),
        (("create", "two words"), "letters, digits"),
        (("create", ADMIN), "is an administrator"),
        (("delete", "none"), "say --yes"),
    ],
)
def test_a_refusal_is_one_line(tenants: Command, arguments: tuple[str, ...], said: str) -> None:
    [line] = tenants(*arguments, exits=1).stderr.splitlines()
    assert said in line


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("show",), "takes a NAME"),
        (("list", "alpha"), "takes no name"),
        (("set", "alpha"), "--quota"),
        (("create", "alpha", "--quota=many"), "--quota"),
        (("create", "alpha", "--label=x"), "--label"),
        (("delete", "alpha", "--grace=1d"), "--grace"),
    ],
)
def test_a_wrong_command_line_is_one_line(tenants: Command, arguments: tuple[str, ...], said: str) -> None:
    [line] = tenants(*arguments, exits=2).stderr.splitlines()
    assert said in line


@pytest.mark.parametrize("method", METHODS)
def test_a_tenant_may_do_nothing_of_it(server: FetchServer, name: str, method: str) -> None:
    with server.connect_as(name) as client, pytest.raises(grpc.RpcError) as caught:
        client.call_raw(f"/fetch.v1.Tenants/{method}", tenants_pb2.GetTenantRequest(name=name).SerializeToString())
    assert caught.value.code() is StatusCode.PERMISSION_DENIED

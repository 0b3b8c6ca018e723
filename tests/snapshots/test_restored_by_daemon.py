"""A running daemon restores tenants for its administrators, and for nobody else."""

import hashlib
import itertools
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import grpc
import pytest

from fetch.tls import certificates
from fetch.v1.snapshots_pb2 import (
    ClearRequest,
    ClearResponse,
    RestoreRequest,
    RestoreResponse,
    SaveRequest,
    SaveResponse,
)
from tests.endpoints.client import FROM_KEY, Client
from tests.endpoints.fetch import STORES, FetchServer
from tests.endpoints.requests import put
from tests.snapshots.etcds import SECONDS, find_etcdutl, found, run, save
from tests.snapshots.test_restored_by_etcd import LAST, events, keys, leases, revisions, write
from tests.snapshots.test_restored_by_fetch import WHAT, Saved

ADMINISTRATOR = "the-administrator"
KEYS = 5000
RESTORE = "/fetch.v1.Snapshots/Restore"
NAMES = itertools.count()


@pytest.fixture(scope="module", params=STORES, ids=lambda store: store.name)
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[FetchServer]:
    """A daemon that has an administrator, on each store."""
    directory = tmp_path_factory.mktemp("daemon")
    with request.param.start(directory, [f"--admin-principals={ADMINISTRATOR}"]) as running:
        certificates.issue(running.endpoint.authority, ADMINISTRATOR).write(directory, "admin")
        yield running


@pytest.fixture
def administrator(server: FetchServer) -> Iterator[Client]:
    with server.connect_as(ADMINISTRATOR) as client:
        yield client


@pytest.fixture
def tenant(server: FetchServer) -> str:
    """A name that nobody has used."""
    return f"{server.endpoint.new_tenant()}-{next(NAMES)}"


def as_administrator(server: FetchServer) -> list[str]:
    """The flags of a command that is the administrator's."""
    certificate = server.directory / "admin"
    return [
        f"--endpoints=https://{server.address}",
        f"--cacert={server.directory / 'ca.crt'}",
        f"--cert={certificate}.crt",
        f"--key={certificate}.key",
    ]


def fetch_restore(server: FetchServer, *arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "fetch", "restore", *map(str, arguments), *as_administrator(server)]
    return subprocess.run(command, capture_output=True, text=True, timeout=SECONDS, check=False)


@pytest.fixture(scope="module", params=found(), ids=lambda etcd: etcd.name)
def etcds(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Saved:
    """An etcd's snapshot."""
    directory = tmp_path_factory.mktemp("etcd")
    with request.param.etcd.start(directory) as server, server.connect() as client:
        write(client)
        client.compact(3, physical=True)
        path = save(client, directory / "snapshot")
        return Saved(path, path, 3, {name: ask(client, 3) for name, ask in WHAT.items()})


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A snapshot that takes some steps to be restored."""
    directory = tmp_path_factory.mktemp("large")
    with STORES[0].start(directory) as running, running.empty_keyspace() as client:  # type: ignore[union-attr]
        for begin in range(0, KEYS, 100):
            client.txn((), [put(b"%06d" % number, b"v" * 100) for number in range(begin, begin + 100)])
        return save(client, directory / "snapshot")


def test_a_tenant_that_a_daemon_restores_has_what_the_etcd_has(server: FetchServer, tenant: str, etcds: Saved) -> None:
    done = fetch_restore(server, etcds.path, "--tenant", tenant)
    assert (done.returncode, f"restored tenant {tenant}: revision {LAST}, compacted at 3" in done.stdout) == (
        0,
        True,
    ), done.stderr
    with server.connect_as(tenant) as client:
        assert {name: ask(client, 3) for name, ask in WHAT.items()} == etcds.told


def test_what_one_tenant_has_saved_another_one_is_restored_from(
    server: FetchServer, tenant: str, tmp_path: Path
) -> None:
    with server.empty_keyspace() as source, server.connect_as(tenant) as client:
        write(source)
        source.compact(6, physical=True)
        before: Callable[[Client], object] = lambda of: [it(of, 6) for it in (keys, leases, events, revisions)]  # noqa: E731
        expected = before(source)
        done = fetch_restore(server, save(source, tmp_path / "snapshot"), "--tenant", tenant)
        assert done.returncode == 0, done.stderr
        assert before(client) == expected
        assert client.put(b"more").header.revision == LAST + 1


def test_an_administrator_saves_any_tenant(
    server: FetchServer, administrator: Client, tenant: str, tmp_path: Path
) -> None:
    with server.connect_as(tenant) as client:
        write(client)
        own = b"".join(piece.blob for piece in client.snapshot())
    pieces = administrator.call_stream("/fetch.v1.Snapshots/Save", SaveRequest(tenant=tenant), SaveResponse)
    saved = b"".join(piece.blob for piece in pieces)
    assert saved == own
    assert hashlib.sha256(saved[:-32]).digest() == saved[-32:]
    if etcdutl := find_etcdutl():
        (tmp_path / "saved").write_bytes(saved)
        run(etcdutl, "snapshot", "status", str(tmp_path / "saved"))


def restoring(client: Client, messages: list[RestoreRequest]) -> list[RestoreResponse]:
    with client.open_stream(RESTORE, RestoreRequest, RestoreResponse) as call:
        for message in messages:
            call.send(message)
        call.end_requests()
        return list(call)


def test_a_tenant_may_do_nothing_of_it(server: FetchServer, tenant: str) -> None:
    begin = [RestoreRequest(begin=RestoreRequest.Begin(tenant=tenant))]
    with server.connect_as(tenant) as client:
        for call in (
            lambda: restoring(client, begin),
            lambda: client.call("/fetch.v1.Snapshots/Clear", ClearRequest(tenant=tenant), ClearResponse),
            lambda: client.call_stream("/fetch.v1.Snapshots/Save", SaveRequest(tenant=tenant), SaveResponse),
        ):
            with pytest.raises(grpc.RpcError) as caught:
                call()
            assert caught.value.code() == grpc.StatusCode.PERMISSION_DENIED


def test_a_file_that_ends_before_it_is_whole_changes_nothing(
    server: FetchServer, administrator: Client, tenant: str, large: Path
) -> None:
    begin = RestoreRequest(begin=RestoreRequest.Begin(tenant=tenant))
    with pytest.raises(grpc.RpcError) as caught:
        restoring(administrator, [begin, RestoreRequest(blob=large.read_bytes())])
    assert caught.value.code() == grpc.StatusCode.CANCELLED
    with server.connect_as(tenant) as client:
        assert client.put(b"a").header.revision == 2


@pytest.mark.parametrize(
    ("name", "told"), [("", "tenant"), ("a b", "tenant"), ("x" * 254, "tenant")], ids=["empty", "space", "long"]
)
def test_a_name_that_is_no_tenants_is_refused(administrator: Client, name: str, told: str) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        restoring(administrator, [RestoreRequest(begin=RestoreRequest.Begin(tenant=name))])
    assert caught.value.code() == grpc.StatusCode.INVALID_ARGUMENT
    assert told in caught.value.details()


def test_a_broken_file_is_refused_in_one_line(server: FetchServer, tenant: str, large: Path, tmp_path: Path) -> None:
    content = bytearray(large.read_bytes())
    content[9000] ^= 1
    (tmp_path / "broken").write_bytes(content)
    done = fetch_restore(server, tmp_path / "broken", "--tenant", tenant)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].endswith("its hash is another than the one that it ends with")
    with server.connect_as(tenant) as client:
        assert client.put(b"a").header.revision == 2


def test_a_tenant_that_is_not_empty_is_refused_in_one_line(server: FetchServer, tenant: str, large: Path) -> None:
    with server.connect_as(tenant) as client:
        client.put(b"a", b"1")
        done = fetch_restore(server, large, "--tenant", tenant)
        assert done.returncode == 1
        assert done.stderr.splitlines()[-1] == (
            f"fetch: tenant {tenant} is not empty: restore into one that nobody has written to"
        )
        assert client.get(b"a").value == b"1"


def test_a_client_that_is_killed_leaves_the_tenant_empty(server: FetchServer, tenant: str, large: Path) -> None:
    command = [sys.executable, "-m", "fetch", "restore", str(large), "--tenant", tenant, *as_administrator(server)]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        for line in process.stderr:
            if line.startswith("storing"):
                process.send_signal(signal.SIGKILL)
    with server.connect_as(tenant) as client:
        # while it is being cleared it is refused; if the daemon was quicker than the signal it is there as a whole
        while True:
            try:
                count = client.range(FROM_KEY, FROM_KEY, count_only=True).count
                break
            except grpc.RpcError as error:
                assert error.code() == grpc.StatusCode.UNAVAILABLE  # noqa: PT017
        assert count in (0, KEYS)
        assert client.put(b"a").header.revision == (2 if not count else KEYS // 100 + 2)


def test_a_whole_tenant_is_not_cleared(server: FetchServer, administrator: Client, tenant: str) -> None:
    administrator.call("/fetch.v1.Snapshots/Clear", ClearRequest(tenant=tenant), ClearResponse)
    with server.connect_as(tenant) as client:
        client.put(b"a")
        with pytest.raises(grpc.RpcError) as caught:
            administrator.call("/fetch.v1.Snapshots/Clear", ClearRequest(tenant=tenant), ClearResponse)
        assert caught.value.code() == grpc.StatusCode.FAILED_PRECONDITION
        assert client.range(b"a").count == 1


def test_no_daemon_is_told_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    command = [sys.executable, "-m", "fetch", "restore", str(tmp_path / "file"), "--tenant", "a"]
    command += ["--endpoints=127.0.0.1:1", "--dial-timeout=0.2"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS, check=False)
    assert (done.returncode, done.stderr.startswith("fetch: no daemon answers at 127.0.0.1:1: ")) == (1, True)
    assert done.stderr.count("\n") == 1

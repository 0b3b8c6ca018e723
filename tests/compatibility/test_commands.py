"""Every command of etcdctl has a row, and does on fetch what its row says."""

import itertools
import re
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest

from fetch.tls import certificates
from tests import peers
from tests.compatibility import page
from tests.compatibility.page import Row
from tests.endpoints.client import Client
from tests.endpoints.fetch import Fetch, FetchServer

ROWS = page.rows("## Commands of etcdctl")

_LISTED = re.compile(r"^  ([a-z-]+) +[A-Za-z]", re.MULTILINE)

ARGUMENTS: Mapping[str, Sequence[str]] = {
    "check datascale": ["--load=s"],
    "compaction": ["1"],
    "completion": ["bash"],
    "del": ["key"],
    "downgrade enable": ["3.6"],
    "downgrade validate": ["3.6"],
    "get": ["key"],
    "lease grant": ["60"],
    "lease keep-alive": ["--once", "{lease}"],
    "lease revoke": ["{lease}"],
    "lease timetolive": ["{lease}"],
    "lock": ["name", "true"],
    "member add": ["other", "--peer-urls=http://127.0.0.1:1"],
    "member promote": ["1"],
    "member remove": ["1"],
    "member update": ["1", "--peer-urls=http://127.0.0.1:1"],
    "move-leader": ["1"],
    "put": ["key", "value"],
    "role add": ["role"],
    "role delete": ["role"],
    "role get": ["role"],
    "role grant-permission": ["role", "read", "key"],
    "role revoke-permission": ["role", "key"],
    "snapshot save": ["{directory}/saved.db"],
    "user add": ["user", "--no-password"],
    "user delete": ["user"],
    "user get": ["user"],
    "user grant-role": ["user", "role"],
    "user passwd": ["user", "--interactive=false"],
    "user revoke-role": ["user", "role"],
}
ON_STDIN = {"txn": "\nput key value\n\n\n", "user passwd": "secret\n"}
GO_ON: Mapping[str, Sequence[str]] = {"elect": ["name", "proposal"], "watch": ["key", "--rev=1"]}
"""What prints something and goes on until it is ended."""
NOT_RUN = ("check perf", "make-mirror")
"""`check perf` takes a minute, and has its row from a run by hand; `make-mirror` has a test of its own."""


@cache
def etcdctl() -> str | None:
    return peers.find("etcdctl")


def told(*arguments: str) -> str:
    program = etcdctl() or pytest.skip("there is no etcdctl: `make peers` builds it where Go is")
    return subprocess.run([program, *arguments], capture_output=True, text=True, check=True, timeout=60).stdout


def commands() -> set[str]:
    """The commands that etcdctl's own help lists."""
    found = set()
    for command in _LISTED.findall(told("--help")):
        below = _LISTED.findall(told(command, "--help").partition("Available Commands:")[2].partition("\n\n")[0])
        found |= {f"{command} {name}" for name in below} if below and command != "completion" else {command}
    return found


def test_every_command_has_a_row() -> None:
    assert {row.name.removeprefix("etcdctl ") for row in ROWS} == commands()


@dataclass(frozen=True, slots=True)
class Tenant:
    """A tenant with a key and a lease, and the command line that etcdctl is run with for it."""

    command: Sequence[str]
    client: Client
    lease: str
    directory: Path

    def filled(self, arguments: Sequence[str]) -> list[str]:
        return [argument.format(lease=self.lease, directory=self.directory) for argument in arguments]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory):
    """A fetch of its own: some commands change what is there."""
    with Fetch("embedded").start(tmp_path_factory.mktemp("fetch")) as running:
        yield running


_NUMBERS = itertools.count()


def flags(server: FetchServer, tenant: str, directory: Path, prefix: str = "") -> list[str]:
    certificates.issue(server.endpoint.authority, tenant).write(directory, tenant)
    server.endpoint.authority.write(directory, "ca")
    return [
        f"--{prefix}cacert={directory}/ca.crt",
        f"--{prefix}cert={directory}/{tenant}.crt",
        f"--{prefix}key={directory}/{tenant}.key",
    ]


@pytest.fixture
def tenant(server: FetchServer, tmp_path: Path):
    program = etcdctl() or pytest.skip("there is no etcdctl: `make peers` builds it where Go is")
    name = f"tenant-{next(_NUMBERS)}"
    command = [program, f"--endpoints=https://{server.address}", *flags(server, name, tmp_path)]
    with server.connect_as(name) as client:
        client.put(b"key", b"value")
        yield Tenant(command, client, f"{client.lease_grant(600).ID:x}", tmp_path)


@pytest.mark.parametrize(
    "row", [row for row in ROWS if row.name.removeprefix("etcdctl ") not in NOT_RUN], ids=lambda row: row.name
)
def test_a_command_does_what_its_row_says(tenant: Tenant, row: Row) -> None:
    command = row.name.removeprefix("etcdctl ")
    if command in GO_ON:
        line = [*tenant.command, *command.split(), *GO_ON[command]]
        with subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as going:
            assert going.stdout is not None
            first = going.stdout.readline()
            going.kill()
        assert ("not served" in first, "rror" in first) == (False, False)
        return
    ended = subprocess.run(
        [*tenant.command, *command.split(), *tenant.filled(ARGUMENTS.get(command, ()))],
        input=ON_STDIN.get(command, ""),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert row.state == page.DIFFERENTLY or (ended.returncode == 0) == (row.state == page.SERVED), ended.stderr
    assert ("not served" in ended.stderr) <= (row.state == page.NOT_SERVED), ended.stderr


def test_a_mirror_is_made_of_a_tenant(server: FetchServer, tenant: Tenant) -> None:
    line = [*tenant.command, "make-mirror", *flags(server, "mirror", tenant.directory, "dest-"), server.address]
    with server.connect_as("mirror") as mirror, subprocess.Popen(line, stdout=subprocess.DEVNULL) as going:
        while not mirror.range(b"key").kvs:  # until pytest's own timeout: each is a call that takes its time
            assert going.poll() is None
        going.kill()
        assert mirror.range(b"key").kvs[0].value == b"value"

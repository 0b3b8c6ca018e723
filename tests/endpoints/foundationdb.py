"""A FoundationDB to test on: the cluster that the environment names, or an `fdbserver` started for the tests."""

import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Self

from tests.endpoints.process import Process, free_port

CLUSTER_FILE = "FETCH_TEST_FDB_CLUSTER_FILE"
CONFIGURE_SECONDS = 30


class FdbServer:
    """An `fdbserver` of its own, on loopback: a whole cluster in one process. It keeps its data over restarts."""

    def __init__(self, directory: Path) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        address = f"127.0.0.1:{free_port()}"
        self.cluster_file = directory / "fdb.cluster"
        self.cluster_file.write_text(f"tests:tests@{address}\n")
        self._log = directory / "fdbserver.log"
        self._command = [
            "fdbserver", "--public-address", address, "--cluster-file", str(self.cluster_file),
            "--datadir", str(directory / "data"), "--logdir", str(directory),
        ]  # fmt: skip
        self._process = Process(self._command, self._log)

    def __enter__(self) -> Self:
        subprocess.run(
            [
                "fdbcli",
                "-C",
                str(self.cluster_file),
                "--timeout",
                str(CONFIGURE_SECONDS),
                "--exec",
                "configure new single ssd-2",
            ],
            check=True,
            capture_output=True,
            timeout=CONFIGURE_SECONDS + 5,
        )
        return self

    def __exit__(self, *exception: object) -> None:
        self.resume()
        self._process.kill()

    def kill(self) -> None:
        """Ends it without giving it a chance to do anything."""
        self._process.kill()

    def restart(self) -> None:
        """Starts it again on its data."""
        self._process = Process(self._command, self._log)

    def pause(self) -> None:
        """Lets it answer nobody, while its connections stay open."""
        os.kill(self._process.pid, signal.SIGSTOP)

    def resume(self) -> None:
        """Lets it go on."""
        os.kill(self._process.pid, signal.SIGCONT)


def why_no_client() -> str | None:
    """Why FoundationDB's client cannot be used here; None when it can."""
    try:
        import fdb  # noqa: PLC0415  where it is missing, the tests are skipped

        fdb.api_version(730)
    except Exception as error:  # noqa: BLE001  the binding raises bare exceptions
        return f"there is no FoundationDB client: {error}"
    return None


def why_no_server() -> str | None:
    """Why no `fdbserver` can be started here; None when it can."""
    missing = [name for name in ("fdbserver", "fdbcli") if shutil.which(name) is None]
    if missing:
        return f"there is no FoundationDB server: {' and '.join(missing)} not on the path"
    return why_no_client()


def why_no_cluster() -> str | None:
    """Why there is no cluster to test on; None when there is."""
    return why_no_client() if CLUSTER_FILE in os.environ else why_no_server()


@contextmanager
def cluster(directory: Path) -> Iterator[Path]:
    """The file of a cluster, to be shared by tests that use names of their own."""
    if CLUSTER_FILE in os.environ:
        yield Path(os.environ[CLUSTER_FILE])
        return
    with FdbServer(directory) as server:
        yield server.cluster_file

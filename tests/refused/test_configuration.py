"""Settings that are wrong: one line that says which, and exit code 2, before anything is served."""

import os
import subprocess
from pathlib import Path

import pytest

from tests.endpoints.fetch import SERVE, Fetch
from tests.endpoints.process import free_port


def refusal(directory: Path, *flags: str) -> str:
    """The one line that fetch says to these settings."""
    fetch = Fetch("embedded")
    command = [*SERVE, f"--listen-client-urls=https://127.0.0.1:{free_port()}", *fetch.tls_flags(directory)]
    command += [*fetch.store_flags(directory), *flags]
    ended = subprocess.run(command, capture_output=True, text=True, check=False, timeout=200)
    (line,) = ended.stderr.splitlines()
    assert ended.returncode == 2
    return line


@pytest.mark.parametrize("setting", ["--interceptors", "--transaction-interceptors"])
def test_an_unknown_interceptor_is_named(tmp_path: Path, setting: str) -> None:
    assert "no-such-interceptor" in refusal(tmp_path, f"{setting}=+no-such-interceptor")


def test_an_http_listener_without_an_anonymous_tenant_is_refused(tmp_path: Path) -> None:
    assert "--anonymous-tenant" in refusal(tmp_path, f"--listen-client-urls=http://127.0.0.1:{free_port()}")


@pytest.mark.parametrize("flag", ["--cert-file", "--key-file", "--trusted-ca-file"])
def test_a_file_that_is_missing_is_named(tmp_path: Path, flag: str) -> None:
    line = refusal(tmp_path, f"{flag}={tmp_path}/missing.pem")
    assert flag in line
    assert "missing.pem" in line


@pytest.mark.parametrize("flag", ["--cert-file", "--key-file", "--trusted-ca-file"])
def test_a_file_that_is_not_what_it_should_be_is_named(tmp_path: Path, flag: str) -> None:
    (tmp_path / "garbage.pem").write_text("garbage")
    assert flag in refusal(tmp_path, f"{flag}={tmp_path}/garbage.pem")


def test_a_key_of_another_certificate_is_refused(tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    Fetch("embedded").tls_flags(other)
    assert "--key-file" in refusal(tmp_path, f"--key-file={other}/server.key")


@pytest.mark.parametrize(
    ("flag", "named"),
    [
        ("--listen-client-urls=nonsense", "nonsense"),
        ("--listen-client-urls=https://127.0.0.1", "https://127.0.0.1"),
        ("--max-request-bytes=many", "--max-request-bytes"),
        ("--max-request-bytes=-1", "--max-request-bytes"),
        ("--max-txn-ops=0", "--max-txn-ops"),
        ("--quota-backend-bytes=2GB", "--quota-backend-bytes"),
        ("--watch-progress-notify-interval=soon", "--watch-progress-notify-interval"),
        ("--principal=email", "--principal"),
        ("--tenants=with space", "with space"),
        ("--log-level=loud", "--log-level"),
        ("--workers=1000", "1000"),
        ("--workers=1000", f"{os.cpu_count()} processors"),
        ("--interceptors=classification,metrics", "leaves out authorization"),
        ("--interceptors=-authorization", "cannot be left out"),
        ("--interceptors=+no-such-interceptor:before=metrics", "unknown interceptor 'no-such-interceptor'"),
        ("--interceptors=+access_log,metrics", "do not go together"),
        ("--transaction-interceptors=-events", "cannot be left out"),
        ("--transaction-interceptors=events,previous", "needs 'previous' before it"),
    ],
)
def test_a_value_that_makes_no_sense_is_refused(tmp_path: Path, flag: str, named: str) -> None:
    assert named in refusal(tmp_path, flag)


def test_a_port_that_is_taken_is_named(tmp_path: Path) -> None:
    with Fetch("embedded").start(tmp_path / "first") as server:
        line = refusal(tmp_path, f"--listen-client-urls=https://{server.address}")
    assert server.address in line


@pytest.mark.parametrize("workers", [1, min(2, os.cpu_count() or 1)])
@pytest.mark.parametrize("name", ["member", "thesis.txt"])
def test_a_data_directory_of_something_else_is_refused(tmp_path: Path, name: str, workers: int) -> None:
    (tmp_path / "data" / name).mkdir(parents=True)
    assert name in refusal(tmp_path, f"--workers={workers}")


def test_a_data_directory_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert str(tmp_path / "file") in refusal(tmp_path, f"--data-dir={tmp_path}/file/data")


@pytest.mark.parametrize("workers", [1, min(2, os.cpu_count() or 1)])
def test_a_data_directory_that_another_daemon_serves_is_named(tmp_path: Path, workers: int) -> None:
    with Fetch("embedded").start(tmp_path / "first", [f"--workers={workers}"]) as server:
        data = server.directory / "data"
        assert f"another process serves {data}" in refusal(tmp_path, f"--data-dir={data}", f"--workers={workers}")

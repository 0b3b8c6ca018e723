"""The example package, installed and used as anybody would do it who publishes one."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import grpc
import pytest

from fetch.engine.layout import Layout
from fetch.stores.embedded.store import LmdbStore
from tests.extensions.conftest import Start, code_of
from tests.extensions.installing import installed

PACKAGE = Path(__file__).parents[2] / "examples" / "maintenance-window"


@pytest.fixture(scope="module", autouse=True)
def _package(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with installed(PACKAGE, tmp_path_factory.mktemp("site")):
        yield


def window(begin: datetime, end: datetime) -> str:
    return (
        'interceptors = ["+maintenance_window:after=classification"]\n'
        '[interceptor.maintenance_window]\ntenants = ["maintained"]\n'
        f'begin = "{begin:%H:%M}"\nend = "{end:%H:%M}"\n'
    )


def test_inside_the_window_a_tenant_is_read_only_and_others_are_not(start: Start) -> None:
    now = datetime.now(UTC)
    with (
        start(window(now - timedelta(hours=1), now + timedelta(hours=1))) as server,
        server.connect_as("maintained") as maintained,
        server.connect_as("other") as other,
    ):
        other.put(b"key", b"value")
        assert maintained.range(b"key").count == 0
        with pytest.raises(grpc.RpcError) as refusal:
            maintained.put(b"key", b"value")
    assert code_of(refusal) is grpc.StatusCode.UNAVAILABLE
    assert refusal.value.details().startswith("maintenance until ")


def test_outside_of_the_window_a_tenant_is_written(start: Start) -> None:
    now = datetime.now(UTC)
    with (
        start(window(now + timedelta(hours=1), now + timedelta(hours=2))) as server,
        server.connect_as("maintained") as client,
    ):
        assert client.put(b"key", b"value").header.revision == 2


async def test_changes_are_written_down_in_the_transaction_that_makes_them(start: Start, tmp_path: Path) -> None:
    settings = 'transaction-interceptors = ["+audit_log"]\n[interceptor.audit_log]\nprefix = "/registry/"\n'
    with start(settings) as server, server.connect_as("audited") as client:
        client.put(b"/registry/a", b"1")
        client.put(b"/elsewhere", b"1")
        client.delete_range(b"/registry/a")
        assert client.range(b"\0", b"\0").count == 1

    from maintenance_window.audit import entries  # noqa: PLC0415  installed by this module

    store = LmdbStore(tmp_path / "fetch" / "data")
    try:
        layout = Layout(await store.open_tenant("audited"), store.shared)
        with store.snapshot() as snapshot:
            written = [(entry["kind"], entry["key"]) async for entry in entries(snapshot, layout)]
    finally:
        await store.close()
    assert written == [("put", "/registry/a"), ("delete", "/registry/a")]

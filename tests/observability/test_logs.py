"""Lines of the log, as JSON."""

import json
import logging
import secrets
from typing import Any

import pytest

from fetch.observation import logs
from tests.observability.conftest import Observed
from tests.observability.test_traces import put_traced, span_of


def slow_puts(observed: Observed) -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in observed.server.process.log().splitlines() if line.startswith("{")]
    return [line for line in lines if line["msg"] == "apply request took too long" and line.get("kind") == "put"]


def test_a_slow_request_is_logged_as_etcd_does(observed: Observed) -> None:
    tenant = observed.server.endpoint.new_tenant()
    with observed.server.connect_as(tenant) as client:
        client.put(b"/registry/pods/a", b"secret")
    (line,) = [line for line in slow_puts(observed) if line["tenant"] == tenant]
    assert (line["level"], line["expected-duration"]) == ("warn", "0ms")
    assert line["request"].startswith("/etcdserverpb.KV/Put /registry/pods/a size:")
    assert "secret" not in json.dumps(line)


def test_a_line_has_the_ids_of_its_trace(observed: Observed) -> None:
    trace_id = secrets.token_hex(16)
    with observed.server.empty_keyspace() as client:
        put_traced(client, trace_id)
    (line,) = [line for line in slow_puts(observed) if line.get("trace_id") == trace_id]
    assert line["span_id"] == span_of(observed, trace_id).span.span_id.hex()


def console_line(message: str, fields: dict[str, Any], error: Exception | None = None) -> str:
    record = logging.LogRecord("fetch", logging.WARNING, __file__, 1, "%s", (message,), None)
    record.fields = fields
    if error is not None:
        record.exc_info = (type(error), error, None)
    return logs.Lines("%(levelname)s %(name)s: %(message)s").format(record)


@pytest.mark.parametrize(
    "sent", ["a\nERROR fetch: forged", "a\rERROR", "\x1b[2Jgone", "a\x00b", "\u2028line", "\udc80"]
)
def test_what_a_client_sent_stays_within_its_line(sent: str) -> None:
    lines = console_line(f"refused {sent}", {"principal": sent, "key": "plain"}, ValueError(sent)).split("\n")
    assert all(line.isprintable() for line in lines)
    assert lines[0].startswith("WARNING fetch: refused ")
    assert lines[0].endswith(" key=plain")
    assert sum("ERROR" in line for line in lines) <= 2


def test_a_field_with_blanks_stands_in_quotes() -> None:
    line = console_line("refused", {"principal": 'a" peer="1', "empty": ""})
    assert line == 'WARNING fetch: refused principal="a\\" peer=\\"1" empty=""'

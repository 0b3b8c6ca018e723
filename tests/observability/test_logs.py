"""Lines of the log, as JSON."""

import json
import secrets
from typing import Any

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

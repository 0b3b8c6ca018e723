"""OpenTelemetry's own interceptor of grpcio servers, as it is, by one line of the configuration."""

from collections.abc import Iterator

import pytest

from tests.extensions.conftest import Start
from tests.observability.receiver import Receiver, receiving

CONFIGURATION = """
interceptors = ["+opentelemetry.instrumentation.grpc:aio_server_interceptor"]
"""


@pytest.fixture
def receiver(monkeypatch: pytest.MonkeyPatch) -> Iterator[Receiver]:
    with receiving() as receiver:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", receiver.endpoint)
        monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "100")
        yield receiver


def test_it_makes_a_span_of_its_own_for_each_call(start: Start, receiver: Receiver) -> None:
    with start(CONFIGURATION) as server, server.connect_as("alpha") as client:
        client.put(b"key", b"value")
        span = receiver.wait_for_span(lambda received: received.span.name == "/etcdserverpb.KV/Put")
        assert span.attributes["rpc.system"] == "grpc"

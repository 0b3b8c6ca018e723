"""Metrics as Prometheus' text."""

import grpc
import pytest

from fetch.observation import exposition
from fetch.observation.instruments import Instruments
from tests.observability.conftest import Observed


def text_of(instruments: Instruments) -> list[str]:
    return exposition.render(instruments.metrics()).decode().splitlines()


def test_a_counters_name_has_its_unit_and_total() -> None:
    instruments = Instruments()
    instruments.counter("fetch.received", "Bytes.", ("tenant",), "By").add(("a",), 7)
    assert text_of(instruments) == [
        "# HELP fetch_received_bytes_total Bytes.",
        "# TYPE fetch_received_bytes_total counter",
        'fetch_received_bytes_total{tenant="a"} 7',
    ]


def test_a_histograms_buckets_are_cumulative() -> None:
    instruments = Instruments()
    histogram = instruments.histogram("wait", "Waiting.", (), "s", bounds=(0.5, 1.0))
    for seconds in (0.1, 0.5, 0.7, 9):
        histogram.record((), seconds)
    assert text_of(instruments)[2:] == [
        'wait_seconds_bucket{le="0.5"} 2',
        'wait_seconds_bucket{le="1"} 3',
        'wait_seconds_bucket{le="+Inf"} 4',
        "wait_seconds_sum 10.3",
        "wait_seconds_count 4",
    ]


def test_labels_are_escaped() -> None:
    instruments = Instruments()
    instruments.counter("calls", "Calls.", ("why",)).add(('a "b"\\\n',))
    assert text_of(instruments)[-1] == r'calls_total{why="a \"b\"\\\n"} 1'


def test_what_extensions_count_with_opentelemetrys_api_is_exported_too(observed: Observed) -> None:
    with observed.server.connect_as("not a tenant") as client, pytest.raises(grpc.RpcError):
        client.range(b"key")
    assert any(name.startswith("fetch_authorization_refused_total{") for name in observed.metrics())

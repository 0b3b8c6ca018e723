"""Telemetry: where traces and metrics go. Set up by the standard `OTEL_*` variables and `--listen-metrics-urls`.

Traces and metrics are exported by OTLP over gRPC when `OTEL_TRACES_EXPORTER` or `OTEL_METRICS_EXPORTER` says `otlp`, or
when an OTLP endpoint is set; otherwise there is no tracer provider, and the request path makes no spans. Endpoints,
headers, certificates, sampling, batching, intervals and resource attributes are the SDK's own variables.
"""

import asyncio
import contextlib
import os
import threading
import time
import uuid
from collections.abc import Mapping
from typing import Any

from opentelemetry import metrics, trace
from opentelemetry.exporter.otlp.proto.grpc.metric_exporter import OTLPMetricExporter
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import (
    InMemoryMetricReader,
    Metric,
    MetricExporter,
    MetricExportResult,
    MetricReader,
    MetricsData,
    PeriodicExportingMetricReader,
    ResourceMetrics,
    ScopeMetrics,
)
from opentelemetry.sdk.resources import OTELResourceDetector, Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.util.instrumentation import InstrumentationScope

from fetch import __version__
from fetch.observation import exposition
from fetch.observation.instruments import Instruments

_DISABLED = "OTEL_SDK_DISABLED"
_PROTOCOL = "OTEL_EXPORTER_OTLP_PROTOCOL"
_GRPC = "grpc"
_CLOSE_SECONDS = 3.0


class TelemetryError(Exception):
    """A variable asks for an exporter or a protocol that there is not: one sentence that says which."""


class Telemetry:
    """The providers of one daemon; made once for a process, since OpenTelemetry's are global."""

    def __init__(self, instruments: Instruments, *, scraped: bool, environment: Mapping[str, str] = os.environ) -> None:
        """`scraped`: whether `text` will be asked for.

        :raises TelemetryError:
        """
        self._instruments = instruments
        ours = {"service.name": "fetch", "service.version": __version__, "service.instance.id": str(uuid.uuid4())}
        self._resource = Resource.create(ours).merge(OTELResourceDetector().detect())
        self._scraped = InMemoryMetricReader() if scraped else None
        readers: list[MetricReader] = [] if self._scraped is None else [self._scraped]
        self.exports_metrics = _is_wanted("METRICS", environment)
        if self.exports_metrics:
            readers.append(PeriodicExportingMetricReader(_WithInstruments(instruments, self._resource)))
        self._meters = MeterProvider(readers, self._resource, shutdown_on_exit=False)
        metrics.set_meter_provider(self._meters)
        # the SDK exports nothing, fetch's own instruments included, while no instrument of its own has a value
        began = time.monotonic()
        self._meters.get_meter("fetch").create_observable_gauge(
            "process.uptime", [lambda _: [metrics.Observation(time.monotonic() - began)]], "s", "Time it has run."
        )
        self._tracers: TracerProvider | None = None
        if _is_wanted("TRACES", environment):
            self._tracers = TracerProvider(resource=self._resource, shutdown_on_exit=False)
            self._tracers.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
            trace.set_tracer_provider(self._tracers)

    def text(self) -> bytes:
        """All metrics, for Prometheus."""
        collected = self._scraped.get_metrics_data() if self._scraped is not None else None
        foreign: list[Metric] = []
        for resource in collected.resource_metrics if collected is not None else ():
            for scope in resource.scope_metrics:
                foreign += scope.metrics
        return exposition.render([*self._instruments.metrics(), *foreign])

    async def close(self) -> None:
        """Exports what is left, and gives up after a few seconds when nobody takes it."""
        loop, closed = asyncio.get_running_loop(), asyncio.Event()

        def close() -> None:
            for provider in (self._tracers, self._meters):
                if provider is not None:
                    provider.shutdown()
            with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
                loop.call_soon_threadsafe(closed.set)

        # a thread of its own: the process would wait for one of the loop's executor, as long as the exporters try again
        threading.Thread(target=close, name="telemetry-close", daemon=True).start()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(closed.wait(), _CLOSE_SECONDS)


class _WithInstruments(MetricExporter):
    """Exports fetch's own instruments with those that the SDK has collected."""

    def __init__(self, instruments: Instruments, resource: Resource) -> None:
        super().__init__()
        self._instruments = instruments
        self._resource = resource
        self._exporter = OTLPMetricExporter()

    def export(self, metrics_data: MetricsData, timeout_millis: float = 10_000, **kwargs: Any) -> MetricExportResult:
        ours = ScopeMetrics(InstrumentationScope("fetch", __version__), self._instruments.metrics(), "")
        foreign = [scope for resource in metrics_data.resource_metrics for scope in resource.scope_metrics]
        resource = ResourceMetrics(self._resource, [ours, *foreign], "")
        return self._exporter.export(MetricsData([resource]), timeout_millis, **kwargs)

    def force_flush(self, timeout_millis: float = 10_000) -> bool:
        return self._exporter.force_flush(timeout_millis)

    def shutdown(self, timeout_millis: float = 30_000, **kwargs: Any) -> None:
        self._exporter.shutdown(timeout_millis, **kwargs)


def _is_wanted(signal: str, environment: Mapping[str, str]) -> bool:
    if environment.get(_DISABLED, "").lower() == "true":
        return False
    exporter = environment.get(f"OTEL_{signal}_EXPORTER", "")
    endpoints = ("OTEL_EXPORTER_OTLP_ENDPOINT", f"OTEL_EXPORTER_OTLP_{signal}_ENDPOINT")
    if exporter == "none" or not (exporter or any(environment.get(name) for name in endpoints)):
        return False
    if exporter not in ("", "otlp"):
        raise TelemetryError(f"OTEL_{signal}_EXPORTER: {exporter!r} is not served, only otlp and none")
    for name in (_PROTOCOL, f"OTEL_EXPORTER_OTLP_{signal}_PROTOCOL"):
        if environment.get(name, _GRPC) != _GRPC:
            raise TelemetryError(f"{name}: {environment[name]!r} is not served, only {_GRPC}")
    return True


def is_tracing() -> bool:
    """Whether spans go anywhere."""
    return not isinstance(trace.get_tracer_provider(), trace.ProxyTracerProvider)

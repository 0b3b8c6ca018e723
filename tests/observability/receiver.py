"""An OTLP receiver: the gRPC services that a collector has for traces and metrics; keeps what it is sent."""

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import grpc
from opentelemetry.proto.collector.metrics.v1 import metrics_service_pb2, metrics_service_pb2_grpc
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2, trace_service_pb2_grpc
from opentelemetry.proto.trace.v1.trace_pb2 import Span

WAIT_SECONDS = 60


@dataclass(slots=True)
class Received:
    """A span, and the name of the service that it comes from."""

    service: str
    span: Span

    @property
    def attributes(self) -> dict[str, Any]:
        return {
            item.key: getattr(item.value, item.value.WhichOneof("value") or "string_value")
            for item in self.span.attributes
        }


@dataclass(slots=True)
class Receiver:
    """What has been received so far."""

    endpoint: str = ""
    spans: list[Received] = field(default_factory=list)
    metric_names: set[str] = field(default_factory=set)
    arrived: threading.Condition = field(default_factory=threading.Condition)

    def wait_for(self, wanted: Callable[["Receiver"], bool]) -> bool:
        """Whether this becomes true of what is received."""
        with self.arrived:
            return self.arrived.wait_for(lambda: wanted(self), WAIT_SECONDS)

    def wait_for_span(self, wanted: Callable[[Received], bool]) -> Received:
        """The first span of which this is true."""
        assert self.wait_for(lambda receiver: any(map(wanted, receiver.spans))), f"not among {len(self.spans)} spans"
        return next(filter(wanted, self.spans))

    def children(self, parent: Received, names: set[str]) -> dict[str, Received]:
        """The spans with these names under a span, once all are there."""

        def found() -> dict[str, Received]:
            under = [received for received in self.spans if received.span.parent_span_id == parent.span.span_id]
            return {received.span.name: received for received in under if received.span.name in names}

        assert self.wait_for(lambda _: found().keys() == names), f"not among {len(self.spans)} spans"
        return found()


class _Traces(trace_service_pb2_grpc.TraceServiceServicer):
    def __init__(self, receiver: Receiver) -> None:
        self._receiver = receiver

    def Export(self, request: Any, context: Any) -> Any:
        with self._receiver.arrived:
            for resource in request.resource_spans:
                names = [a.value.string_value for a in resource.resource.attributes if a.key == "service.name"]
                for scope in resource.scope_spans:
                    self._receiver.spans += [Received(names[0], span) for span in scope.spans]
            self._receiver.arrived.notify_all()
        return trace_service_pb2.ExportTraceServiceResponse()


class _Metrics(metrics_service_pb2_grpc.MetricsServiceServicer):
    def __init__(self, receiver: Receiver) -> None:
        self._receiver = receiver

    def Export(self, request: Any, context: Any) -> Any:
        with self._receiver.arrived:
            for resource in request.resource_metrics:
                for scope in resource.scope_metrics:
                    self._receiver.metric_names |= {metric.name for metric in scope.metrics}
            self._receiver.arrived.notify_all()
        return metrics_service_pb2.ExportMetricsServiceResponse()


@contextmanager
def receiving() -> Iterator[Receiver]:
    """A receiver that serves while the block runs."""
    receiver = Receiver()
    server = grpc.server(ThreadPoolExecutor(2))
    trace_service_pb2_grpc.add_TraceServiceServicer_to_server(_Traces(receiver), server)
    metrics_service_pb2_grpc.add_MetricsServiceServicer_to_server(_Metrics(receiver), server)
    receiver.endpoint = f"http://127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    server.start()
    try:
        yield receiver
    finally:
        server.stop(0.1).wait(5)

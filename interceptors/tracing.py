"""Tracing: a span for each call, continuing the trace that the client is in.

kube-apiserver sends the W3C trace context in the call's metadata. The span carries the tenant and the kind of
operation, so this stands behind authorization and classification; the mutations of a write and the commit that made
it durable are its children. When spans go nowhere, calls pass untouched.

Settings: none. `OTEL_*` variables say where spans go, and which calls are sampled.
"""

from typing import Any

import grpc
from opentelemetry import propagate, trace
from opentelemetry.trace import SpanKind, Status, StatusCode

from fetch.chain import Call, Proceed, Setup, status_of
from fetch.observation.telemetry import is_tracing


class Tracing:
    """Runs the rest of the chain inside a server span."""

    after = ("authorization", "classification")

    def __init__(self, setup: Setup) -> None:
        self._tracer = trace.get_tracer("fetch")
        self._on = is_tracing()

    async def intercept(self, call: Call, proceed: Proceed) -> Any:
        """Ends the span with the call; a refusal is its status."""
        if not self._on:
            return await proceed(call)
        carrier = {key: value for key, value in call.invocation_metadata() or () if isinstance(value, str)}
        service, _, method = call.method[1:].partition("/")
        attributes = {"rpc.system": "grpc", "rpc.service": service, "rpc.method": method, "fetch.kind": call.kind}
        if call.tenant is not None:
            attributes["fetch.tenant"] = call.tenant.tenant
        with self._tracer.start_as_current_span(
            call.method[1:],
            propagate.extract(carrier),
            SpanKind.SERVER,
            attributes,
            record_exception=False,
            set_status_on_exception=False,
        ) as span:
            try:
                answer = await proceed(call)
            except BaseException as error:
                code, text = status_of(error)
                span.set_attribute("rpc.grpc.status_code", code.value[0])
                if code is not grpc.StatusCode.CANCELLED:
                    span.set_status(Status(StatusCode.ERROR, text))
                raise
            span.set_attribute("rpc.grpc.status_code", grpc.StatusCode.OK.value[0])
            return answer

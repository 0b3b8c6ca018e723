"""Metrics: what is called, how it ends and how long it takes.

Two families: go-grpc-prometheus' names, as etcd exports them, so that dashboards made for etcd work; and fetch's, by
tenant and kind of operation, for which this stands behind authorization and classification.
"""

import asyncio
import time
from typing import Any

import grpc
from opentelemetry import metrics

from fetch.chain import Call, Proceed, Setup
from fetch.errors import EtcdError

_STREAMS = {"Watch": "bidi_stream", "LeaseKeepAlive": "bidi_stream", "RangeStream": "server_stream"}


class Metrics:
    """Counts calls when they start and end, and records their durations."""

    def __init__(self, setup: Setup) -> None:
        """Has no settings."""
        meter = metrics.get_meter("fetch")
        self._started = meter.create_counter("grpc_server_started", description="Calls started, by method.")
        self._handled = meter.create_counter("grpc_server_handled", description="Calls ended, by method and code.")
        self._durations = meter.create_histogram(
            "fetch.request.duration", unit="s", description="Time a call takes, by tenant and kind of operation."
        )

    async def intercept(self, call: Call, proceed: Proceed) -> Any:
        """A call that its client cancels counts as CANCELLED."""
        service, _, name = call.method[1:].partition("/")
        method = {"grpc_service": service, "grpc_method": name, "grpc_type": _STREAMS.get(name, "unary")}
        self._started.add(1, method)
        started = time.perf_counter()
        code = grpc.StatusCode.OK
        try:
            return await proceed(call)
        except EtcdError as error:
            code = error.code
            raise
        except asyncio.CancelledError:
            code = grpc.StatusCode.CANCELLED
            raise
        except Exception:
            code = grpc.StatusCode.UNKNOWN
            raise
        finally:
            self._handled.add(1, {**method, "grpc_code": code.name})
            tenant = call.tenant.tenant if call.tenant is not None else ""
            self._durations.record(
                time.perf_counter() - started, {"tenant": tenant, "kind": call.kind, "code": code.name}
            )

"""Metrics: what is called, how it ends, how long it takes and how many bytes pass.

Two families: go-grpc-prometheus' names, as etcd exports them, so that dashboards made for etcd work; and fetch's, by
tenant and kind of operation, for which this stands behind authorization and classification.

Settings: none. `--metrics-tenants` bounds how many tenants have a label of their own.
"""

import re
import time
from typing import Any

import grpc

from fetch.chain import Call, Proceed, Setup, status_of
from fetch.observation.instruments import Labels

_STREAMS = {
    "/etcdserverpb.KV/RangeStream": "server_stream",
    "/etcdserverpb.Lease/LeaseKeepAlive": "bidi_stream",
    "/etcdserverpb.Maintenance/Snapshot": "server_stream",
    "/etcdserverpb.Watch/Watch": "bidi_stream",
    "/grpc.health.v1.Health/Watch": "server_stream",
    "/v3electionpb.Election/Observe": "server_stream",
}
_METHOD = ("grpc_type", "grpc_service", "grpc_method")
_APPLIED = {
    "/etcdserverpb.KV/Put": "Put",
    "/etcdserverpb.KV/DeleteRange": "DeleteRange",
    "/etcdserverpb.KV/Txn": "Txn",
    "/etcdserverpb.KV/Compact": "Compaction",
    "/etcdserverpb.Lease/LeaseGrant": "LeaseGrant",
    "/etcdserverpb.Lease/LeaseRevoke": "LeaseRevoke",
    "/etcdserverpb.Maintenance/Alarm": "Alarm",
}
"""What etcd proposes to its raft, by its name for it."""

_RANGES = ("get", "list", "count")
_VERSION_KEY = "client-api-version"
_MOST_VERSIONS = 20
_APPLY_SECONDS = tuple(0.0001 * 2**exponent for exponent in range(20))
_CODES = {
    code: "OK" if code is grpc.StatusCode.OK else code.name.title().replace("_", "") for code in grpc.StatusCode
} | {grpc.StatusCode.CANCELLED: "Canceled"}
"""Codes as Go spells them."""


_VERSION = re.compile(r"\d{1,2}\.\d{1,2}")


class Metrics:
    """Counts calls, messages and bytes, and records how long calls take."""

    after = ("authorization", "classification")

    def __init__(self, setup: Setup) -> None:
        counter, histogram = setup.instruments.counter, setup.instruments.histogram
        self._label = setup.instruments.tenants.count
        self._methods: dict[str, Labels] = {}
        self._started = counter("grpc_server_started_total", "Calls started.", _METHOD)
        self._handled = counter("grpc_server_handled_total", "Calls ended.", (*_METHOD, "grpc_code"))
        for method in _STREAMS:  # dashboards subtract these two, which takes both to be there
            self._started.add(self._learn(method), 0)
            self._handled.add((*self._learn(method), "OK"), 0)
        self._received = counter("grpc_server_msg_received_total", "Messages of calls.", _METHOD)
        self._sent = counter("grpc_server_msg_sent_total", "Messages of answers.", _METHOD)
        self._seconds = histogram("grpc_server_handling_seconds", "Time until calls ended.", _METHOD)
        self._clients = counter(
            "etcd_server_client_requests_total",
            "Calls by the version of their client.",
            ("type", "client_api_version"),
        )
        self._versions: set[str] = set()
        self._ranges = counter("etcd_mvcc_range_total", "Ranges asked for.")
        self._ranges.add((), 0)
        self._applied = histogram(
            "etcd_server_apply_duration_seconds",
            "Time until what etcd would propose was durable, or refused.",
            ("version", "op", "success"),
            bounds=_APPLY_SECONDS,
        )
        self._bytes_in = counter("etcd_network_client_grpc_received_bytes_total", "Bytes of messages received.")
        self._bytes_out = counter("etcd_network_client_grpc_sent_bytes_total", "Bytes of messages sent.")
        by_kind = ("tenant", "kind")
        self._requests = counter("fetch.requests", "Calls ended, by kind and outcome.", (*by_kind, "code"))
        self._durations = histogram("fetch.request.duration", "Time until calls ended.", by_kind, "s")
        self._tenant_in = counter("fetch.received", "Bytes of messages received.", ("tenant",), "By")
        self._tenant_out = counter("fetch.sent", "Bytes of messages sent.", ("tenant",), "By")

    async def intercept(self, call: Call, proceed: Proceed) -> Any:
        """A call that its client cancels counts as Canceled."""
        method = self._methods.get(call.method) or self._learn(call.method)
        tenant = "" if call.tenant is None else self._label(call.tenant.tenant)
        self._started.add(method)
        self._clients.add(("unary" if method[0] == "unary" else "stream", self._version_of(call)))
        if call.kind in _RANGES:
            self._ranges.add(())
        if not call.request_streaming:
            self._take(method, (tenant,), call.request)
        if method[0] != "unary":
            call = _Counted(call, self, method, (tenant,))
        started = time.perf_counter()
        code = "OK"
        try:
            answer = await proceed(call)
        except BaseException as error:
            code = _CODES[status_of(error)[0]]
            raise
        else:
            if answer is not None:
                self._give(method, (tenant,), answer)
            return answer
        finally:
            seconds = time.perf_counter() - started
            self._handled.add((*method, code))
            self._seconds.record(method, seconds)
            if (applied := _APPLIED.get(call.method)) is not None:
                self._applied.record(("v3", applied, "true" if code == "OK" else "false"), seconds)
            self._requests.add((tenant, call.kind, code))
            self._durations.record((tenant, call.kind), seconds)

    def _version_of(self, call: Call) -> str:
        """What the client says of itself, as far as it is a version; a label that anyone could make up has no end."""
        for name, value in call.invocation_metadata() or ():
            if name == _VERSION_KEY:
                if value in self._versions:
                    return str(value)
                if len(self._versions) < _MOST_VERSIONS and _VERSION.fullmatch(value):
                    self._versions.add(value)
                    return str(value)
                break
        return "unknown"

    def _take(self, method: Labels, tenant: Labels, message: bytes) -> None:
        self._received.add(method)
        self._bytes_in.add((), len(message))
        self._tenant_in.add(tenant, len(message))

    def _give(self, method: Labels, tenant: Labels, message: bytes) -> None:
        self._sent.add(method)
        self._bytes_out.add((), len(message))
        self._tenant_out.add(tenant, len(message))

    def _learn(self, method: str) -> Labels:
        service, _, name = method[1:].partition("/")
        labels = self._methods[method] = (_STREAMS.get(method, "unary"), service, name)
        return labels


class _Counted(Call):
    """A streaming call whose messages are counted."""

    __slots__ = ("_labels", "_metrics", "_of")

    def __init__(self, call: Call, metrics: Metrics, method: Labels, tenant: Labels) -> None:
        super().__init__(call.method, call.request, call)
        self.take_over(call)
        self._metrics, self._of, self._labels = metrics, tenant, method

    async def read(self) -> Any:
        message = await self.context.read()
        if message is not grpc.aio.EOF:
            self._metrics._take(self._labels, self._of, message)  # noqa: SLF001  a part of it
        return message

    async def write(self, message: bytes) -> None:
        await self.context.write(message)
        self._metrics._give(self._labels, self._of, message)  # noqa: SLF001  a part of it

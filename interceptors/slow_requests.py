"""Slow requests: a warning for each unary call that takes longer than it should, as etcd logs them.

The line has etcd's message and fields ("apply request took too long", `took`, `expected-duration`, `request`; see
`server/etcdserver/txn/util.go`), with the tenant, the kind of operation and the trace. Keys are logged, values are not.

Settings: none. `--warning-unary-request-duration` (300 ms) says what is slow.
"""

import logging
import time
from typing import Any

from fetch.chain import Call, Proceed, Setup

logger = logging.getLogger("fetch.slow")


class SlowRequests:
    """Times unary calls, and logs the slow ones."""

    after = ("authorization", "classification")

    def __init__(self, setup: Setup) -> None:
        self._expected = setup.settings.warning_unary_request_duration
        self._slow = setup.instruments.counter("etcd_server_slow_apply_total", "Unary calls that took too long.")
        self._slow.add((), 0)

    async def intercept(self, call: Call, proceed: Proceed) -> Any:
        """Failures are logged like answers: slowness is what counts. Streams and waits take as long as they take."""
        if call.is_open_ended:
            return await proceed(call)
        started = time.perf_counter()
        answer: bytes | None = None
        try:
            answer = await proceed(call)
        finally:
            took = time.perf_counter() - started
            if took > self._expected:
                self._log(call, took, answer)
        return answer

    def _log(self, call: Call, took: float, answer: bytes | None) -> None:
        self._slow.add(())
        fields = {
            "took": f"{took * 1e3:.3f}ms",
            "expected-duration": f"{self._expected * 1e3:g}ms",
            "tenant": "" if call.tenant is None else call.tenant.tenant,
            "kind": call.kind,
            "request": f"{call.method} {key_of(call)} size:{len(call.request)}",
            "response": "none" if answer is None else f"size:{len(answer)}",
        }
        logger.warning("apply request took too long", extra={"fields": fields})


def key_of(call: Call) -> str:
    """The first key that a call of the key-value service names; empty for others."""
    message = call.message
    if hasattr(message, "compare"):
        message = message.compare[0] if message.compare else None
    return getattr(message, "key", b"").decode("utf-8", "backslashreplace")

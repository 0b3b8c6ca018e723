"""What is served of metrics, health and versions: /metrics, /health, /livez, /readyz and /version, as etcd has them.

Paths and answers follow `health.go`, `metrics.go` and `version.go` of etcd's `server/etcdserver/api/etcdhttp`.
"""

import asyncio
import json
from collections.abc import Awaitable, Callable, Mapping
from http import HTTPStatus

import grpc

from fetch.http.answers import JSON, NOSNIFF, ONLY_GET, Answer, Page, Request
from fetch.http.gateway.context import HttpContext
from fetch.http.gateway.metadata import Told
from fetch.http.gateway.statuses import OF_HTTP
from fetch.observation import exposition
from fetch.observation.instruments import Instruments
from fetch.stores.protocol import StoreCorrupt, StoreUnavailable

_LOOK_SECONDS = 5.0
_CORRUPT = "STORE CORRUPT"

Check = Callable[[], Awaitable[str]]
"""Why something is not well; empty when it is."""


def health(
    look: Callable[[], Awaitable[None]], is_serving: Callable[[], bool], instruments: Instruments
) -> dict[str, Page]:
    """The pages of health by their paths.

    `look` looks at the store and raises StoreUnavailable; `is_serving` is false once the daemon stops.

    /livez says that the process answers, and asks nothing of a store that runs elsewhere: to start a daemon again does
    not bring that back. Its check has etcd's name, so that probes made for etcd find it.
    """

    async def reads() -> str:
        if not is_serving():
            return "STOPPING"
        try:
            async with asyncio.timeout(_LOOK_SECONDS):
                await look()
        except StoreCorrupt:
            return _CORRUPT
        except (StoreUnavailable, TimeoutError):
            return "STORE UNAVAILABLE"
        return ""

    async def is_whole() -> str:
        why = await reads()
        return why if why == _CORRUPT else ""

    async def is_well() -> str:
        return ""

    live = {"serializable_read": is_well}
    # a tenant's alarms are its own, and no daemon is a learner
    ready = {
        "data_corruption": is_whole,
        "serializable_read": reads,
        "linearizable_read": reads,
        "non_learner": is_well,
    }
    return {
        "/health": _health(reads, instruments),
        **_checked("/livez", live, instruments),
        **_checked("/readyz", ready, instruments),
    }


def metrics(text: Callable[[], Awaitable[bytes]]) -> Page:
    """/metrics: the text for Prometheus."""

    async def page(_: Request) -> Answer:
        return Answer(HTTPStatus.OK, await text(), exposition.CONTENT_TYPE)

    return page


def own_metrics(handler: grpc.RpcMethodHandler) -> Page:
    """/metrics for clients: what a call behind the request chain answers, which knows whose it is."""

    async def page(request: Request) -> Answer:
        context = HttpContext(request.scope, Told((), None), _nothing, _refuse)
        try:
            return Answer(HTTPStatus.OK, await handler.unary_unary(b"", context), exposition.CONTENT_TYPE)
        except grpc.aio.AbortError:
            status = HTTPStatus(OF_HTTP[context.code() or grpc.StatusCode.INTERNAL])
            return Answer(status, f"{context.details()}\n".encode(), headers=(NOSNIFF,))
        finally:
            context.finish()

    return page


async def _nothing() -> None:
    """There is no stream to read."""


async def _refuse(_: bytes) -> None:
    raise grpc.aio.UsageError("there is no stream to write")


def version(server: str, storage: str) -> Page:
    """/version: the release that is served, and that of etcd's stored data and cluster."""
    told = {"etcdserver": server, "etcdcluster": storage, "storage": storage}
    body = json.dumps(told, separators=(",", ":")).encode()

    async def page(request: Request) -> Answer:
        return Answer(HTTPStatus.OK, body, JSON) if request.method == "GET" else ONLY_GET

    return page


def _health(check: Check, instruments: Instruments) -> Page:
    success = instruments.counter("etcd_server_health_success", "Health checks that succeeded.")
    failures = instruments.counter("etcd_server_health_failures", "Health checks that failed.")
    for counter in (success, failures):
        counter.add((), 0)

    async def page(request: Request) -> Answer:
        if request.method != "GET":
            return ONLY_GET
        why = await check()
        (failures if why else success).add(())
        body = json.dumps({"health": "false" if why else "true", "reason": why}, separators=(",", ":")).encode()
        if why:
            return Answer(HTTPStatus.SERVICE_UNAVAILABLE, body + b"\n", headers=(NOSNIFF,))
        return Answer(HTTPStatus.OK, body)

    return page


def _checked(path: str, checks: Mapping[str, Check], instruments: Instruments) -> dict[str, Page]:
    """The page of all checks, from which `?exclude=NAME` leaves some out, and one for each."""
    outcomes = instruments.counter(
        "etcd_server_healthchecks_total", "Health checks, by outcome.", ("type", "name", "status")
    )

    def page_of(named: Mapping[str, Check]) -> Page:
        async def page(request: Request) -> Answer:
            if request.method != "GET":
                return ONLY_GET
            reasons = {
                name: await check() for name, check in named.items() if name not in request.query.get("exclude", ())
            }
            for name, why in reasons.items():
                outcomes.add((path[1:], name, "error" if why else "success"))
            lines = "".join(f"[-]{name} failed: {why}\n" if why else f"[+]{name} ok\n" for name, why in reasons.items())
            if any(reasons.values()):
                return Answer(HTTPStatus.SERVICE_UNAVAILABLE, lines.encode() + b"\n", headers=(NOSNIFF,))
            told = lines if "verbose" in request.query else ""
            return Answer(HTTPStatus.OK, f"{told}ok\n".encode(), headers=(NOSNIFF,))

        return page

    return {path: page_of(checks), **{f"{path}/{name}": page_of({name: check}) for name, check in checks.items()}}

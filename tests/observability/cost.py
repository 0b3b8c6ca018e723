"""What each interceptor costs: µs of a call that does nothing else. `python -m tests.observability.cost` prints them.

Calls and mutations are made in this process, without a network, so that what is measured is the interceptor alone:
a composed chain with it against one without. The table in docs/observability.md comes from here.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from types import SimpleNamespace
from typing import Any

from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ALWAYS_ON, ParentBased

from fetch import chain
from fetch.api.rpc_pb2 import Compare, PutRequest, RequestOp, TxnRequest
from fetch.chain import Call
from fetch.config import Settings
from fetch.tls import certificates

CALLS = 20_000
ROUNDS = 5
NEEDS: dict[str, tuple[str, ...]] = {"authorization": (), "classification": ()}
"""What has to stand before an interceptor, where it is not authorization and classification."""
CERTIFICATE = certificates.issue(certificates.authority("cost"), "alpha").certificate_pem
SETTINGS = Settings(listen_client_urls=("http://127.0.0.1:2379",), anonymous_tenant="alpha")
UPDATE = TxnRequest(
    compare=[Compare(target="MOD", mod_revision=7, key=b"/registry/pods/default/a")],
    success=[RequestOp(request_put=PutRequest(key=b"/registry/pods/default/a", value=b"x" * 1000))],
).SerializeToString()


class Context:
    """What the interceptors ask of grpcio's context."""

    def invocation_metadata(self) -> Any:
        return (("user-agent", "cost"), ("grpc-accept-encoding", "identity"))

    def auth_context(self) -> Any:
        return {"transport_security_type": [b"ssl"], "x509_pem_cert": [CERTIFICATE]}

    def peer(self) -> str:
        return "ipv4:127.0.0.1:1"


class Tenants:
    """One tenant, open."""

    def get(self, name: str) -> Any:
        return SimpleNamespace(tenant=name)


class Commits:
    """What is to be done after a commit, done at once."""

    def append(self, action: Callable[[], None]) -> None:
        action()


async def added(act: Callable[[], Awaitable[object]], bare: Callable[[], Awaitable[object]]) -> float:
    """µs of CPU that `act` takes more than `bare`: the best of several rounds of each, taken in turns."""
    best = {act: float("inf"), bare: float("inf")}
    for _ in range(ROUNDS):
        for what, least in best.items():
            started = time.thread_time()
            for _ in range(CALLS):
                await what()
            best[what] = min(least, time.thread_time() - started)
    return (best[act] - best[bare]) / CALLS * 1e6


def calling(names: tuple[str, ...]) -> Callable[[], Awaitable[object]]:
    """A call through the chain; the handler is given what classification finds out."""
    settings = Settings(
        listen_client_urls=SETTINGS.listen_client_urls,
        anonymous_tenant="alpha",
        interceptors=names,
        interceptor_settings={"rate_limit": {"rate": 1e9}, "read_only": {"tenants": ["other"]}},
    )
    planned = chain.plan(chain.REQUEST_GROUP, names, settings)
    setup = chain.Setup({}, settings, Tenants())  # type: ignore[arg-type]
    links = [
        chain.Link(p.name, p.origin, p.factory(chain.Setup(p.table, settings, setup.tenants, setup.instruments)))
        for p in planned
    ]

    async def handler(call: Call) -> bytes:
        return b""

    answer = chain.compose(links, handler)
    context = Context()
    return lambda: answer(Call("/etcdserverpb.KV/Txn", UPDATE, context))  # type: ignore[arg-type]


def mutating(names: tuple[str, ...]) -> Callable[[], Awaitable[object]]:
    """A mutation through one interceptor of the operation chain, whose commit succeeds."""
    links = chain.load(chain.OPERATION_GROUP, names, SETTINGS)

    async def apply(mutation: Any) -> None:
        return None

    answer = chain.compose(links, apply)
    batch = SimpleNamespace(after_commit=Commits(), caller=None, revision=1, sub=0)
    return lambda: answer(SimpleNamespace(batch=batch, kind="put", key=b"key"))


async def main() -> None:
    print("| interceptor | µs a call |\n|---|---|")

    async def request(name: str, title: str = "") -> None:
        needs = NEEDS.get(name, ("authorization", "classification"))
        print(f"| `{name}`{title} | {await added(calling((*needs, name)), calling(needs)):.1f} |")

    for name in ("authorization", "classification"):
        await request(name)
    await request("tracing", ", off")
    for name in ("metrics", "slow_requests", "memory", "rate_limit", "concurrency", "read_only", "deadline"):
        await request(name)
    await request("access_log", ", its lines not written")
    for name in ("timing", "errors"):
        print(f"| operation chain: `{name}` | {await added(mutating((name,)), mutating(())):.1f} |")
    trace.set_tracer_provider(TracerProvider(sampler=ParentBased(ALWAYS_OFF)))
    await request("tracing", ", on, call not sampled")
    trace._TRACER_PROVIDER = TracerProvider(sampler=ParentBased(ALWAYS_ON))
    await request("tracing", ", on, call sampled")


if __name__ == "__main__":
    asyncio.run(main())

"""Plain `grpc.aio.ServerInterceptor`s, made for any grpcio server, as links of the chain."""

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Any

import grpc
import pytest
from grpc_interceptor import AsyncServerInterceptor
from opentelemetry.instrumentation.grpc import aio_server_interceptor
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from fetch.chain import Call, Proceed
from tests.chain.serving import link, serving

Continuation = Callable[[grpc.HandlerCallDetails], Awaitable[grpc.RpcMethodHandler]]


class Passes(grpc.aio.ServerInterceptor):  # type: ignore[misc]  # grpcio's class is untyped
    """Notes what it is asked for."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, bool, bool]] = []

    async def intercept_service(
        self, continuation: Continuation, handler_call_details: grpc.HandlerCallDetails
    ) -> grpc.RpcMethodHandler:
        handler = await continuation(handler_call_details)
        name = handler_call_details.method.rpartition("/")[2]
        self.asked.append((name, handler.request_streaming, handler.response_streaming))
        return handler


class Decorates(grpc.aio.ServerInterceptor):  # type: ignore[misc]  # grpcio's class is untyped
    """Changes the answer of unary calls."""

    async def intercept_service(
        self, continuation: Continuation, handler_call_details: grpc.HandlerCallDetails
    ) -> grpc.RpcMethodHandler:
        handler = await continuation(handler_call_details)

        async def decorated(request: bytes, context: grpc.aio.ServicerContext) -> Any:
            return await handler.unary_unary(request, context) + b"!"

        return grpc.unary_unary_rpc_method_handler(decorated)


class WantsToken(grpc.aio.ServerInterceptor):  # type: ignore[misc]  # grpcio's class is untyped
    """Refuses calls that do not bring a token in their metadata."""

    async def intercept_service(
        self, continuation: Continuation, handler_call_details: grpc.HandlerCallDetails
    ) -> grpc.RpcMethodHandler:
        if ("token", "secret") in handler_call_details.invocation_metadata:
            return await continuation(handler_call_details)

        async def refuse(request: bytes, context: grpc.aio.ServicerContext) -> None:
            await context.abort(grpc.StatusCode.UNAUTHENTICATED, "no token")

        return grpc.unary_unary_rpc_method_handler(refuse)


class Iterates(grpc.aio.ServerInterceptor):  # type: ignore[misc]  # grpcio's class is untyped
    """Changes each answer of a stream, as an asynchronous generator."""

    async def intercept_service(
        self, continuation: Continuation, handler_call_details: grpc.HandlerCallDetails
    ) -> grpc.RpcMethodHandler:
        handler = await continuation(handler_call_details)
        behaviour = handler.stream_stream or handler.unary_stream

        async def decorated(request: Any, context: grpc.aio.ServicerContext) -> AsyncIterator[bytes]:
            async for answer in behaviour(request, context):
                yield answer + b"!"

        if handler.request_streaming:
            return grpc.stream_stream_rpc_method_handler(decorated)
        return grpc.unary_stream_rpc_method_handler(decorated)


class Shouts(AsyncServerInterceptor):
    """One of the package grpc-interceptor, whose `intercept` is another than fetch's."""

    async def intercept(
        self, method: Callable[..., Any], request_or_iterator: Any, context: grpc.aio.ServicerContext, method_name: str
    ) -> Any:
        answered = method(request_or_iterator, context)
        return answered if hasattr(answered, "__aiter__") else await answered + b"!"


class Finds:
    """One of fetch's own, which sees what the call carries."""

    def __init__(self) -> None:
        self.kinds: list[str] = []

    async def intercept(self, call: Call, proceed: Proceed) -> Any:
        self.kinds.append(call.kind)
        return await proceed(call)


class Marks:
    """One of fetch's own, which leaves something with the call."""

    async def intercept(self, call: Call, proceed: Proceed) -> Any:
        call.kind = "marked"
        return await proceed(call)


@pytest.mark.parametrize(
    ("method", "answer"),
    [("echo", b"hello"), ("thrice", [b"hello"] * 3), ("converse", [b"HELLO", b"WORLD"])],
)
async def test_calls_of_every_shape_pass(method: str, answer: object) -> None:
    async with serving([link(Passes())]) as caller:
        assert await getattr(caller, method)() == answer


@pytest.mark.parametrize(
    ("method", "asked"),
    [
        ("echo", ("Echo", False, False)),
        ("thrice", ("Thrice", False, True)),
        ("converse", ("Converse", True, True)),
    ],
)
async def test_it_is_shown_the_method_and_its_shape(method: str, asked: tuple[str, bool, bool]) -> None:
    passes = Passes()
    async with serving([link(passes)]) as caller:
        await getattr(caller, method)()
    assert passes.asked == [asked]


async def test_it_is_asked_for_each_call() -> None:
    passes = Passes()
    async with serving([link(passes)]) as caller:
        await caller.echo()
        await caller.echo()
    assert len(passes.asked) == 2


async def test_it_may_change_the_answer_of_a_unary_call() -> None:
    async with serving([link(Decorates())]) as caller:
        assert await caller.echo(b"hello") == b"hello!"


async def test_it_may_refuse_for_what_the_metadata_lack() -> None:
    async with serving([link(WantsToken())]) as caller:
        with pytest.raises(grpc.aio.AioRpcError, match="no token"):
            await caller.echo()


async def test_it_lets_pass_what_has_the_metadata() -> None:
    async with serving([link(WantsToken())]) as caller:
        assert await caller.echo(metadata=[("token", "secret")]) == b"hello"


@pytest.mark.parametrize(
    ("method", "answers"),
    [("thrice", [b"hello!"] * 3), ("converse", [b"HELLO!", b"WORLD!"])],
)
async def test_it_may_change_the_answers_of_a_stream(method: str, answers: list[bytes]) -> None:
    async with serving([link(Iterates())]) as caller:
        assert await getattr(caller, method)() == answers


async def test_it_stands_anywhere_in_the_list() -> None:
    finds = Finds()
    async with serving([link(Marks()), link(Passes()), link(finds)]) as caller:
        await caller.echo()
    assert finds.kinds == ["marked"]


@pytest.mark.parametrize(
    ("method", "answer"),
    [("echo", b"hello!"), ("thrice", [b"hello"] * 3), ("converse", [b"HELLO", b"WORLD"])],
)
async def test_it_may_have_a_method_that_is_called_as_fetchs_own_is(method: str, answer: object) -> None:
    async with serving([link(Shouts())]) as caller:
        assert await getattr(caller, method)() == answer


@pytest.fixture
def spans() -> Iterator[InMemorySpanExporter]:
    exporter = InMemorySpanExporter()
    yield exporter
    exporter.shutdown()


@pytest.mark.parametrize("method", ["echo", "thrice", "converse"])
async def test_opentelemetrys_own_interceptor_works(method: str, spans: InMemorySpanExporter) -> None:
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(spans))
    interceptor = aio_server_interceptor(provider)  # type: ignore[no-untyped-call]
    async with serving([link(interceptor)]) as caller:
        await getattr(caller, method)()
    assert [span.name.lower() for span in spans.get_finished_spans()] == [f"/test.test/{method}"]

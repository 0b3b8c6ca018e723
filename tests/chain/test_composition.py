"""What a call meets on its way through a chain of fetch's own interceptors."""

import gc
import re
import weakref
from dataclasses import dataclass
from typing import Any

import grpc
import pytest
from google.protobuf.message import DecodeError

from fetch import errors
from fetch.chain import Call, Proceed, compose
from fetch.stores.protocol import StoreUnavailable
from tests.chain.serving import HANDLERS, Caller, Handler, link, serving


@dataclass
class Notes:
    """Notes when calls come and go."""

    name: str
    notes: list[str]

    async def intercept(self, call: Call, proceed: Proceed) -> Any:
        self.notes.append(f"{self.name} comes")
        answer = await proceed(call)
        self.notes.append(f"{self.name} goes")
        return answer


class Answers:
    """Answers itself."""

    async def intercept(self, call: Call, proceed: Proceed) -> Any:
        return b"answered"


class Changes:
    """Changes what comes, and what goes."""

    async def intercept(self, call: Call, proceed: Proceed) -> Any:
        changed = Call(call.method, call.request + b" changed", call)
        return await proceed(changed) + b" twice"


class Refuses:
    async def intercept(self, call: Call, proceed: Proceed) -> Any:
        raise errors.Refused(grpc.StatusCode.PERMISSION_DENIED, "not you")


class Translates:
    """Hands on a call of its own, whose messages are others both ways."""

    async def intercept(self, call: Call, proceed: Proceed) -> Any:
        return await proceed(_Translated(call.method, call.request, call))


class _Translated(Call):
    async def read(self) -> Any:
        message = await super().read()
        return message if message is grpc.aio.EOF else b"read " + message

    async def write(self, message: bytes) -> None:
        await super().write(b"written " + message)


async def refusal(caller: Caller, method: str) -> tuple[grpc.StatusCode, str | None]:
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await getattr(caller, method)()
    return refused.value.code(), refused.value.details()


async def test_the_first_link_is_the_outermost() -> None:
    notes: list[str] = []
    async with serving([link(Notes("first", notes)), link(Notes("second", notes))]) as caller:
        await caller.echo()
    assert notes == ["first comes", "second comes", "second goes", "first goes"]


@pytest.mark.parametrize("method", ["echo", "thrice", "converse"])
async def test_one_shape_serves_all_calls(method: str) -> None:
    notes: list[str] = []
    async with serving([link(Notes("it", notes))]) as caller:
        await getattr(caller, method)()
    assert notes == ["it comes", "it goes"]


async def test_a_chain_without_links_is_the_handler() -> None:
    async with serving([]) as caller:
        assert (await caller.echo(), await caller.thrice(), await caller.converse()) == (
            b"hello",
            [b"hello"] * 3,
            [b"HELLO", b"WORLD"],
        )


async def test_an_interceptor_may_answer_and_nothing_behind_it_hears_of_the_call() -> None:
    notes: list[str] = []
    async with serving([link(Answers()), link(Notes("behind", notes))]) as caller:
        assert (await caller.echo(), notes) == (b"answered", [])


async def test_an_interceptor_may_change_request_and_answer() -> None:
    async with serving([link(Changes())]) as caller:
        assert await caller.echo(b"hello") == b"hello changed twice"


async def test_an_interceptor_may_change_the_messages_of_a_stream() -> None:
    async with serving([link(Translates())]) as caller:
        assert await caller.converse([b"one"]) == [b"written READ ONE"]


@pytest.mark.parametrize("method", ["echo", "thrice", "listen"])
async def test_an_interceptor_may_refuse_a_call(method: str) -> None:
    async with serving([link(Refuses())]) as caller:
        assert await refusal(caller, method) == (grpc.StatusCode.PERMISSION_DENIED, "not you")


async def test_a_chain_is_composed_once_and_runs_for_each_call() -> None:
    notes: list[str] = []
    composed = compose([link(Notes("it", notes))], lambda _: _done())
    await composed("first")
    await composed("second")
    assert notes == ["it comes", "it goes"] * 2


async def _done() -> None:
    pass


def failing(error: Exception) -> dict[str, grpc.RpcMethodHandler]:
    """Handlers that all end with this error."""

    async def fail(_: Any, call: Call) -> None:
        raise error

    handler: Handler = fail
    return {
        "Echo": grpc.unary_unary_rpc_method_handler(handler),
        "Thrice": grpc.unary_stream_rpc_method_handler(handler),
        "Converse": grpc.stream_stream_rpc_method_handler(handler),
    }


@pytest.mark.parametrize("method", ["echo", "thrice", "listen"])
@pytest.mark.parametrize(
    ("error", "code", "text"),
    [
        (errors.Compacted(), grpc.StatusCode.OUT_OF_RANGE, "etcdserver: mvcc: required revision has been compacted"),
        (errors.NoSpace(), grpc.StatusCode.RESOURCE_EXHAUSTED, "etcdserver: mvcc: database space exceeded"),
        (
            errors.Refused(grpc.StatusCode.ABORTED, "in words of its own"),
            grpc.StatusCode.ABORTED,
            "in words of its own",
        ),
        (StoreUnavailable("down"), grpc.StatusCode.UNAVAILABLE, "etcdserver: request timed out"),
    ],
    ids=["an etcd error", "another", "a refusal", "a store that is gone"],
)
async def test_an_error_that_leaves_the_chain_is_the_status(
    error: Exception, code: grpc.StatusCode, text: str, method: str
) -> None:
    async with serving([], failing(error)) as caller:
        assert await refusal(caller, method) == (code, text)


async def test_a_request_that_is_no_message_is_an_internal_error_as_in_grpc_go() -> None:
    async with serving([], failing(DecodeError("wrong wire type"))) as caller:
        code, text = await refusal(caller, "echo")
    assert (code, str(text).startswith("grpc: error unmarshalling request")) == (grpc.StatusCode.INTERNAL, True)


async def test_an_interceptor_sees_the_error_of_the_handler() -> None:
    seen: list[Exception] = []

    class Sees:
        async def intercept(self, call: Call, proceed: Proceed) -> Any:
            try:
                return await proceed(call)
            except errors.EtcdError as error:
                seen.append(error)
                raise

    async with serving([link(Sees())], failing(errors.Compacted())) as caller:
        await refusal(caller, "echo")
    assert [type(error) for error in seen] == [errors.Compacted]


def test_every_shape_has_a_handler() -> None:
    assert [(handler.request_streaming, handler.response_streaming) for handler in HANDLERS.values()] == [
        (False, False),
        (False, True),
        (True, True),
    ]


class Fails:
    """Has a defect."""

    async def intercept(self, call: Call, proceed: Proceed) -> Any:
        raise RuntimeError("/registry/secrets/of-another-tenant")


class FailsBehind:
    """Has a defect that shows when the call has been answered in part."""

    async def intercept(self, call: Call, proceed: Proceed) -> Any:
        if not call.request_streaming:
            await proceed(call)
        raise KeyError("/registry/secrets/of-another-tenant")


@pytest.mark.parametrize("interceptor", [Fails, FailsBehind])
@pytest.mark.parametrize("method", ["echo", "thrice", "listen"])
async def test_what_nobody_foresaw_is_told_to_the_log_and_not_to_the_client(
    method: str, interceptor: type, caplog: pytest.LogCaptureFixture
) -> None:
    async with serving([link(interceptor())]) as caller:
        code, details = await refusal(caller, method)
    assert code is grpc.StatusCode.INTERNAL
    said = re.fullmatch(r"etcdserver: internal error (\w{8})", details or "")
    assert said is not None
    (record,) = [record for record in caplog.records if said[1] in record.getMessage()]
    assert record.exc_info is not None
    assert "of-another-tenant" in str(record.exc_info[1])


class Held:
    """What a call has read."""


async def test_a_refused_call_lets_go_of_what_it_held_without_the_garbage_collector() -> None:
    held: list[weakref.ref[Held]] = []

    class Reads:
        async def intercept(self, call: Call, proceed: Proceed) -> Any:
            read = Held()
            held.append(weakref.ref(read))
            raise errors.ResponseTooLarge

    gc.disable()
    try:
        async with serving([link(Reads())]) as caller:
            for _ in range(3):
                await refusal(caller, "echo")
            assert [it() for it in held[:2]] == [None, None]
    finally:
        gc.enable()

"""What an interceptor is, and how a chain of them is composed and checked.

fetch has two chains, which are one idea at two depths. The request chain goes around each gRPC call, the operation
chain around each mutation inside the storage transaction. An interceptor has one method,

    async def intercept(self, call, proceed): ...

which answers, refuses, changes or times what passes: `await proceed(call)` is the rest of the chain and, at its end,
the handler. One shape serves unary and streaming calls: messages of a stream pass `call.read()` and `call.write()`, and
an interceptor that wants to see them hands on a call of its own. Chains are composed once, when the server starts.

Anyone adds an interceptor by an entry point in the group `fetch.interceptors` (or `fetch.transaction_interceptors`)
and by naming it in the configuration. A plain `grpc.aio.ServerInterceptor` works in the same list.
"""

import asyncio
import functools
import importlib.metadata
import inspect
import logging
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

import grpc
from google.protobuf.message import DecodeError

from fetch import errors
from fetch.config import Settings
from fetch.instruments import Instruments
from fetch.stores.protocol import StoreFull, StoreUnavailable

if TYPE_CHECKING:
    from fetch.engine.batch import Mutation
    from fetch.engine.engine import StorageEngine
    from fetch.engine.tenants import Tenants

REQUEST_GROUP = "fetch.interceptors"
OPERATION_GROUP = "fetch.transaction_interceptors"

logger = logging.getLogger(__name__)


class ChainError(Exception):
    """A chain that cannot be composed: an unknown interceptor, one that cannot be made, or a wrong order."""


class Call(grpc.aio.ServicerContext):  # type: ignore[misc]  # grpcio's class is untyped
    """One gRPC call on its way through the request chain: grpcio's context, with what the interceptors found out.

    `method` is the full method name, `request` the message as raw bytes, empty where it is a stream of them, which
    `request_streaming` tells; `response_streaming` tells whether the answers are one. `authorization` sets
    `tenant`, `classification` sets `kind` and `message` (the request, parsed).
    """

    __slots__ = (
        "context",
        "kind",
        "message",
        "method",
        "request",
        "request_streaming",
        "response_streaming",
        "tenant",
    )

    def __init__(self, method: str, request: bytes, context: grpc.aio.ServicerContext) -> None:
        self.method = method
        self.request = request
        self.context = context
        self.request_streaming = False
        self.response_streaming = False
        self.tenant: StorageEngine | None = None
        self.kind = ""
        self.message: Any = None

    def take_over(self, call: "Call") -> None:
        """Takes over what is known of another call: for one that stands in for it."""
        self.request_streaming, self.response_streaming = call.request_streaming, call.response_streaming
        self.tenant, self.kind, self.message = call.tenant, call.kind, call.message

    async def read(self) -> Any:
        """The next message of the client's stream, `grpc.aio.EOF` behind the last."""
        return await self.context.read()

    async def write(self, message: bytes) -> None:
        """Sends a message to the client; returns when there is room for the next."""
        await self.context.write(message)

    async def send_initial_metadata(self, initial_metadata: Any) -> None:
        await self.context.send_initial_metadata(initial_metadata)

    async def abort(self, code: grpc.StatusCode, details: str = "", trailing_metadata: Any = ()) -> None:
        await self.context.abort(code, details, trailing_metadata)

    async def abort_with_status(self, status: grpc.Status) -> None:
        await self.context.abort_with_status(status)

    def set_trailing_metadata(self, trailing_metadata: Any) -> None:
        self.context.set_trailing_metadata(trailing_metadata)

    def invocation_metadata(self) -> Any:
        return self.context.invocation_metadata()

    def set_code(self, code: grpc.StatusCode) -> None:
        self.context.set_code(code)

    def set_details(self, details: str) -> None:
        self.context.set_details(details)

    def set_compression(self, compression: grpc.Compression) -> None:
        self.context.set_compression(compression)

    def disable_next_message_compression(self) -> None:
        self.context.disable_next_message_compression()

    def peer(self) -> str:
        return str(self.context.peer())

    def peer_identities(self) -> Any:
        return self.context.peer_identities()

    def peer_identity_key(self) -> Any:
        return self.context.peer_identity_key()

    def auth_context(self) -> Any:
        return self.context.auth_context()

    def time_remaining(self) -> Any:
        return self.context.time_remaining()

    def trailing_metadata(self) -> Any:
        return self.context.trailing_metadata()

    def code(self) -> Any:
        return self.context.code()

    def details(self) -> Any:
        return self.context.details()

    def add_done_callback(self, callback: Callable[[Any], None]) -> None:
        self.context.add_done_callback(callback)

    def cancelled(self) -> bool:
        return bool(self.context.cancelled())

    def done(self) -> bool:
        return bool(self.context.done())


Proceed = Callable[[Call], Awaitable[Any]]
ProceedMutation = Callable[["Mutation"], Awaitable[None]]


class Interceptor(Protocol):
    """An interceptor of the request chain.

    `after` may name interceptors that have to stand before it in the chain.
    """

    async def intercept(self, call: Call, proceed: Proceed) -> Any:
        """Answers the call: a unary call's response as bytes; what streams returns None."""


class MutationInterceptor(Protocol):
    """An interceptor of the operation chain. May run more than once for one mutation, when its transaction meets a
    conflict: effects outside of the transaction belong into `mutation.batch.after_commit`."""

    async def intercept(self, mutation: "Mutation", proceed: ProceedMutation) -> None:
        """Lets the mutation pass, or raises what its write answers; then nothing of the write takes place."""


@dataclass(frozen=True, slots=True)
class Setup:
    """What an interceptor is made from: its own table of the configuration, all settings, the tenants (only in the
    request chain), and the instruments that it may count and measure with."""

    table: Mapping[str, object]
    settings: Settings
    tenants: "Tenants | None" = None
    instruments: Instruments = field(default_factory=Instruments)


@dataclass(frozen=True, slots=True)
class Link:
    """An interceptor in a chain: the name that the configuration gives it, where it comes from, and itself."""

    name: str
    origin: str
    interceptor: Any
    after: Sequence[str] = field(default=())


@dataclass(frozen=True, slots=True)
class Planned:
    """An interceptor that a chain will have: its name, the entry point's value and the package that this comes from,
    its table of the configuration, and what has to stand before it. `factory` makes it."""

    name: str
    origin: str
    package: str
    table: Mapping[str, object]
    after: Sequence[str]
    factory: Callable[..., Any]


def plan(group: str, names: Sequence[str], settings: Settings) -> list[Planned]:
    """The interceptors that a chain will have, in this order, looked up among the entry points.

    :raises ChainError: one is unknown, given twice, in the wrong place, or cannot be imported
    """
    known = _entry_points(group)
    planned: list[Planned] = []
    for name in names:
        entry = known.get(name)
        if entry is None:
            raise ChainError(f"unknown interceptor {name!r} (known: {', '.join(sorted(known))})")
        if any(other.name == name for other in planned):
            raise ChainError(f"interceptor {name!r} is named twice")
        try:
            factory = entry.load()
        except Exception as error:
            raise ChainError(f"interceptor {name!r} cannot be imported: {error}") from error
        table = settings.interceptor_settings.get(name, {})
        planned.append(Planned(name, entry.value, _package(entry), table, getattr(factory, "after", ()), factory))
    _check_order(planned)
    return planned


def available(group: str) -> list[str]:
    """The names that a chain may have.

    :raises ChainError: two entry points have one name
    """
    return sorted(_entry_points(group))


def _entry_points(group: str) -> dict[str, importlib.metadata.EntryPoint]:
    """The entry points of a group by their names, each from one package: the order of a path must not choose."""
    known: dict[str, importlib.metadata.EntryPoint] = {}
    for entry in importlib.metadata.entry_points(group=group):
        other = known.setdefault(entry.name, entry)
        if other is not entry:
            both = sorted(f"{_package(each)} ({each.value})" for each in (entry, other))
            raise ChainError(f"two packages have an interceptor {entry.name!r} in {group}: {' and '.join(both)}")
    return known


def _package(entry: importlib.metadata.EntryPoint) -> str:
    return "" if entry.dist is None else f"{entry.dist.name} {entry.dist.version}"


def load(
    group: str,
    names: Sequence[str],
    settings: Settings,
    tenants: "Tenants | None" = None,
    instruments: Instruments | None = None,
) -> list[Link]:
    """The interceptors of a chain, made from the entry points that have these names, in this order.

    :raises ChainError: one is unknown, given twice, in the wrong place, or cannot be made
    """
    instruments = instruments or Instruments(settings.metrics_tenants)
    links: list[Link] = []
    for planned in plan(group, names, settings):
        table, factory = planned.table, planned.factory
        try:
            interceptor = (
                factory(**table) if _is_foreign(factory) else factory(Setup(table, settings, tenants, instruments))
            )
        except Exception as error:
            raise ChainError(f"interceptor {planned.name!r} cannot be made: {error}") from error
        links.append(Link(planned.name, planned.origin, interceptor, planned.after))
    return links


def compose(links: Sequence[Link], handler: Callable[[Any], Awaitable[Any]]) -> Callable[[Any], Awaitable[Any]]:
    """The chain: the first link outermost, the handler at its end."""
    for link in reversed(links):
        intercept = link.interceptor.intercept if hasattr(link.interceptor, "intercept") else _Foreign(link).intercept
        handler = functools.partial(intercept, proceed=handler)
    return handler


def wrap(method: str, handler: grpc.RpcMethodHandler, links: Sequence[Link]) -> grpc.RpcMethodHandler:
    """The handler of a method (raw bytes) behind the request chain.

    Whatever error leaves the chain becomes the status of the call, in etcd's code and words.
    """
    served = handler.unary_unary or handler.unary_stream or handler.stream_stream
    answer = compose(links, lambda call: served(call.request, call))

    async def serve_stream(request: Any, context: grpc.aio.ServicerContext) -> None:
        # a function, since grpcio tells by its kind that a stream is written by `context.write`; a partial has none
        call = Call(method, b"" if handler.request_streaming else request, context)
        call.request_streaming, call.response_streaming = handler.request_streaming, handler.response_streaming
        await _serve(answer, call)

    async def serve_unary(request: bytes, context: grpc.aio.ServicerContext) -> Any:
        return await _serve(answer, Call(method, request, context))

    if handler.request_streaming:
        return grpc.stream_stream_rpc_method_handler(serve_stream)
    if handler.response_streaming:
        return grpc.unary_stream_rpc_method_handler(serve_stream)
    return grpc.unary_unary_rpc_method_handler(serve_unary)


_INTERNAL = grpc.StatusCode.INTERNAL, "etcdserver: internal error"
"""Clients of etcd try again after INTERNAL, and give up after the UNKNOWN that gRPC would send."""


async def _serve(answer: Proceed, call: Call) -> Any:
    try:
        return await answer(call)
    except (errors.EtcdError, DecodeError, StoreUnavailable, StoreFull) as error:
        await call.context.abort(*status_of(error))
    except grpc.aio.AbortError:
        raise  # the call has its status
    except Exception:
        if call.context.done():
            raise  # nobody waits for an answer any more, which may be what failed
        # what nobody foresaw is told to the log alone: its text may hold anything, other tenants' names included
        number = secrets.token_hex(4)
        logger.exception("%s failed: internal error %s", call.method, number)
        code, text = _INTERNAL
        await call.context.abort(code, f"{text} {number}")


def status_of(error: BaseException) -> tuple[grpc.StatusCode, str]:
    """The status that a call ends with when this error leaves the chain."""
    match error:
        case errors.EtcdError():
            return error.code, error.text
        case DecodeError():
            return grpc.StatusCode.INTERNAL, f"grpc: error unmarshalling request: {error}"
        case StoreUnavailable() | StoreFull():
            answer = errors.of_store(error)
            return answer.code, answer.text
        case asyncio.CancelledError():
            return grpc.StatusCode.CANCELLED, "the client hung up"
        case _:
            return _INTERNAL


class _Foreign:
    """A plain `grpc.aio.ServerInterceptor` as a link: asked for each call, since it may look at the call's metadata.

    It is shown a handler of the call's own shape, whose streams it can iterate over and hand on changed.
    """

    def __init__(self, link: Link) -> None:
        self._interceptor = link.interceptor

    async def intercept(self, call: Call, proceed: Proceed) -> Any:
        async def answer(request: Any, _: grpc.aio.ServicerContext) -> Any:
            call.request = request
            return await proceed(call)

        async def answers(request: Any, _: grpc.aio.ServicerContext) -> AsyncIterator[bytes]:
            piped = _Piped(call, request)
            rest = asyncio.create_task(piped.run(proceed))
            try:
                while (message := await piped.answers.get()) is not _END:
                    yield message
                await rest
            finally:
                rest.cancel()

        async def continuation(_: Any) -> grpc.RpcMethodHandler:
            if call.request_streaming:
                return grpc.stream_stream_rpc_method_handler(answers)
            if call.response_streaming:
                return grpc.unary_stream_rpc_method_handler(answers)
            return grpc.unary_unary_rpc_method_handler(answer)

        details = _Details(call.method, call.invocation_metadata())
        handler = await self._interceptor.intercept_service(continuation, details)
        if handler is None:
            raise errors.Refused(grpc.StatusCode.UNIMPLEMENTED, "Method not found!")
        served = handler.stream_stream or handler.unary_stream or handler.stream_unary or handler.unary_unary
        answered: Any = served(_messages(call) if handler.request_streaming else call.request, call)
        if not inspect.isasyncgen(answered):
            return await answered
        messages: AsyncIterator[Any] = answered
        async for message in messages:
            await call.write(message)
        return None


_END = object()


class _Piped(Call):
    """A streaming call behind a foreign interceptor: it reads what that hands on, and writes what that iterates over.

    One answer is under way at a time, so a slow client is felt by the handler.
    """

    __slots__ = ("_messages", "answers")

    def __init__(self, call: Call, request: Any) -> None:
        super().__init__(call.method, b"" if call.request_streaming else request, call)
        self.take_over(call)
        self._messages: AsyncIterator[bytes] | None = request if call.request_streaming else None
        self.answers: asyncio.Queue[Any] = asyncio.Queue(1)

    async def run(self, proceed: Proceed) -> None:
        """Runs the rest of the chain, then ends the answers."""
        try:
            await proceed(self)
        finally:
            await self.answers.put(_END)

    async def read(self) -> Any:
        return grpc.aio.EOF if self._messages is None else await anext(self._messages, grpc.aio.EOF)

    async def write(self, message: bytes) -> None:
        await self.answers.put(message)


@dataclass(frozen=True, slots=True)
class _Details:
    method: str
    invocation_metadata: Any


async def _messages(call: Call) -> AsyncIterator[bytes]:
    while (message := await call.read()) is not grpc.aio.EOF:
        yield message


def _is_foreign(made: object) -> bool:
    return isinstance(made, type) and issubclass(made, grpc.aio.ServerInterceptor) and not hasattr(made, "intercept")


def _check_order(planned: Sequence[Planned]) -> None:
    names = [link.name for link in planned]
    for position, link in enumerate(planned):
        for needed in link.after:
            if needed in names[:position]:
                continue
            where = "behind it" if needed in names else "not in it at all"
            raise ChainError(
                f"interceptor {link.name!r} needs {needed!r} before it in the chain, where it is {where}: "
                f"the chain is {', '.join(names)}"
            )

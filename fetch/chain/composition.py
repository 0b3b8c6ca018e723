"""How a chain is composed, once, when the server starts; and how a gRPC method is served behind it."""

import functools
import logging
import secrets
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import grpc
from google.protobuf.message import DecodeError

from fetch import errors
from fetch.chain.call import Call
from fetch.chain.foreign import Foreign, is_foreign
from fetch.chain.interceptor import Proceed
from fetch.chain.planning import Link
from fetch.chain.status import INTERNAL, refusal_of, status_of
from fetch.observation.refusals import Refusals
from fetch.stores.protocol import StoreFull, StoreUnavailable

logger = logging.getLogger(__name__)


def compose(links: Sequence[Link], handler: Callable[[Any], Awaitable[Any]]) -> Callable[[Any], Awaitable[Any]]:
    """The chain: the first link outermost, the handler at its end."""
    for link in reversed(links):
        interceptor = Foreign(link.interceptor) if is_foreign(link.interceptor) else link.interceptor
        handler = functools.partial(interceptor.intercept, proceed=handler)
    return handler


def wrap(
    method: str, handler: grpc.RpcMethodHandler, links: Sequence[Link], refusals: Refusals | None = None
) -> grpc.RpcMethodHandler:
    """The handler of a method (raw bytes) behind the request chain.

    Whatever error leaves the chain becomes the status of the call, in etcd's code and words. One that refuses something
    is told to `refusals`.
    """
    served = handler.unary_unary or handler.unary_stream or handler.stream_stream
    answer = compose(links, lambda call: served(call.request, call))

    async def serve_stream(request: Any, context: grpc.aio.ServicerContext) -> None:
        # a function, since grpcio tells by its kind that a stream is written by `context.write`; a partial has none
        call = Call(method, b"" if handler.request_streaming else request, context)
        call.request_streaming, call.response_streaming = handler.request_streaming, handler.response_streaming
        await _serve(answer, call, refusals)

    async def serve_unary(request: bytes, context: grpc.aio.ServicerContext) -> Any:
        return await _serve(answer, Call(method, request, context), refusals)

    if handler.request_streaming:
        return grpc.stream_stream_rpc_method_handler(serve_stream)
    if handler.response_streaming:
        return grpc.unary_stream_rpc_method_handler(serve_stream)
    return grpc.unary_unary_rpc_method_handler(serve_unary)


async def _serve(answer: Proceed, call: Call, refusals: Refusals | None) -> Any:
    try:
        return await answer(call)
    except (errors.EtcdError, DecodeError, StoreUnavailable, StoreFull) as error:
        # the traceback leads to all that was read for the answer, half a GiB at worst, and what `abort` raises leads to
        # the error from within a cycle, which only the garbage collector would find
        error.__traceback__ = error.__context__ = error.__cause__ = None
        if refusals is not None:
            _tell(refusals, call, error)
        await call.context.abort(*status_of(error))
    except grpc.aio.AbortError:
        raise  # the call has its status
    except Exception:
        if call.context.done():
            raise  # nobody waits for an answer any more, which may be what failed
        # what nobody foresaw is told to the log alone: its text may hold anything, other tenants' names included
        number = secrets.token_hex(4)
        logger.exception("%s failed: internal error %s", call.method, number)
        code, text = INTERNAL
        await call.context.abort(code, f"{text} {number}")


def _tell(refusals: Refusals, call: Call, error: Exception) -> None:
    reason = refusal_of(error)
    if reason:
        peer = call.peer()
        refusals.report(
            reason,
            tenant="" if call.tenant is None else call.tenant.tenant,
            who=peer.rpartition(":")[0],
            peer=peer,
            principal=getattr(error, "name", ""),
            method=call.method,
            why=status_of(error)[1],
        )

"""What an interceptor is, and what it is made from.

fetch has two chains, which are one idea at two depths. The request chain goes around each gRPC call, the operation
chain around each mutation inside the storage transaction. An interceptor has one method,

    async def intercept(self, call, proceed): ...

which answers, refuses, changes or times what passes: `await proceed(call)` is the rest of the chain and, at its end,
the handler. One shape serves unary and streaming calls: messages of a stream pass `call.read()` and `call.write()`, and
an interceptor that wants to see them hands on a call of its own.
"""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from fetch.chain.call import Call
from fetch.config import Settings
from fetch.engine.batch import Mutation
from fetch.engine.protocol import Tenants
from fetch.observation.instruments import Instruments

Proceed = Callable[[Call], Awaitable[Any]]
ProceedMutation = Callable[[Mutation], Awaitable[None]]


class Interceptor(Protocol):
    """An interceptor of the request chain.

    `after` may name interceptors that have to stand before it in the chain.
    """

    async def intercept(self, call: Call, proceed: Proceed) -> Any:
        """Answers the call: a unary call's response as bytes; what streams returns None."""


class MutationInterceptor(Protocol):
    """An interceptor of the operation chain. May run more than once for one mutation, when its transaction meets a
    conflict: effects outside of the transaction belong into `mutation.batch.after_commit`."""

    async def intercept(self, mutation: Mutation, proceed: ProceedMutation) -> None:
        """Lets the mutation pass, or raises what its write answers; then nothing of the write takes place."""


class Trust(Protocol):
    """Whether clients that TLS has let in would be let in now: authorities come and go, certificates are revoked."""

    def refusal(self, certificates: bytes) -> str:
        """Why a client with these certificates (PEM, its own first) would not be; empty if it would."""

    def on_change(self, changed: Callable[[], None]) -> None:
        """Calls back when `refusal` may say something else than before."""


@dataclass(frozen=True, slots=True)
class Setup:
    """What an interceptor is made from: its own table of the configuration, all settings, the tenants (only in the
    request chain), the instruments that it may count and measure with, and whom TLS trusts."""

    table: Mapping[str, object]
    settings: Settings
    tenants: Tenants | None = None
    instruments: Instruments = field(default_factory=Instruments)
    trust: Trust | None = None

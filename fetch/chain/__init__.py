"""The chain: what a call and an interceptor are, and how interceptors become a chain.

What somebody who writes an interceptor needs is here; the modules are `call`, `interceptor`, `planning`, `composition`,
`foreign` (those written for grpcio), `status`, `tables` (their settings), `parsing` (of large requests) and
`interruption`.
"""

from fetch.chain.call import Call
from fetch.chain.composition import compose, wrap
from fetch.chain.interceptor import Interceptor, MutationInterceptor, Proceed, ProceedMutation, Setup
from fetch.chain.planning import OPERATION_GROUP, REQUEST_GROUP, ChainError, Link, Planned, available, load, plan
from fetch.chain.status import status_of

__all__ = [
    "OPERATION_GROUP",
    "REQUEST_GROUP",
    "Call",
    "ChainError",
    "Interceptor",
    "Link",
    "MutationInterceptor",
    "Planned",
    "Proceed",
    "ProceedMutation",
    "Setup",
    "available",
    "compose",
    "load",
    "plan",
    "status_of",
    "wrap",
]

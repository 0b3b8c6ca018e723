"""What an endpoint refuses, with the code and the very text, which etcd's Go client matches on.

Written down from etcd's answers and not taken from fetch, so that the two are compared.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import grpc
import pytest
from grpc import StatusCode


@dataclass(frozen=True, slots=True)
class Refusal:
    code: StatusCode
    text: str


EMPTY_KEY = Refusal(StatusCode.INVALID_ARGUMENT, "etcdserver: key is not provided")
KEY_NOT_FOUND = Refusal(StatusCode.INVALID_ARGUMENT, "etcdserver: key not found")
VALUE_PROVIDED = Refusal(StatusCode.INVALID_ARGUMENT, "etcdserver: value is provided")
LEASE_PROVIDED = Refusal(StatusCode.INVALID_ARGUMENT, "etcdserver: lease is provided")
TOO_MANY_OPERATIONS = Refusal(StatusCode.INVALID_ARGUMENT, "etcdserver: too many operations in txn request")
DUPLICATE_KEY = Refusal(StatusCode.INVALID_ARGUMENT, "etcdserver: duplicate key given in txn request")
INVALID_SORT_OPTION = Refusal(StatusCode.INVALID_ARGUMENT, "etcdserver: invalid sort option")
REQUEST_TOO_LARGE = Refusal(StatusCode.INVALID_ARGUMENT, "etcdserver: request is too large")
COMPACTED = Refusal(StatusCode.OUT_OF_RANGE, "etcdserver: mvcc: required revision has been compacted")
FUTURE_REVISION = Refusal(StatusCode.OUT_OF_RANGE, "etcdserver: mvcc: required revision is a future revision")
NO_SPACE = Refusal(StatusCode.RESOURCE_EXHAUSTED, "etcdserver: mvcc: database space exceeded")
LEASE_NOT_FOUND = Refusal(StatusCode.NOT_FOUND, "etcdserver: requested lease not found")
LEASE_EXISTS = Refusal(StatusCode.FAILED_PRECONDITION, "etcdserver: lease already exists")
LEASE_TTL_TOO_LARGE = Refusal(StatusCode.OUT_OF_RANGE, "etcdserver: too large lease TTL")
STREAM_SORT_UNSUPPORTED = Refusal(StatusCode.UNIMPLEMENTED, "RangeStream does not support custom sort orders")
STREAM_FILTER_UNSUPPORTED = Refusal(StatusCode.UNIMPLEMENTED, "RangeStream does not support revision filters")

# of locks and elections, which lose the codes of what they stand on
SESSION_EXPIRED = Refusal(StatusCode.UNKNOWN, "mutex: session is expired")
NOT_LEADER = Refusal(StatusCode.UNKNOWN, "election: not leader")
NO_LEADER = Refusal(StatusCode.UNKNOWN, "election: no leader")
MISSING_LEADER = Refusal(StatusCode.UNKNOWN, '"leader" field must be provided')


def without_code(refusal: Refusal) -> Refusal:
    """The same where it is told by a lock or an election."""
    return Refusal(StatusCode.UNKNOWN, refusal.text)


@contextmanager
def refused(refusal: Refusal) -> Iterator[None]:
    """Expects the call in the block to be refused in exactly this way."""
    with pytest.raises(grpc.RpcError) as caught:
        yield
    assert (caught.value.code(), caught.value.details()) == (refusal.code, refusal.text)

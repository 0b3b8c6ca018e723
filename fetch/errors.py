"""etcd's errors: the gRPC code and the exact text, which etcd's Go client matches on.

Codes and texts follow `api/v3rpc/rpctypes/error.go` of etcd. The engine raises them, the request chain turns
whichever leaves it into the status of the call.
"""

from typing import ClassVar

import grpc

from fetch.stores.protocol import StoreBusy, StoreCorrupt, StoreFull, StoreUnavailable

_Code = grpc.StatusCode


class EtcdError(Exception):
    """An answer other than success, as etcd words it.

    `code` and `text` become the status code and the message of the call.
    """

    code: ClassVar[grpc.StatusCode] = _Code.UNKNOWN
    text: ClassVar[str] = ""
    refusal: ClassVar[str] = ""
    """What operators call it where it is a refusal: a limit that was met, a right that somebody has not."""

    def __str__(self) -> str:
        return self.text


class EmptyKey(EtcdError):
    code = _Code.INVALID_ARGUMENT
    text = "etcdserver: key is not provided"


class KeyNotFound(EtcdError):
    code = _Code.INVALID_ARGUMENT
    text = "etcdserver: key not found"


class ValueProvided(EtcdError):
    code = _Code.INVALID_ARGUMENT
    text = "etcdserver: value is provided"


class LeaseProvided(EtcdError):
    code = _Code.INVALID_ARGUMENT
    text = "etcdserver: lease is provided"


class TooManyOps(EtcdError):
    code = _Code.INVALID_ARGUMENT
    text = "etcdserver: too many operations in txn request"
    refusal = "max_txn_ops"


class DuplicateKey(EtcdError):
    code = _Code.INVALID_ARGUMENT
    text = "etcdserver: duplicate key given in txn request"


class InvalidSortOption(EtcdError):
    code = _Code.INVALID_ARGUMENT
    text = "etcdserver: invalid sort option"


class Compacted(EtcdError):
    code = _Code.OUT_OF_RANGE
    text = "etcdserver: mvcc: required revision has been compacted"


class FutureRevision(EtcdError):
    code = _Code.OUT_OF_RANGE
    text = "etcdserver: mvcc: required revision is a future revision"


class NoSpace(EtcdError):
    code = _Code.RESOURCE_EXHAUSTED
    text = "etcdserver: mvcc: database space exceeded"
    refusal = "quota"


class LeaseNotFound(EtcdError):
    code = _Code.NOT_FOUND
    text = "etcdserver: requested lease not found"


class LeaseExists(EtcdError):
    code = _Code.FAILED_PRECONDITION
    text = "etcdserver: lease already exists"


class LeaseTTLTooLarge(EtcdError):
    code = _Code.OUT_OF_RANGE
    text = "etcdserver: too large lease TTL"


class RequestTooLarge(EtcdError):
    code = _Code.INVALID_ARGUMENT
    text = "etcdserver: request is too large"
    refusal = "max_request_bytes"


class TooManyAlarms(EtcdError):
    """etcd keeps alarms of any number of members, which may be made up."""

    code = _Code.RESOURCE_EXHAUSTED
    text = "etcdserver: too many alarms"
    refusal = "alarms"


class ResponseTooLarge(EtcdError):
    """An answer that is larger than may be sent. etcd leaves that to gRPC, whose bound is 2 GiB; the text is gRPC's."""

    code = _Code.RESOURCE_EXHAUSTED
    text = "grpc: trying to send message larger than max"
    refusal = "max_response_bytes"


class AuthNotEnabled(EtcdError):
    code = _Code.FAILED_PRECONDITION
    text = "etcdserver: authentication is not enabled"


class UserEmpty(EtcdError):
    code = _Code.INVALID_ARGUMENT
    text = "etcdserver: user name is empty"


class UserNotFound(EtcdError):
    code = _Code.FAILED_PRECONDITION
    text = "etcdserver: user name not found"


class UserExists(EtcdError):
    code = _Code.FAILED_PRECONDITION
    text = "etcdserver: user name already exists"


class RoleExists(EtcdError):
    code = _Code.FAILED_PRECONDITION
    text = "etcdserver: role name already exists"


class RoleNotGranted(EtcdError):
    code = _Code.FAILED_PRECONDITION
    text = "etcdserver: role is not granted to the user"


class PermissionNotGranted(EtcdError):
    code = _Code.FAILED_PRECONDITION
    text = "etcdserver: permission is not granted to the role"


class RoleEmpty(EtcdError):
    code = _Code.INVALID_ARGUMENT
    text = "etcdserver: role name is empty"


class RoleNotFound(EtcdError):
    code = _Code.FAILED_PRECONDITION
    text = "etcdserver: role name not found"


class PermissionNotGiven(EtcdError):
    code = _Code.INVALID_ARGUMENT
    text = "etcdserver: permission not given"


class SessionExpired(EtcdError):
    text = "mutex: session is expired"


class NotLeader(EtcdError):
    text = "election: not leader"


class NoLeader(EtcdError):
    text = "election: no leader"


class MissingLeaderKey(EtcdError):
    text = '"leader" field must be provided'


class TooManyRequests(EtcdError):
    code = _Code.RESOURCE_EXHAUSTED
    text = "etcdserver: too many requests"
    refusal = "requests"

    def __init__(self, limit: str = "requests") -> None:
        """`limit` is which one was met."""
        super().__init__()
        self.refusal = limit  # type: ignore[misc]  # an instance's own


class Stopped(EtcdError):
    code = _Code.UNAVAILABLE
    text = "etcdserver: server stopped"


class CertificateExpired(EtcdError):
    """A connection has no rights any more; the client's next one has a valid certificate, or does not come about.

    UNAVAILABLE is what etcd's client resumes a watch after, and tries a read again after.
    """

    code = _Code.UNAVAILABLE
    text = "etcdserver: the client certificate has expired"
    refusal = "certificate"


class TimedOut(EtcdError):
    """The store does not answer; a client may retry elsewhere."""

    code = _Code.UNAVAILABLE
    text = "etcdserver: request timed out"


class Loading(TimedOut):
    """The tenant is being filled with a snapshot, or that was interrupted: it has no state that could be served."""

    text = "etcdserver: the tenant is being restored and not served until that is done"


class NotEmpty(EtcdError):
    """Only a tenant that nobody has written to can be restored into."""

    code = _Code.FAILED_PRECONDITION
    text = "etcdserver: the tenant is not empty"


class LoadingElsewhere(EtcdError):
    """Somebody else restores the same tenant, or has begun to meanwhile."""

    code = _Code.ABORTED
    text = "etcdserver: the tenant is being restored by somebody else"


class Corrupt(EtcdError):
    code = _Code.DATA_LOSS
    text = "etcdserver: corrupt cluster"


class TenantClosed(EtcdError):
    """The tenant is not served. Its own rows say so, in the transaction of whoever closed it: no daemon knows later."""

    code = _Code.PERMISSION_DENIED


class TenantDisabled(TenantClosed):
    text = "etcdserver: permission denied: the tenant is disabled"


class TenantDeleted(TenantClosed):
    text = "etcdserver: permission denied: the tenant is deleted"


class Refused(EtcdError):
    """A refusal in words of its own: what fetch does not serve, or a request that cannot be understood."""

    def __init__(self, code: grpc.StatusCode, text: str) -> None:
        super().__init__(text)
        # an instance's own status, where every other error has its class's
        self.code = code  # type: ignore[misc]
        self.text = text  # type: ignore[misc]
        self.refusal = "permission" if code is _Code.PERMISSION_DENIED else ""  # type: ignore[misc]


class PrincipalRefused(Refused):
    """A certificate names nobody who is let in. `name` is whom it names, where that is not in the text."""

    def __init__(self, reason: str, name: str) -> None:
        super().__init__(_Code.PERMISSION_DENIED, f"etcdserver: permission denied: {reason}")
        self.refusal = "principal"  # type: ignore[misc]
        self.name = name


class CertificateRefused(Refused):
    """A connection has no rights any more, since its certificate would not be taken for a new one: it was revoked, or
    its authority is not trusted any more. UNAVAILABLE, as where TLS refuses it."""

    def __init__(self, reason: str) -> None:
        super().__init__(_Code.UNAVAILABLE, f"etcdserver: {reason}")
        self.refusal = "certificate"  # type: ignore[misc]


def of_store(error: StoreUnavailable | StoreFull) -> EtcdError:
    """What etcd would say to this error of the store."""
    match error:
        case StoreFull():
            return NoSpace()
        case StoreCorrupt():
            return Corrupt()
        case StoreBusy():
            return TooManyRequests("store")
        case _:
            return TimedOut()

"""`fetch.v1.Tenants`: the register of tenants for administrators, with all that it has. See `protos/fetch/v1`."""

from collections.abc import Awaitable, Callable, Mapping
from typing import TypeVar

import grpc
from google.protobuf.message import Message

from fetch import errors
from fetch.chain import Call
from fetch.tenants.records import Conflict, NoSuchTenant, TenantExists
from fetch.tenants.register import GRACE_SECONDS, Register, Registered
from fetch.v1 import records_pb2, tenants_pb2
from fetch.v1.tenants_pb2 import Tenant

Request = TypeVar("Request", bound=Message)

_LARGEST_PAGE = 1000
_MILLISECONDS = 1000
_MOST_TEXT = 4096
_Code = grpc.StatusCode


class Administration:
    """The handlers of the service, on raw bytes."""

    name = "fetch.v1.Tenants"

    def __init__(self, register: Register, watches: Callable[[str], int]) -> None:
        """`watches` tells how many watches a tenant has through this daemon."""
        self.register = register
        self._watches = watches

    def handlers(self) -> Mapping[str, grpc.RpcMethodHandler]:
        """The service's methods."""
        named = tenants_pb2.GetTenantRequest
        return {
            "List": _handler(tenants_pb2.ListTenantsRequest, self._list),
            "Get": _handler(named, self._get),
            "Create": _handler(tenants_pb2.CreateTenantRequest, self._create),
            "Set": _handler(tenants_pb2.SetTenantRequest, self._set),
            "Disable": _handler(named, self._disable),
            "Enable": _handler(named, self._enable),
            "Delete": _handler(tenants_pb2.DeleteTenantRequest, self._delete),
            "Undelete": _handler(named, self._undelete),
        }

    async def _list(self, request: tenants_pb2.ListTenantsRequest) -> Message:
        limit = request.limit if 0 < request.limit < _LARGEST_PAGE else _LARGEST_PAGE
        page, more = await self.register.page(request.after, limit)
        return tenants_pb2.ListTenantsResponse(tenants=[self._shown(it.record, it.used) for it in page], more=more)

    async def _get(self, request: tenants_pb2.GetTenantRequest) -> Message:
        found: Registered = await self.register.get(request.name)
        shown = self._shown(found.record, found.used)
        had = await self.register.contents(found.record)
        shown.contents.CopyFrom(
            tenants_pb2.Contents(
                revision=had.revision,
                oldest_revision=had.oldest,
                keys=had.keys,
                stored_bytes=had.stored_bytes,
                leases=had.leases,
                more_leases=had.more_leases,
                alarms=sorted({_alarm_name(kind) for _, kind in had.raised}),
                watches=self._watches(request.name),
                loading=had.loading,
            )
        )
        return shown

    async def _create(self, request: tenants_pb2.CreateTenantRequest) -> Message:
        _check(request.notes, request.labels)
        quota = _quota(request.quota) if request.HasField("quota") else None
        return self._shown(
            await self.register.create(
                request.name, quota, request.notes, request.labels, gives_up_deleted=request.gives_up_deleted
            )
        )

    async def _set(self, request: tenants_pb2.SetTenantRequest) -> Message:
        labels = request.labels.labels if request.HasField("labels") else None
        _check(request.notes, labels or {})
        return self._shown(
            await self.register.change(
                request.name,
                _quota(request.quota) if request.HasField("quota") else None,
                request.notes if request.HasField("notes") else None,
                labels,
                default_quota=request.default_quota,
            )
        )

    async def _disable(self, request: tenants_pb2.GetTenantRequest) -> Message:
        return self._shown(await self.register.disable(request.name))

    async def _enable(self, request: tenants_pb2.GetTenantRequest) -> Message:
        return self._shown(await self.register.enable(request.name))

    async def _delete(self, request: tenants_pb2.DeleteTenantRequest) -> Message:
        grace = request.grace if request.HasField("grace") else GRACE_SECONDS
        return self._shown(await self.register.delete(request.name, grace))

    async def _undelete(self, request: tenants_pb2.GetTenantRequest) -> Message:
        return self._shown(await self.register.undelete(request.name))

    def _shown(self, record: records_pb2.Tenant, used: int = 0) -> Tenant:
        state = Tenant.DELETED if record.deleted else Tenant.DISABLED if record.disabled else Tenant.ACTIVE
        shown = Tenant(
            name=record.name,
            state=state,
            created=record.created // _MILLISECONDS,
            used=used,
            notes=record.notes,
            labels=record.labels,
            roles=record.roles,
            remaining=int(self.register.remaining(record)) if record.deleted else 0,
        )
        if record.HasField("quota"):
            shown.quota = record.quota
        return shown


def _alarm_name(kind: int) -> str:
    return {1: "NOSPACE", 2: "CORRUPT"}.get(kind, str(kind))


def _quota(quota: int) -> int:
    if quota < 0:
        raise ValueError("a quota is a number of bytes, or 0 for any number")
    return quota


def _check(notes: str, labels: Mapping[str, str]) -> None:
    if len(notes) + sum(len(key) + len(value) for key, value in labels.items()) > _MOST_TEXT:
        raise ValueError(f"notes and labels have at most {_MOST_TEXT} characters together")


def _handler(request_type: type[Request], answer: Callable[[Request], Awaitable[Message]]) -> grpc.RpcMethodHandler:
    """A handler that answers administrators alone."""

    async def method(request: bytes, call: Call) -> bytes:
        if not call.administrator:
            raise errors.Refused(_Code.PERMISSION_DENIED, "permission denied: this is for --admin-principals")
        message = request_type()
        message.ParseFromString(request)
        try:
            return (await answer(message)).SerializeToString()
        except NoSuchTenant as error:
            raise errors.Refused(_Code.NOT_FOUND, f"there is no tenant {error}") from None
        except TenantExists as error:
            raise errors.Refused(_Code.ALREADY_EXISTS, f"there is a tenant {error} already") from None
        except Conflict as error:
            raise errors.Refused(_Code.FAILED_PRECONDITION, str(error)) from None
        except ValueError as error:
            raise errors.Refused(_Code.INVALID_ARGUMENT, str(error)) from None

    return grpc.unary_unary_rpc_method_handler(method)

"""Requests that real etcd is not sent in the contract suite, or is not made for."""

import grpc
import pytest
from google.protobuf.message import Message

from fetch.api import rpc_pb2
from tests.endpoints.client import FROM_KEY, Client
from tests.endpoints.fetch import FetchServer
from tests.endpoints.refusals import KEY_NOT_FOUND, refused
from tests.endpoints.requests import delete, put


@pytest.fixture
def tenant(fetch: FetchServer) -> Client:
    return fetch.empty_keyspace()


@pytest.mark.parametrize("ignored", ["ignore_value", "ignore_lease"])
def test_a_put_that_ignores_what_its_transaction_has_deleted_is_refused(tenant: Client, ignored: str) -> None:
    # etcd 3.7.3 dies of it
    before = tenant.put(b"a", b"1").header.revision
    request = put(b"a")
    setattr(request.request_put, ignored, True)
    with refused(KEY_NOT_FOUND):
        tenant.txn((), [put(b"b"), delete(b"a", FROM_KEY), request])
    assert (tenant.get(b"a").mod_revision, tenant.revision()) == (before, before)


@pytest.mark.parametrize(
    ("method", "request_"),
    [("UserAdd", rpc_pb2.AuthUserAddRequest(name="a")), ("RoleAdd", rpc_pb2.AuthRoleAddRequest(name="a"))],
)
def test_a_tenant_adds_no_users_and_no_roles(tenant: Client, method: str, request_: Message) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        tenant.call_raw(f"/etcdserverpb.Auth/{method}", request_.SerializeToString())
    assert caught.value.code() == grpc.StatusCode.PERMISSION_DENIED
    assert "certificate" in (caught.value.details() or "")


def varint(number: int) -> bytes:
    number &= (1 << 64) - 1
    encoded = bytearray()
    while number > 127:
        encoded.append(number & 127 | 128)
        number >>= 7
    return bytes([*encoded, number])


def alarm(action: int, kind: int) -> bytes:
    """An AlarmRequest, with numbers that the message's enums need not have."""
    return b"\x08" + varint(action) + b"\x18" + varint(kind)


def test_an_alarm_may_be_of_any_member(tenant: Client) -> None:
    tenant.alarm("ACTIVATE", "NOSPACE", 2**64 - 1)
    assert [raised.memberID for raised in tenant.alarm("GET").alarms] == [2**64 - 1]


def test_there_are_only_so_many_alarms(tenant: Client) -> None:
    for member in range(64):
        tenant.alarm("ACTIVATE", "NOSPACE", member)
    with pytest.raises(grpc.RpcError) as caught:
        tenant.alarm("ACTIVATE", "NOSPACE", 64)
    assert caught.value.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
    tenant.alarm("DEACTIVATE", "NOSPACE", 0)
    tenant.alarm("ACTIVATE", "NOSPACE", 64)
    assert len(tenant.alarm("GET").alarms) == 64


def test_leases_of_others_expire_after_any_kind_of_alarm(fetch: FetchServer, tenant: Client) -> None:
    for kind in (300, -1):
        with pytest.raises(grpc.RpcError):
            tenant.call_raw("/etcdserverpb.Maintenance/Alarm", alarm(1, kind))
    with fetch.empty_keyspace() as other, other.watch() as watch:
        watch.create(b"a")
        other.put(b"a", lease=other.lease_grant(2).ID)
        assert [event.type for event in watch.events(2)] == [0, 1]

"""Requests that real etcd is not sent in the contract suite, or is not made for."""

import grpc
import pytest

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
    "method",
    ["Auth/AuthEnable", "Auth/UserAdd", "Cluster/MemberAdd", "Cluster/MemberRemove", "Maintenance/MoveLeader"],
)
def test_what_is_not_served_is_refused_with_a_sentence(tenant: Client, method: str) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        tenant.call_raw(f"/etcdserverpb.{method}", b"")
    assert caught.value.code() == grpc.StatusCode.UNIMPLEMENTED
    assert len((caught.value.details() or "").split()) > 4


def test_a_snapshot_is_refused(tenant: Client) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        tenant.call_stream("/etcdserverpb.Maintenance/Snapshot", rpc_pb2.SnapshotRequest(), rpc_pb2.SnapshotResponse)
    assert caught.value.code() == grpc.StatusCode.UNIMPLEMENTED

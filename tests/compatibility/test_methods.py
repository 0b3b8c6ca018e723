"""Every method of etcd has a row, and fetch does what it says."""

import re

import grpc
import pytest

from fetch.api import election_pb2, lock_pb2, rpc_pb2
from tests.compatibility import page
from tests.compatibility.page import Row
from tests.endpoints.etcd import PROMISED, find_etcd
from tests.endpoints.fetch import FetchServer
from tests.endpoints.server import Missing

_NOT_FOR_CLIENTS = re.compile(rb"/etcdserverpb\.(?:Raft|Internal)|/v3electionpb\.Election$")
_METHOD = re.compile(rb"/(?:etcdserverpb|v3lockpb|v3electionpb)\.[A-Z][A-Za-z]*/[A-Z][A-Za-z]*")


def described() -> set[str]:
    """The methods of etcd's protocol definitions."""
    return {
        f"/{service.full_name}/{method.name}"
        for module in (rpc_pb2, lock_pb2, election_pb2)
        for service in module.DESCRIPTOR.services_by_name.values()
        for method in service.methods
    }


def test_every_method_has_a_row() -> None:
    assert {row.name for row in page.methods()} == described()


def test_a_real_etcd_has_no_others() -> None:
    etcd = find_etcd()
    if isinstance(etcd, Missing) or etcd.version < PROMISED:
        pytest.skip("there is no etcd 3.7")
    # in a program of Go constants lie one behind the other: a name may have the beginning of the next behind it
    found = {name.decode() for name in _METHOD.findall(etcd.binary.read_bytes())}
    assert {name for name in found if not any(name.startswith(known) for known in described())} == set()
    assert {known for known in described() if not any(name.startswith(known) for name in found)} == set()


def outcome(server: FetchServer, method: str) -> grpc.StatusCode:
    """The status of a call with an empty request."""
    with server.empty_keyspace() as client:
        call = client._channel.stream_stream(method)(iter([b""]), timeout=10)
        try:
            next(call)
        except StopIteration:
            return grpc.StatusCode.OK
        except grpc.RpcError as error:
            code: grpc.StatusCode = error.code()
            return code
        call.cancel()
        return grpc.StatusCode.OK


@pytest.mark.parametrize("row", page.methods(), ids=lambda row: row.name)
def test_a_method_is_served_as_its_row_says(fetch: FetchServer, row: Row) -> None:
    refused = outcome(fetch, row.name) is grpc.StatusCode.UNIMPLEMENTED
    assert refused == (row.state == page.NOT_SERVED)

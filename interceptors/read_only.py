"""Read only: refuses what changes a tenant, and serves what reads it.

For a migration, a restore, or a tenant that is on hold. Refused with PERMISSION_DENIED are puts, deletes, transactions
with any of them, compactions, granting and revoking leases, and what changes locks and elections. Watches go on, and so
do lease keepalives, so that what lives by a lease outlives the hold.

Settings:
    tenants: a list of the tenants that are read-only; by default all are
"""

from typing import Any

import grpc

from fetch.api.rpc_pb2 import TxnRequest
from fetch.chain import Call, Proceed, Setup
from fetch.chain.tables import read, texts
from fetch.errors import Refused

_WRITES = frozenset({"create", "update", "delete", "put", "delete_range", "compact"})
_METHODS = frozenset(
    {
        "/etcdserverpb.Lease/LeaseGrant",
        "/etcdserverpb.Lease/LeaseRevoke",
        "/v3lockpb.Lock/Lock",
        "/v3lockpb.Lock/Unlock",
        "/v3electionpb.Election/Campaign",
        "/v3electionpb.Election/Proclaim",
        "/v3electionpb.Election/Resign",
    }
)


class ReadOnly:
    """Refuses writes."""

    after = ("authorization", "classification")

    def __init__(self, setup: Setup) -> None:
        self._tenants = frozenset(read(setup.table, {"tenants": texts}).get("tenants", ()))

    async def intercept(self, call: Call, proceed: Proceed) -> Any:
        """What only reads passes."""
        if call.tenant is not None and (not self._tenants or call.tenant.tenant in self._tenants) and writes(call):
            raise Refused(
                grpc.StatusCode.PERMISSION_DENIED, f"etcdserver: permission denied: {call.tenant.tenant} is read-only"
            )
        return await proceed(call)


def writes(call: Call) -> bool:
    """Whether a call may change its tenant's keys, leases or history."""
    if call.kind == "txn":
        return _txn_writes(call.message)
    return call.kind in _WRITES or call.method in _METHODS


def _txn_writes(request: TxnRequest) -> bool:
    for operation in (*request.success, *request.failure):
        match operation.WhichOneof("request"):
            case "request_put" | "request_delete_range":
                return True
            case "request_txn" if _txn_writes(operation.request_txn):
                return True
    return False

"""What etcd serves and fetch does not."""

from typing import Any

import grpc
import pytest

from fetch.engine.memory.engine import MemoryEngine
from fetch.errors import Refused
from fetch.services.auth import Auth
from fetch.services.cluster import Cluster
from fetch.services.maintenance import Maintenance
from tests.services.calls import SETTINGS, streamed, unary


@pytest.mark.parametrize(
    ("service", "method"),
    [
        (Auth(), "AuthEnable"),
        (Cluster(SETTINGS), "MemberAdd"),
        (Cluster(SETTINGS), "MemberRemove"),
        (Maintenance(SETTINGS), "MoveLeader"),
    ],
)
async def test_what_is_not_served_is_refused_with_a_sentence(service: Any, method: str) -> None:
    with pytest.raises(Refused) as refused:
        await unary(service, method, b"", MemoryEngine("alpha"))
    assert refused.value.code == grpc.StatusCode.UNIMPLEMENTED
    assert len(refused.value.text.split()) > 4


async def test_a_snapshot_of_what_is_in_no_store_is_refused() -> None:
    with pytest.raises(Refused) as refused:
        await streamed(Maintenance(SETTINGS), "Snapshot", b"", MemoryEngine("alpha"))
    assert refused.value.code == grpc.StatusCode.UNIMPLEMENTED

"""Alarms that etcd has no name for, which it keeps, or dies of."""

import grpc
import pytest

from fetch.engine.memory.engine import MemoryEngine
from fetch.engine.records import varint
from fetch.errors import Refused
from fetch.services.maintenance import Maintenance
from tests.services.calls import SETTINGS, unary


async def refused_with(action: int, kind: int) -> grpc.StatusCode:
    """The code that an AlarmRequest is refused with, whose numbers the message's enums need not have."""
    request = b"\x08" + varint(action) + b"\x18" + varint(kind)
    with pytest.raises(Refused) as refused:
        await unary(Maintenance(SETTINGS), "Alarm", request, MemoryEngine("alpha"))
    return refused.value.code


@pytest.mark.parametrize("kind", [3, 255, 256, 300, 2**31 - 1, -1, -(2**31)])
@pytest.mark.parametrize("action", [0, 1, 2])
async def test_a_kind_of_alarm_that_there_is_not_is_refused(action: int, kind: int) -> None:
    assert await refused_with(action, kind) == grpc.StatusCode.INVALID_ARGUMENT


@pytest.mark.parametrize("action", [3, 300, -1])
async def test_an_action_on_alarms_that_there_is_not_is_refused(action: int) -> None:
    # etcd 3.7.3 dies of it
    assert await refused_with(action, 1) == grpc.StatusCode.INVALID_ARGUMENT

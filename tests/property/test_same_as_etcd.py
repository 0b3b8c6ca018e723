"""Whatever is asked of them, fetch and etcd answer the same.

Random sequences of operations are carried out on both, side by side, and every answer and everything that watches
send is compared. By default a fixed set of examples runs; `FETCH_TEST_EXAMPLES=10000` makes as many random ones.
"""

import os

import pytest
from hypothesis import HealthCheck, given, note, settings

from tests.endpoints.server import Server
from tests.property.operations import Operation, sequences
from tests.property.revisions import legible
from tests.property.side import Side

EXAMPLES = int(os.environ.get("FETCH_TEST_EXAMPLES", "0"))


@pytest.mark.timeout(120 + EXAMPLES)
@settings(
    max_examples=EXAMPLES or 400,
    derandomize=not EXAMPLES,
    database=None,
    deadline=None,
    print_blob=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
@given(sequences)
def test_every_answer_and_every_event_is_the_same(etcd: Server, fetch: Server, sequence: list[Operation]) -> None:
    with (
        etcd.empty_keyspace() as etcd_client,
        fetch.empty_keyspace() as fetch_client,
        Side(etcd_client) as right,
        Side(fetch_client) as compared,
    ):
        for operation in sequence:
            note(f"{type(operation).__name__}\n{legible(operation)}")
            assert compared.carry_out(operation) == right.carry_out(operation)
        assert compared.watched() == right.watched()

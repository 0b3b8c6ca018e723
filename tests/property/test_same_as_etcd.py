"""Whatever is asked of them, fetch and etcd answer the same.

Random sequences of operations are carried out on both, side by side, and every answer and everything that watches
send is compared. By default a fixed set of examples runs; `FETCH_TEST_EXAMPLES=10000` makes as many random ones.

What is done is bounded by the number of examples, and each call has a deadline, so that a slow machine takes longer and
fails no sooner.
"""

import os

import pytest
from hypothesis import HealthCheck, given, note, seed, settings

from tests.endpoints.server import Server
from tests.property.operations import Operation, sequences
from tests.property.revisions import legible
from tests.property.side import Side

EXAMPLES = int(os.environ.get("FETCH_TEST_EXAMPLES", "0"))
PARTS = 8
"""How many tests share the examples: while one fails, the others go on, and all of them show how far it is."""

EXAMPLES_OF_A_PART = (EXAMPLES or 400) // PARTS
SECONDS_OF_AN_EXAMPLE = 10
SHRINKING_SECONDS = 300
"""How long hypothesis goes on to look for a smaller example that fails."""


@pytest.mark.timeout(SHRINKING_SECONDS + EXAMPLES_OF_A_PART * SECONDS_OF_AN_EXAMPLE)
@pytest.mark.parametrize("part", range(PARTS))
def test_every_answer_and_every_event_is_the_same(etcd: Server, fetch: Server, part: int) -> None:
    @settings(
        max_examples=max(EXAMPLES_OF_A_PART, 1),
        derandomize=False,  # it would have all parts do the same; where CI is set hypothesis has it so
        database=None,
        deadline=None,
        print_blob=True,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
    )
    @given(sequences)
    def same(sequence: list[Operation]) -> None:
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

    (same if EXAMPLES else seed(part)(same))()

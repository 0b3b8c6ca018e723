"""The engine does not rely on its chain's good will."""

from pathlib import Path

import pytest

from fetch import chain
from fetch.api.rpc_pb2 import RangeRequest
from fetch.chain import ProceedMutation
from fetch.engine.batch import Mutation
from tests.engine.engines import daemon, listed, put


class Swallows:
    """Keeps one key's changes to itself."""

    async def intercept(self, mutation: Mutation, proceed: ProceedMutation) -> None:
        if mutation.key != b"swallowed":
            await proceed(mutation)


async def test_a_change_that_a_link_swallows_is_not_acknowledged(tmp_path: Path) -> None:
    outermost = chain.Link("swallows", "tests", Swallows())
    async with daemon(tmp_path, outer=[outermost]) as running:
        engine = await running.open()
        with pytest.raises(RuntimeError, match="without an event"):
            await put(engine, b"swallowed")
        assert await put(engine, b"key") == 2
        assert await listed(engine, RangeRequest(key=b"\0", range_end=b"\0")) == [(b"key", b"")]

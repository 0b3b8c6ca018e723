"""A server that is told how much of the past to keep compacts the rest without being asked for it."""

from pathlib import Path

import grpc
import pytest

from tests.endpoints.fetch import MEMORY
from tests.endpoints.server import Endpoint


def test_what_is_older_than_is_kept_is_compacted(endpoint: Endpoint, tmp_path: Path) -> None:
    if endpoint is MEMORY:
        pytest.skip("the engine in memory is compacted by its clients alone")
    with endpoint.start(tmp_path, ["--auto-compaction-retention=1s"]) as server, server.connect() as client:
        first = client.put(b"key", b"0").header.revision

        def read_the_first() -> None:
            while True:  # until pytest's own timeout: every put is a later revision
                client.put(b"key", b"1")
                client.range(b"key", revision=first)

        with pytest.raises(grpc.RpcError, match="required revision has been compacted"):
            read_the_first()

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from fetch.engine.engine import StoredEngine
from tests.engine.engines import Daemon, daemon


@pytest.fixture
async def running(tmp_path: Path) -> AsyncIterator[Daemon]:
    async with daemon(tmp_path) as started:
        yield started


@pytest.fixture
async def engine(running: Daemon) -> StoredEngine:
    """The engine of a new tenant."""
    return await running.open()

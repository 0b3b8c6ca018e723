"""The register stands on each store."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.tenants.daemons import Daemon, Site, site


@pytest.fixture(params=["embedded", "simulated"])
async def here(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Site]:
    """A store without daemons."""
    async with site(request.param, tmp_path) as made:
        yield made


@pytest.fixture
async def daemon(here: Site) -> Daemon:
    """A daemon."""
    return await here.daemon()


@pytest.fixture
async def other(here: Site, daemon: Daemon) -> Daemon:
    """Another one on the same store, which has started later."""
    return await here.daemon()

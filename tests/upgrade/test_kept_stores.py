"""What a release has stored is served by the code of today, on both stores, and goes on from there."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from fetch.engine.format import VERSION, NewerFormat
from fetch.engine.layout import format_row
from fetch.engine.tenants import Tenants
from fetch.stores.transaction import Transaction
from tests.engine.engines import put
from tests.upgrade.stored import RELEASES, STORES, TENANTS, Kept, answers, tenants_on


@pytest.fixture(params=RELEASES)
def kept(request: pytest.FixtureRequest) -> Kept:
    return Kept(STORES / request.param)


@pytest.fixture(params=["embedded", "foundationdb"])
async def tenants(request: pytest.FixtureRequest, kept: Kept, tmp_path: Path) -> AsyncIterator[Tenants]:
    """The tenants of a daemon that is started on what the release has left."""
    store = kept.embedded(tmp_path / "data") if request.param == "embedded" else kept.foundationdb()
    async with tenants_on(store) as running:
        yield running


def test_there_are_some() -> None:
    assert "0.1.0" in RELEASES


async def test_everything_is_answered_as_it_was(tenants: Tenants, kept: Kept) -> None:
    assert await answers(tenants) == kept.answers


@pytest.mark.parametrize("tenant", [tenant for tenant in TENANTS if tenant != "beta"])  # whose alarm refuses it
async def test_revisions_go_on(tenants: Tenants, kept: Kept, tenant: str) -> None:
    assert await put(await tenants.open(tenant), b"new") == kept.answers[tenant]["revision"] + 1


async def test_a_lease_takes_its_keys_with_it(tenants: Tenants) -> None:
    engine = await tenants.open("alpha")
    before = (await engine.status()).keys
    await engine.revoke_lease(7587)
    assert (await engine.status()).keys == before - 2


async def test_it_has_a_format_that_is_known(tenants: Tenants) -> None:
    await tenants.format.require()
    with tenants.store.snapshot() as snapshot:
        stored = await snapshot.get(format_row(tenants.store.shared_prefix))
    assert stored is not None
    assert int(stored) <= VERSION


async def test_a_newer_format_is_refused_with_what_to_do_and_nothing_is_written(tenants: Tenants) -> None:
    async def raise_it(transaction: Transaction) -> None:
        transaction.set(format_row(tenants.store.shared_prefix), b"%d" % (VERSION + 1))

    await tenants.store.transact(raise_it)
    with pytest.raises(NewerFormat, match="run the release that has written it"):
        await tenants.open("new")

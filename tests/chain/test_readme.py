"""The interceptor that the README shows works as it says."""

import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from fetch import chain
from fetch.errors import Refused
from tests.chain.packages import install, settings
from tests.interceptors.calls import answer, call

README = Path(__file__).parents[2] / "README.md"
ENTRY_POINTS = "[fetch.interceptors]\nfreeze = my_package:Freeze\n"


@pytest.fixture
def freeze(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The interceptor, with the table that the README gives it."""
    (source,) = re.findall(r"^```python\n(.*?)^```", README.read_text(), re.MULTILINE | re.DOTALL)
    install(tmp_path, monkeypatch, "my_package", source, ENTRY_POINTS)
    links = chain.load(chain.REQUEST_GROUP, ["classification", "freeze"], settings({"freeze": {"tenants": ["alpha"]}}))
    return links[-1].interceptor


async def passed(freeze: Any, kind: str, tenant: str) -> bool:
    passing: Any = call()
    passing.kind, passing.tenant = kind, SimpleNamespace(tenant=tenant)
    return await freeze.intercept(passing, answer) is passing


async def test_it_refuses_writes_of_its_tenants(freeze: Any) -> None:
    with pytest.raises(Refused, match="frozen"):
        await passed(freeze, "create", "alpha")


@pytest.mark.parametrize(("kind", "tenant"), [("get", "alpha"), ("create", "beta")])
async def test_it_lets_pass_everything_else(freeze: Any, kind: str, tenant: str) -> None:
    assert await passed(freeze, kind, tenant)

"""What a configuration may name as a chain, and what it is told when it may not."""

from pathlib import Path

import pytest

from fetch import chain
from fetch.chain import ChainError
from fetch.config import declared
from tests.chain.packages import install, settings

THIRD_PARTY = """
import grpc

class Ours:
    def __init__(self, setup):
        self.limit = setup.table.get("limit")

    async def intercept(self, call, proceed):
        return await proceed(call)

class NeedsAnother(Ours):
    after = ("ours",)

class Broken:
    def __init__(self, setup):
        raise ValueError("limit must be positive")

class Plain(grpc.aio.ServerInterceptor):
    def __init__(self, limit=0):
        self.limit = limit

    async def intercept_service(self, continuation, details):
        return await continuation(details)

def makes_plain(limit=0):
    return Plain(limit)

def makes_ours(setup):
    return Ours(setup)
"""

ENTRY_POINTS = """
[fetch.interceptors]
ours = third_party:Ours
needs-another = third_party:NeedsAnother
broken = third_party:Broken
plain = third_party:Plain
makes-plain = third_party:makes_plain
makes-ours = third_party:makes_ours
absent = third_party:Absent

[fetch.transaction_interceptors]
audit = third_party:Ours
plain = third_party:Plain
"""


@pytest.fixture(autouse=True)
def third_party(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(tmp_path, monkeypatch, "third_party", THIRD_PARTY, ENTRY_POINTS)


def names(group: str, *wanted: str) -> list[str]:
    return [link.name for link in chain.load(group, wanted, settings())]


def test_the_operation_chain_that_comes_with_fetch_can_be_composed() -> None:
    default = settings().transaction_interceptors
    assert tuple(names(chain.OPERATION_GROUP, *default)) == default


def test_a_chain_has_the_order_of_its_configuration() -> None:
    assert names(chain.REQUEST_GROUP, "plain", "classification", "ours") == ["plain", "classification", "ours"]


def test_a_package_adds_an_interceptor_by_its_entry_point() -> None:
    assert names(chain.REQUEST_GROUP, "ours") == ["ours"]


def test_a_package_adds_a_link_of_the_operation_chain_by_its_entry_point() -> None:
    assert names(chain.OPERATION_GROUP, "errors", "audit") == ["errors", "audit"]


def test_an_unknown_interceptor_is_named() -> None:
    with pytest.raises(ChainError, match="unknown interceptor 'bogus'"):
        names(chain.REQUEST_GROUP, "bogus")


def test_a_link_of_one_chain_is_unknown_to_the_other() -> None:
    with pytest.raises(ChainError, match="unknown interceptor 'quota'"):
        names(chain.REQUEST_GROUP, "quota")


def test_an_interceptor_may_be_named_once() -> None:
    with pytest.raises(ChainError, match="'ours' is named twice"):
        names(chain.REQUEST_GROUP, "ours", "ours")


@pytest.mark.parametrize("wanted", [("needs-another",), ("needs-another", "ours")])
def test_an_interceptor_stands_behind_those_that_it_needs(wanted: tuple[str, ...]) -> None:
    with pytest.raises(ChainError, match="'needs-another' needs 'ours' before it"):
        names(chain.REQUEST_GROUP, *wanted)


@pytest.mark.parametrize(
    ("wanted", "needed"),
    [
        (("events", "previous", "usage", "quota"), "previous"),
        (("usage",), "previous"),
        (("previous", "quota", "usage"), "usage"),
        (("previous", "events", "usage", "quota"), "usage"),
        (("previous", "usage", "events", "quota"), "quota"),
    ],
)
def test_the_operation_chain_has_an_order_that_works(wanted: tuple[str, ...], needed: str) -> None:
    with pytest.raises(ChainError, match=f"needs '{needed}' before it"):
        names(chain.OPERATION_GROUP, *wanted)


@pytest.mark.parametrize("name", ["authorization", "ours", "deadline"], ids=["built in", "another's", "not named"])
def test_two_packages_with_one_name_are_an_error_that_names_both(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    (tmp_path / "evil").mkdir()
    install(tmp_path / "evil", monkeypatch, "evil", THIRD_PARTY, f"[fetch.interceptors]\n{name} = evil:Ours\n")
    with pytest.raises(ChainError) as refused:
        names(chain.REQUEST_GROUP, "classification")
    assert f"two packages have an interceptor {name!r} in fetch.interceptors: " in str(refused.value)
    assert "evil 1.0 (evil:Ours)" in str(refused.value)
    assert (" and third_party 1.0 " if name == "ours" else " and fetch-etcd ") in str(refused.value)


def test_the_same_name_in_both_chains_is_no_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "more").mkdir()
    install(tmp_path / "more", monkeypatch, "more", THIRD_PARTY, "[fetch.interceptors]\naudit = more:Ours\n")
    assert names(chain.OPERATION_GROUP, "audit") == ["audit"]


def test_an_interceptor_that_cannot_be_made_says_why() -> None:
    with pytest.raises(ChainError, match="'broken' cannot be made: limit must be positive"):
        names(chain.REQUEST_GROUP, "broken")


def test_an_entry_point_that_leads_nowhere_is_named() -> None:
    with pytest.raises(ChainError, match="'absent'"):
        names(chain.REQUEST_GROUP, "absent")


@pytest.mark.parametrize("name", ["ours", "plain"])
def test_an_interceptor_gets_its_own_table_of_the_configuration(name: str) -> None:
    given = settings({name: {"limit": 7}, "other": {"limit": 8}})
    (link,) = chain.load(chain.REQUEST_GROUP, [name], given)
    assert link.interceptor.limit == 7


def test_a_plain_interceptor_with_a_setting_that_it_does_not_know_cannot_be_made() -> None:
    with pytest.raises(ChainError, match="'plain' cannot be made"):
        chain.load(chain.REQUEST_GROUP, ["plain"], settings({"plain": {"bogus": 1}}))


def test_chains_are_settings_like_others() -> None:
    assert {"interceptors", "transaction_interceptors"} <= declared().keys()


def test_an_interceptor_may_be_named_by_its_place() -> None:
    assert names(chain.REQUEST_GROUP, "classification", "third_party:Ours") == ["classification", "third_party:Ours"]


def test_a_place_where_nothing_is_is_named() -> None:
    with pytest.raises(ChainError, match="'third_party:Absent' cannot be imported"):
        names(chain.REQUEST_GROUP, "third_party:Absent")


@pytest.mark.parametrize("name", ["ours", "plain", "makes-plain", "makes-ours", "third_party:makes_plain"])
def test_what_makes_an_interceptor_is_a_class_or_a_function(name: str) -> None:
    (link,) = chain.load(chain.REQUEST_GROUP, [name], settings({name: {"limit": 3}}))
    assert link.interceptor.limit == 3


def test_one_of_grpcios_has_no_place_around_mutations() -> None:
    with pytest.raises(ChainError, match="'plain' is one of grpcio's"):
        names(chain.OPERATION_GROUP, "plain")

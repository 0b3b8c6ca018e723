"""Services know the storage engine by its protocol, and so does the engine in memory, which is another one."""

import pytest

from tests.layers.test_imports import ROOT, imported_by, is_in

PROTOCOL = {
    "fetch.engine",
    "fetch.engine.protocol",
    "fetch.engine.alarms",
    "fetch.engine.answers",
    "fetch.engine.records",
    "fetch.engine.requests",
    "fetch.engine.turns",
}
"""The engine's protocol, and the data and the turns that it speaks of."""

MEMORY = "fetch.engine.memory"


def modules_of(package: str) -> list[str]:
    files = sorted((ROOT / package.replace(".", "/")).rglob("*.py"))
    return [".".join(file.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__") for file in files]


def storage_known_to(module: str) -> set[str]:
    return {name for name in imported_by(module) if is_in(name, "fetch.engine") or is_in(name, "fetch.stores")}


@pytest.mark.parametrize("module", modules_of("fetch.services"))
def test_services_know_the_storage_engine_by_its_protocol(module: str) -> None:
    assert storage_known_to(module) <= PROTOCOL


@pytest.mark.parametrize("module", sorted(PROTOCOL))
def test_the_protocol_of_the_storage_engine_knows_no_implementation(module: str) -> None:
    assert storage_known_to(module) <= PROTOCOL


@pytest.mark.parametrize("module", modules_of(MEMORY))
def test_the_engine_in_memory_knows_the_protocol_and_itself(module: str) -> None:
    assert {name for name in storage_known_to(module) if not is_in(name, MEMORY)} <= PROTOCOL


def test_the_rule_sees_what_an_engine_stands_on() -> None:
    assert not storage_known_to("fetch.engine.engine") <= PROTOCOL

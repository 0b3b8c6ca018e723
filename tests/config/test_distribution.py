"""What pip is told: a name that is free, bounds where majors break, and a lock that agrees with them."""

import re
import subprocess
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import fetch

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
EXTRAS = PROJECT["optional-dependencies"]
REQUIRED = [Requirement(text) for text in PROJECT["dependencies"]]
ALL = REQUIRED + [Requirement(text) for texts in EXTRAS.values() for text in texts]
LOCK = ROOT / "constraints.txt"
LOCKED = {
    canonicalize_name(name): version
    for name, version in re.findall(r"^([\w.-]+)==(\S+)$", LOCK.read_text(), re.MULTILINE)
}
YEARLY = {"cryptography"}
"""Whose majors break nothing that is used here: a bound would only keep its security fixes away."""


def texts() -> list[Path]:
    """What people read, and what the program says."""
    listed = subprocess.run(
        ["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False
    ).stdout.splitlines()
    files = [ROOT / name for name in listed] or [
        *ROOT.glob("*.md"),
        *(ROOT / "docs").rglob("*.md"),
        *(ROOT / "fetch").rglob("*.py"),
    ]
    return [
        file
        for file in files
        if file.suffix in (".md", ".py", ".toml", "") and file.is_file() and file != Path(__file__)
    ]


def test_the_name_is_not_the_one_that_is_somebody_elses() -> None:
    assert PROJECT["name"] == "fetch-etcd"
    assert PROJECT["scripts"] == {"fetch": "fetch.cli:main"}


def test_nothing_tells_anybody_to_install_somebody_elses_package() -> None:
    strangers = re.compile(r"(?<![\w./-])fetch\[|\binstall (?:-\S+ )*['\"]?fetch(?![\w-])|dependencies = \[\"fetch\"\]")
    found = [str(file) for file in texts() if strangers.search(file.read_text(errors="replace"))]
    assert found == []


def test_every_extra_that_is_named_is_there() -> None:
    named = {
        extra for file in texts() for extra in re.findall(r"fetch-etcd\[(\w+)\]", file.read_text(errors="replace"))
    }
    assert named
    assert named <= set(EXTRAS)


def test_the_native_transport_is_an_extra() -> None:
    (transport,) = map(Requirement, EXTRAS["native"])
    built = tomllib.loads((ROOT / "transport" / "pyproject.toml").read_text())["project"]
    assert transport.name == built["name"]
    assert transport.specifier.contains(built["version"])


@pytest.mark.parametrize("requirement", REQUIRED, ids=str)
def test_a_dependency_has_bounds(requirement: Requirement) -> None:
    operators = {specifier.operator for specifier in requirement.specifier}
    assert ">=" in operators
    assert "<" in operators or requirement.name in YEARLY


@pytest.mark.parametrize("requirement", ALL, ids=str)
def test_the_lock_has_a_version_within_the_bounds_of_each_dependency(requirement: Requirement) -> None:
    if requirement.name != "fetch-transport":
        assert requirement.specifier.contains(LOCKED[canonicalize_name(requirement.name)])


def test_the_lock_has_nothing_of_ours() -> None:
    assert {"fetch-etcd", "fetch-transport"} & set(LOCKED) == set()


def test_the_version_is_one() -> None:
    assert PROJECT["dynamic"] == ["version"]
    assert re.fullmatch(r"\d+\.\d+\.\d+", fetch.__version__)

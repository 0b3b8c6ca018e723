"""The files of `src/` know those below them alone: layer by layer as the README lists them, and without circles."""

import re
from collections.abc import Iterator
from functools import cache
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

LAYERS = ("python", "server", "connection", "call", "shared", "grpc")
"""From the top to the bottom."""

TRANSPORT = Path(__file__).parents[1]
SOURCE = TRANSPORT / "src"
PACKAGE = TRANSPORT / "fetch_transport"
README = (TRANSPORT / "README.md").read_text()

COMMENTS_AND_TEXTS = re.compile(r"""//[^\n]*|/\*.*?\*/|'(?:\\.|[^'\\])'|"(?:\\.|[^"\\])*\"""", re.DOTALL)
TOKENS = re.compile(r"\bmod\s+(?P<mod>\w+)\s*(?P<inline>[;{])|(?P<path>\b(?:crate|super|self)\s*::)|(?P<brace>[{}])")
NAMES = re.compile(r"\s*(\w+)\s*(?:as\s+\w+\s*)?")


def name_of(file: Path) -> str:
    return "::".join(file.relative_to(SOURCE).with_suffix("").parts).removesuffix("::mod")


MODULES = {name_of(file): file for file in sorted(SOURCE.rglob("*.rs"))}
del MODULES["lib"]


def tree_at(text: str, start: int, prefix: str) -> tuple[list[str], int]:
    """The paths that stand behind `prefix::`, one for each leaf of its braces, and where they end."""
    if not text[start:].lstrip().startswith("{"):
        name = NAMES.match(text, start)
        if name is None:
            return [prefix], start
        path = f"{prefix}::{name[1]}"
        return tree_at(text, name.end() + 2, path) if text.startswith("::", name.end()) else ([path], name.end())
    paths: list[str] = []
    at = text.index("{", start) + 1
    while not text[at:].lstrip().startswith("}"):
        found, at = tree_at(text, at, prefix)
        paths += found
        at += re.match(r"[\s,]*", text[at:]).end()  # type: ignore[union-attr]  # it matches nothing, too
    return paths, text.index("}", at) + 1


def paths_in(module: str, text: str) -> Iterator[str]:
    """The crate's own names that a file speaks of, from the crate's root on."""
    text = COMMENTS_AND_TEXTS.sub("", text)
    within = [module]
    at = 0
    while token := TOKENS.search(text, at):
        at = token.end()
        if token["inline"] == ";":
            yield f"{within[-1]}::{token['mod']}"
        elif token["inline"]:
            within.append(f"{within[-1]}::{token['mod']}")
        elif token["brace"] == "{":
            within.append(within[-1])
        elif token["brace"]:
            within.pop()
        else:
            start = {"crate": "crate", "self": within[-1], "super": within[-1].rpartition("::")[0] or "crate"}
            found, at = tree_at(text, at, start[token["path"].rstrip(":").strip()])
            yield from (path.removeprefix("crate::") for path in found)


def module_of(path: str) -> str:
    """The file that a path's name is in; empty for the root."""
    while path and path not in MODULES:
        path = path.rpartition("::")[0]
    return path


@cache
def used_by(module: str) -> frozenset[str]:
    """The files that a file knows: those of the names it uses, and those that it declares to be parts of it."""
    found = {module_of(path) for path in paths_in(module, MODULES[module].read_text())}
    return frozenset(found - {module})


def layer_of(module: str) -> str:
    return module.partition("::")[0]


def imported_by(module: Path) -> set[str]:
    """The modules of the Python package that one of them imports, in its stub too."""
    found = re.findall(r"^from fetch_transport(?:\.(\w+))? import (\w+)", module.read_text(), re.MULTILINE)
    return {name or imported for name, imported in found}


def test_no_file_is_in_a_circle() -> None:
    TopologicalSorter({module: used_by(module) for module in MODULES}).prepare()


def test_no_module_of_the_package_is_in_a_circle() -> None:
    modules = [*PACKAGE.glob("*.py"), *PACKAGE.glob("*.pyi")]
    TopologicalSorter({module.stem: imported_by(module) for module in modules}).prepare()


@pytest.mark.parametrize("module", MODULES)
def test_a_layer_knows_those_below_it_alone(module: str) -> None:
    above = LAYERS[: LAYERS.index(layer_of(module))]
    assert [used for used in used_by(module) if layer_of(used) in above] == []


def test_nothing_is_defined_outside_the_layers() -> None:
    assert {layer_of(module) for module in MODULES} == set(LAYERS)
    assert {module_of(path) for path in paths_in("lib", (SOURCE / "lib.rs").read_text())} == {""}


def test_the_readme_lists_the_layers_in_their_order() -> None:
    assert tuple(re.findall(r"^\| `(\w+)` \|", README, re.MULTILINE)) == LAYERS


@pytest.mark.parametrize(("file", "function"), re.findall(r"`([\w/]+\.(?:rs|py)): (\w+)`", README))
def test_the_steps_that_the_readme_names_are_there(file: str, function: str) -> None:
    folder = SOURCE if file.endswith(".rs") else PACKAGE
    assert re.search(rf"\b(?:fn|def) {function}\b", (folder / file).read_text())


@pytest.mark.parametrize(
    ("text", "paths"),
    [
        (
            "use crate::call::{link::Link, task::{self, CallTask}};",
            ["call::link::Link", "call::task::self", "call::task::CallTask"],
        ),
        ("fn f(c: &crate::shared::call::Call) { self::g(c) }", ["shared::call::Call", "server::listener::g"]),
        ("use super::tls;", ["server::tls"]),
        ("mod tests { use super::*; }", ["server::listener"]),
        ("fn f() { if c == b'\"' || c == '{' { super::tls::f() } }", ["server::tls::f"]),
        ("pub mod deeper;", ["server::listener::deeper"]),
        ('// use crate::call;\nconst TEXT: &str = "crate::call";', []),
    ],
)
def test_the_rule_sees(text: str, paths: list[str]) -> None:
    assert list(paths_in("server::listener", text)) == paths

"""Imports point one way, downwards, without circles: the rooms and their order are those of the README."""

import ast
import re
from collections.abc import Iterator
from functools import cache
from itertools import pairwise
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent

ROOM = re.compile(r"((?:fetch|interceptors)/\S*) +\S")

ABOVE_ALL = ("fetch", "fetch.__main__")
"""The package itself, which is empty, and what `python -m fetch` runs."""


@cache
def rooms() -> tuple[str, ...]:
    """The rooms as the README lists them, from the top to the bottom, as names of modules."""
    tree = (ROOT / "README.md").read_text().partition("## The tree")[2].partition("## ")[0]
    paths = [matched[1] for line in tree.splitlines() if (matched := ROOM.match(line))]
    return tuple(path.removesuffix("/").removesuffix(".py").replace("/", ".") for path in paths)


@cache
def modules() -> frozenset[str]:
    files = [file for package in ("fetch", "interceptors") for file in (ROOT / package).rglob("*.py")]
    return frozenset(".".join(file.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__") for file in files)


def room_of(module: str) -> str | None:
    """The innermost room that a module is in."""
    return max((room for room in rooms() if is_in(module, room)), key=len, default=None)


def is_in(module: str, package: str) -> bool:
    return module == package or module.startswith(package + ".")


@cache
def imported_by(module: str) -> frozenset[str]:
    """Our own modules that a module imports, wherever in it, those for its types only included.

    To import a module runs the packages that it is in, so these are imported too; but for those that the importing
    module is in itself, which run already.
    """
    path = ROOT / module.replace(".", "/")
    file = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
    named = {
        package
        for node in ast.walk(ast.parse(file.read_text()))
        for name in names_in(node)
        if name in modules()
        for package in (name, *packages_of(name))
    }
    return frozenset(named - {module, *packages_of(module)})


def names_in(node: ast.AST) -> Iterator[str]:
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
    if isinstance(node, ast.ImportFrom):
        assert node.level == 0, f"a relative import of {node.module}"
        yield from (f"{node.module}.{alias.name}" for alias in node.names)
        yield node.module or ""


def packages_of(module: str) -> list[str]:
    parts = module.split(".")
    return [".".join(parts[:depth]) for depth in range(1, len(parts))]


def circle_through(module: str) -> list[str]:
    """A way from a module over its imports back to it."""
    ways = {name: [module, name] for name in imported_by(module)}
    waiting = list(ways)
    while waiting:
        name = waiting.pop(0)
        for imported in imported_by(name):
            if imported == module:
                return [*ways[name], module]
            if imported not in ways:
                ways[imported] = [*ways[name], imported]
                waiting.append(imported)
    return []


@pytest.mark.parametrize("module", sorted(modules() - set(ABOVE_ALL)))
def test_a_module_is_in_a_room_and_imports_from_this_and_lower_ones(module: str) -> None:
    order = rooms()
    room = room_of(module)
    assert room is not None, f"{module} is in none of {', '.join(order)}"
    lower = order[order.index(room) :]
    assert [name for name in imported_by(module) - {"fetch"} if room_of(name) not in lower] == []


@pytest.mark.parametrize("module", sorted(modules()))
def test_no_module_imports_itself_through_others(module: str) -> None:
    assert circle_through(module) == []


def test_fetch_knows_no_interceptor_by_name() -> None:
    importing = {m for m in modules() if is_in(m, "fetch") and any(is_in(i, "interceptors") for i in imported_by(m))}
    assert importing == set()


def test_every_room_of_the_readme_is_there() -> None:
    assert [room for room in rooms() if room not in modules()] == []
    assert len(set(rooms())) == len(rooms()) > 10


def test_the_rule_sees_imports() -> None:
    way = ("fetch.cli", "fetch.cli.serve", "fetch.server", "fetch.stores.embedded.store")
    assert all(lower in imported_by(upper) for upper, lower in pairwise(way))

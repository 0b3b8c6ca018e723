"""Imports point one way, downwards; nothing below knows who stands on it."""

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

import fetch
import interceptors

LAYERS = ("fetch.cli", "fetch.server", "fetch.services", "fetch.engine", "fetch.stores")
"""From the top to the bottom."""

ABOVE_INTERCEPTORS = ("fetch.cli", "fetch.server", "fetch.services")

ROOT = Path(fetch.__path__[0]).parent


def modules_of(package: str) -> list[str]:
    folder = ROOT / package.replace(".", "/")
    files = sorted(folder.rglob("*.py")) if folder.is_dir() else [folder.with_suffix(".py")]
    return [".".join(file.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__") for file in files]


@cache
def imported_by(module: str) -> frozenset[str]:
    """Our own modules that a module imports, those for its types only included."""
    path = ROOT / module.replace(".", "/")
    file = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
    return frozenset(name for node in ast.walk(ast.parse(file.read_text())) for name in names_in(node) if is_ours(name))


def names_in(node: ast.AST) -> Iterator[str]:
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
    if isinstance(node, ast.ImportFrom):
        assert node.level == 0, f"a relative import of {node.module}"
        yield from (f"{node.module}.{alias.name}" for alias in node.names)
        yield node.module or ""


def is_ours(name: str) -> bool:
    path = ROOT / name.replace(".", "/")
    return name.startswith(("fetch.", "interceptors")) and (path.is_dir() or path.with_suffix(".py").is_file())


def reached_from(module: str) -> dict[str, list[str]]:
    """What a module imports, and what that imports in turn, with the way there."""
    ways = {module: [module]}
    waiting = [module]
    while waiting:
        name = waiting.pop()
        for imported in imported_by(name) - ways.keys():
            ways[imported] = [*ways[name], imported]
            waiting.append(imported)
    return ways


def is_in(module: str, package: str) -> bool:
    return module == package or module.startswith(package + ".")


def ways_up(module: str, above: tuple[str, ...]) -> list[str]:
    return [
        " → ".join(way)
        for reached, way in reached_from(module).items()
        if any(is_in(reached, package) for package in above)
    ]


@pytest.mark.parametrize(
    ("module", "above"),
    [(module, LAYERS[:depth]) for depth, layer in enumerate(LAYERS) for module in modules_of(layer)],
)
def test_a_layer_reaches_nothing_above_it(module: str, above: tuple[str, ...]) -> None:
    assert ways_up(module, above) == []


@pytest.mark.parametrize("module", modules_of(interceptors.__name__))
def test_interceptors_know_the_chain_and_never_a_service(module: str) -> None:
    assert ways_up(module, ABOVE_INTERCEPTORS) == []


def test_fetch_knows_no_interceptor_by_name() -> None:
    importing = {module for module in modules_of("fetch") if any(is_in(i, "interceptors") for i in imported_by(module))}
    assert importing == set()


def test_the_rule_sees_imports() -> None:
    assert "fetch.stores.embedded.store" in reached_from("fetch.cli")

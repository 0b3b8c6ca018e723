"""docs/architecture.md names files and functions that there are."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent
PAGE = (ROOT / "docs/architecture.md").read_text()
STEPS = re.findall(r"^\| \d+ \| `([^`]+)` \| `([^`]+)` \|", PAGE, re.MULTILINE)


def functions_of(file: Path) -> set[str]:
    if file.suffix == ".rs":
        return set(re.findall(r"\bfn (\w+)", file.read_text()))
    found: set[str] = set()
    for node in ast.parse(file.read_text()).body:
        if isinstance(node, ast.ClassDef):
            found |= {
                f"{node.name}.{it.name}" for it in node.body if isinstance(it, ast.FunctionDef | ast.AsyncFunctionDef)
            }
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            found.add(node.name)
    return found


@pytest.mark.parametrize(("file", "function"), STEPS)
def test_a_step_is_a_function_of_its_file(file: str, function: str) -> None:
    assert function in functions_of(ROOT / file)


@pytest.mark.parametrize("path", sorted(set(re.findall(r"`((?:fetch|interceptors|transport|docs)/[^`]*)`", PAGE))))
def test_what_is_named_is_there(path: str) -> None:
    assert (ROOT / path).exists()


def test_the_way_is_long() -> None:
    assert len(STEPS) > 20

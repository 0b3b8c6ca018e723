"""A file holds one thought, and says so where it is long."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent
LONG = 350
FILES = sorted(
    file.relative_to(ROOT)
    for package in ("fetch", "interceptors")
    for file in (ROOT / package).rglob("*.py")
    if not {"api", "v1"} & set(file.relative_to(ROOT).parts)  # compiled
)


@pytest.mark.parametrize("file", FILES, ids=str)
def test_a_long_file_gives_the_reason_in_its_first_docstring(file: Path) -> None:
    source = (ROOT / file).read_text()
    if len(source.splitlines()) > LONG:
        assert "One file, since " in (ast.get_docstring(ast.parse(source)) or "")

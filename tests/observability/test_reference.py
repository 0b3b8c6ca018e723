"""The reference is what the docstrings say."""

import importlib.util
from pathlib import Path
from typing import Any

REFERENCE = Path(__file__).parents[2] / "docs" / "reference"


def load_generator() -> Any:
    spec = importlib.util.spec_from_file_location("generate", REFERENCE / "generate.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_reference_is_current() -> None:
    written = {file.name: file.read_text() for file in REFERENCE.glob("*.md")}
    assert written == load_generator().pages(), "run: python docs/reference/generate.py"

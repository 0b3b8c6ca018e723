"""The reference is what settings and docstrings say, and calls settings as they are written."""

import importlib.util
import re
from pathlib import Path
from typing import Any

import pytest

from fetch.config import declared, etcd
from fetch.config.setting import flag_of

ROOT = Path(__file__).parents[2]
REFERENCE = ROOT / "docs" / "reference"
MODULES = {path.stem: path.read_text() for path in (ROOT / "interceptors").rglob("*.py") if path.stem != "__init__"}


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


def test_the_table_of_etcds_flags_is_current() -> None:
    generator = load_generator()
    assert generator.COMPATIBILITY.read_text() == generator.compatibility(), "run: python docs/reference/generate.py"


def test_the_sample_configuration_is_current() -> None:
    generator = load_generator()
    assert generator.SAMPLE.read_text() == generator.sample(), "run: python docs/reference/generate.py"


@pytest.mark.parametrize("page", sorted(file.name for file in REFERENCE.glob("*.md")))
def test_a_flag_that_the_reference_names_is_there(page: str) -> None:
    known = {*map(flag_of, declared()), *etcd.flags(), "--config", "--experimental"}
    named = set(re.findall(r"(?<![\w-])--[a-z]+(?:-[a-z]+)*", (REFERENCE / page).read_text()))
    assert named - known == set()


@pytest.mark.parametrize("name", MODULES)
def test_an_interceptors_page_names_the_settings_that_it_reads_as_they_are_written(name: str) -> None:
    read = set(re.findall(r"\bsetup\.settings\.(\w+)", MODULES[name]))
    page = (REFERENCE / f"{name}.md").read_text()
    assert {flag_of(setting) for setting in read if f"`{flag_of(setting)}`" not in page} == set()


@pytest.mark.parametrize("name", MODULES)
def test_an_interceptors_page_says_in_which_table_its_settings_stand(name: str) -> None:
    page = (REFERENCE / f"{name}.md").read_text()
    assert ("\n- `" in page.partition("## Settings")[2]) == (f"`[interceptor.{name}]`" in page)


@pytest.mark.parametrize("name", MODULES)
def test_what_an_interceptors_page_calls_a_setting_can_be_the_key_of_a_table(name: str) -> None:
    settings = (REFERENCE / f"{name}.md").read_text().partition("## Settings")[2]
    keys = [line.removeprefix("- ").partition(":")[0] for line in settings.splitlines() if line.startswith("- ")]
    assert [key for key in keys if not re.fullmatch(r"`[a-z][a-z_]*`", key)] == []

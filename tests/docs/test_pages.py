"""Links lead somewhere, code is code, and commands are those that fetch has."""

import ast
import shlex
import tomllib
from pathlib import Path

import pytest

from fetch import cli
from fetch.config import SettingsError
from tests.docs import pages
from tests.docs.pages import PAGES, ROOT

CODE = [(page, language, text) for page in PAGES for language, text in pages.code(page)]
COMMANDS = [(page, command) for page in PAGES for command in pages.commands(page)]


@pytest.mark.parametrize("page", PAGES, ids=pages.named)
def test_every_link_leads_to_a_file_and_a_heading(page: Path) -> None:
    broken = []
    for link in pages.links(page):
        if "://" in link or link.startswith("mailto:"):
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        if not target.exists() or (anchor and anchor not in pages.anchors(target)):
            broken.append(link)
    assert broken == []


@pytest.mark.parametrize(("page", "language", "text"), [it for it in CODE if it[1] == "python"])
def test_python_is_python(page: Path, language: str, text: str) -> None:
    ast.parse(text)


@pytest.mark.parametrize(("page", "language", "text"), [it for it in CODE if it[1] == "toml"])
def test_toml_is_toml(page: Path, language: str, text: str) -> None:
    tomllib.loads(text)


@pytest.mark.parametrize(("page", "command"), COMMANDS, ids=[command for _, command in COMMANDS])
def test_a_command_is_one_that_fetch_has(page: Path, command: str) -> None:
    words = shlex.split(command.partition("|")[0].replace(" … ", " ").removesuffix(" …"))
    if words == ["--version"]:
        return
    try:
        cli.parse(words)
    except SettingsError as error:
        pytest.fail(f"{page.name}: {error}")


def test_there_are_commands_and_code() -> None:
    assert len(COMMANDS) > 5
    assert len(CODE) > 20


def test_every_page_of_the_folder_is_on_the_site() -> None:
    shown = (ROOT / "mkdocs.yml").read_text()
    missing = [
        page.name
        for page in (ROOT / "docs").glob("*.md")  # those in folders are put there by docs/site.py
        if f": {page.name}" not in shown and f"- {page.name}" not in shown
    ]
    assert missing == [], "mkdocs.yml has a place for each page"

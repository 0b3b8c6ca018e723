"""What people read: the pages of the tree, their links and their code."""

import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "transport").glob("*.md")])

_FENCE = re.compile(r"^( *)```(\w*)[^\n]*\n(.*?)^ *```", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)\)")
_HEADING = re.compile(r"^#+ (.*)$", re.MULTILINE)
_NOT_IN_ANCHORS = re.compile(r"[^\w\- ]")


def named(page: Path) -> str:
    return str(page.relative_to(ROOT))


def without_code(text: str) -> str:
    return re.sub(r"`[^`\n]*`", "", _FENCE.sub("", text))


def links(page: Path) -> list[str]:
    """The targets of a page's links, those in code left out."""
    return _LINK.findall(without_code(page.read_text()))


def anchors(page: Path) -> set[str]:
    """What a link may have behind its #."""
    headings = _HEADING.findall(_FENCE.sub("", page.read_text()))
    return {_NOT_IN_ANCHORS.sub("", heading.replace("`", "").lower()).strip().replace(" ", "-") for heading in headings}


def code(page: Path) -> Iterator[tuple[str, str]]:
    """(language, text) of a page's blocks of code."""
    for indented, language, text in _FENCE.findall(page.read_text()):
        yield language, re.sub(rf"^{indented}", "", text, flags=re.MULTILINE)


def commands(page: Path) -> Iterator[str]:
    """The lines that run fetch, without what a page leaves open."""
    for language, text in code(page):
        if language in ("", "sh", "bash", "console"):
            for line in text.replace("\\\n", " ").splitlines():
                matched = re.match(r"\s*(?:\$ )?(?:\S*/)?fetch ((?:[a-z]|--)\S*.*)$", line)
                if matched:
                    yield re.sub(r"\s+#.*$", "", matched[1])

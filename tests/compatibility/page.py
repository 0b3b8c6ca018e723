"""`docs/compatibility.md`, read: the one place where a row is changed."""

import re
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import cache
from pathlib import Path

PAGE = Path(__file__).parents[2] / "docs" / "compatibility.md"

_ROW = re.compile(r"\| `(?P<name>[^`]+)` \| (?P<state>[^|]+?) \| (?P<how>.*?) ?\|")

SERVED, DIFFERENTLY, NOT_SERVED = "served", "differently", "not served"


@dataclass(frozen=True, slots=True)
class Row:
    """What stands in a line of a table: a name, which may be a pattern, how it is served, and why."""

    name: str
    state: str
    how: str

    def is_about(self, name: str) -> bool:
        return fnmatchcase(name, self.name)


@cache
def rows(heading: str) -> tuple[Row, ...]:
    """The rows below a heading, those below its own headings included."""
    level = heading.partition(" ")[0]
    text = PAGE.read_text().partition(f"\n{heading}\n")[2]
    text = re.split(rf"\n#{{1,{len(level)}}} ", text, maxsplit=1)[0]
    return tuple(Row(**matched.groupdict()) for matched in map(_ROW.match, text.splitlines()) if matched)


@cache
def methods() -> tuple[Row, ...]:
    """The rows of etcd's methods, by their full names."""
    services = re.findall(r"^### ([\w.]+)$", PAGE.read_text(), re.MULTILINE)
    return tuple(
        Row(f"/{service}/{row.name}", row.state, row.how) for service in services for row in rows(f"### {service}")
    )

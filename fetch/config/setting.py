"""One setting: what is said of it, how its text is read, and how it is called where it is given.

A setting `max_txn_ops` is a flag `--max-txn-ops`, a variable `FETCH_MAX_TXN_OPS` and a line `max-txn-ops` of a file.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

_DURATION = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h)")
_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}


class SettingsError(Exception):
    """A setting that is wrong: one sentence that says which and why."""


@dataclass(frozen=True, slots=True)
class Setting:
    """How a setting is given: what is said of it, and how its text is read."""

    description: str
    parse: Callable[[str], Any]


def setting(default: Any, description: str, parse: Callable[[str], Any] | None = None) -> Any:
    """A field of `Settings` that flags, environment and file can give."""
    return field(default=default, metadata={"setting": Setting(description, parse or text)})


def flag_of(name: str) -> str:
    """The flag of a field."""
    return "--" + name.replace("_", "-")


def variable_of(name: str) -> str:
    """The variable of a field."""
    return "FETCH_" + name.upper()


def text(value: str) -> str:
    """Any text."""
    return value


def listed(value: str) -> tuple[str, ...]:
    """Texts between commas."""
    return tuple(item.strip() for item in value.split(",") if item.strip())


def number(value: str) -> int:
    """A whole number."""
    try:
        return int(value)
    except ValueError as error:
        raise SettingsError(f"{value!r} is not a whole number") from error


def duration(value: str) -> float:
    """Seconds, written as in Go."""
    parts = _DURATION.findall(value)
    if not parts or "".join(number + unit for number, unit in parts) != value:
        raise SettingsError(f"{value!r} is not a duration such as 500ms, 30s, 10m or 1h30m")
    return sum(float(number) * _SECONDS[unit] for number, unit in parts)


def one_of(*choices: str) -> Callable[[str], str]:
    """One of these texts."""

    def parse(value: str) -> str:
        if value not in choices:
            raise SettingsError(f"{value!r} is none of {', '.join(choices)}")
        return value

    return parse

"""One setting: what is said of it, how its text is read, and how it is called where it is given.

A setting `max_txn_ops` is a flag `--max-txn-ops`, a variable `FETCH_MAX_TXN_OPS` and a line `max-txn-ops` of a file.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

PREFIX = "FETCH_"

_DURATION_PARTS = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h)")
_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}


class SettingsError(Exception):
    """A setting that is wrong: one sentence that says which and why."""


@dataclass(frozen=True, slots=True)
class Reader:
    """How a text becomes a value and the other way round.

    `form` is what is written for it in help. An empty text is refused, unless it `takes_empty`.
    """

    form: str
    parse: Callable[[str], Any]
    write: Callable[[Any], str] = str
    takes_empty: bool = True


@dataclass(frozen=True, slots=True)
class Setting:
    """How a setting is given: what is said of it, how its text is read, and its default, which may be told in words."""

    description: str
    reader: Reader
    default: Any
    by_default: str | None = None

    def parse(self, given: str, source: str) -> Any:
        """The value of a text that comes from this source.

        :raises SettingsError: it has none
        """
        if not self.reader.takes_empty and not given.strip(" ,"):
            raise SettingsError(f"{source} is empty: leave it out for its default")
        try:
            return self.reader.parse(given)
        except SettingsError as error:
            raise SettingsError(f"{source}: {error}") from error

    @property
    def told_default(self) -> str:
        """The default as it would be written; empty where there is none."""
        if self.by_default is not None:
            return self.by_default
        return "" if self.default in (None, ()) else self.reader.write(self.default)


def flag_of(name: str) -> str:
    """The flag of a field."""
    return "--" + key_of(name)


def key_of(name: str) -> str:
    """The key of a field in a file."""
    return name.replace("_", "-")


def variable_of(name: str) -> str:
    """The variable of a field."""
    return PREFIX + name.upper()


def _number(value: str) -> int:
    try:
        return int(value)
    except ValueError as error:
        raise SettingsError(f"{value!r} is not a whole number") from error


def _seconds(value: str) -> float:
    if value == "0":
        return 0.0  # as in Go
    parts = _DURATION_PARTS.findall(value)
    if not parts or "".join(digits + unit for digits, unit in parts) != value:
        raise SettingsError(f"{value!r} is not a duration such as 500ms, 30s, 10m or 1h30m")
    return sum(float(digits) * _SECONDS[unit] for digits, unit in parts)


def _written_seconds(value: float) -> str:
    unit = next(unit for unit in ("h", "m", "s", "ms") if value >= _SECONDS[unit] or unit == "ms")
    return f"{value / _SECONDS[unit]:g}{unit}"


def _items(value: str) -> tuple[str, ...]:
    return tuple(item.strip() for item in value.split(",") if item.strip())


TEXT = Reader("TEXT", str, takes_empty=False)
FILE = replace(TEXT, form="FILE")
DIRECTORY = replace(TEXT, form="DIRECTORY")
NAME = replace(TEXT, form="NAME")
NUMBER = Reader("NUMBER", _number)
BYTES = replace(NUMBER, form="BYTES")
DURATION = Reader("DURATION", _seconds, _written_seconds)
"""Seconds, written as in Go."""
RETENTION = Reader("DURATION|NUMBER", str, takes_empty=False)
"""Read when it is known which of the two it has to be."""
NAMES = Reader("NAME,…", _items, ",".join, takes_empty=False)
URLS = replace(NAMES, form="URL,…")
CHAIN = replace(NAMES, takes_empty=True)
"""Names of which none is an answer, too."""


def one_of(*choices: str, also: dict[str, str] | None = None) -> Reader:
    """One of these texts. `also` are others that are read as one of them."""
    meant = {choice: choice for choice in choices} | (also or {})

    def parse(value: str) -> str:
        if value not in meant:
            raise SettingsError(f"{value!r} is none of {', '.join(choices)}")
        return meant[value]

    return Reader("|".join(choices), parse)


def setting(default: Any, description: str, reader: Reader = TEXT, by_default: str | None = None) -> Any:
    """A field of `Settings` that flags, environment and file can give."""
    return field(default=default, metadata={"setting": Setting(description, reader, default, by_default)})

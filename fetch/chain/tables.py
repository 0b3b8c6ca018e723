"""How an interceptor reads its table of the configuration: names that there are not, and wrong values, are errors.

A reader takes a value and returns it in its own type, or raises ValueError with what it should be.
"""

from collections.abc import Callable, Mapping
from typing import Any

from fetch.suggestions import did_you_mean

Readers = Mapping[str, Callable[[object], Any]]


def read(table: Mapping[str, object], readers: Readers) -> dict[str, Any]:
    """The table's values, each read by its reader.

    :raises ValueError: a sentence that says which setting is wrong
    """
    values: dict[str, Any] = {}
    for name, value in table.items():
        reader = readers.get(name)
        if reader is None:
            known = f"(known: {', '.join(readers) or 'none'})"
            raise ValueError(f"there is no setting {name!r} {known}{did_you_mean(name, readers)}")
        try:
            values[name] = reader(value)
        except ValueError as error:
            raise ValueError(f"{name} must be {error}, not {value!r}") from error
    return values


def positive(value: object) -> float:
    """A number greater than 0."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not value > 0:
        raise ValueError("a number greater than 0")
    return float(value)


def count(value: object) -> int:
    """A whole number greater than 0."""
    if isinstance(value, bool) or not isinstance(value, int) or value <= 0:
        raise ValueError("a whole number greater than 0")
    return value


def texts(value: object) -> tuple[str, ...]:
    """A list of texts."""
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise ValueError("a list of texts")
    return tuple(value)


def positive_by_tenant(value: object) -> dict[str, float]:
    """A table of numbers greater than 0, by tenant."""
    if not isinstance(value, dict):
        raise ValueError("a table of tenants and numbers")  # noqa: TRY004  readers raise ValueError
    return {str(tenant): positive(number) for tenant, number in value.items()}

"""How a chain is planned: its interceptors by their names, among the entry points of all packages, and made.

Anyone adds an interceptor by an entry point in the group `fetch.interceptors` (or `fetch.transaction_interceptors`)
and by naming it in the configuration. What has no entry point is named by its place: `package.module:Class`.
"""

import importlib.metadata
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from fetch.chain.foreign import makes_foreign
from fetch.chain.interceptor import Setup, Trust
from fetch.config import Settings
from fetch.engine.protocol import Tenants
from fetch.observation.instruments import Instruments
from fetch.suggestions import did_you_mean

REQUEST_GROUP = "fetch.interceptors"
OPERATION_GROUP = "fetch.transaction_interceptors"


class ChainError(Exception):
    """A chain that cannot be composed: an unknown interceptor, one that cannot be made, or a wrong order."""


@dataclass(frozen=True, slots=True)
class Link:
    """An interceptor in a chain: the name that the configuration gives it, where it comes from, and itself."""

    name: str
    origin: str
    interceptor: Any
    after: Sequence[str] = field(default=())


@dataclass(frozen=True, slots=True)
class Planned:
    """An interceptor that a chain will have: its name, the entry point's value and the package that this comes from,
    its table of the configuration, and what has to stand before it. `factory` makes it."""

    name: str
    origin: str
    package: str
    table: Mapping[str, object]
    after: Sequence[str]
    factory: Callable[..., Any]


def plan(group: str, names: Sequence[str], settings: Settings) -> list[Planned]:
    """The interceptors that a chain will have, in this order, looked up among the entry points or by their places.

    :raises ChainError: one is unknown, given twice, in the wrong place or chain, or cannot be imported
    """
    known = _entry_points(group)
    planned: list[Planned] = []
    for name in names:
        entry = known.get(name) or _place(name, group)
        if entry is None:
            others = f"(known: {', '.join(sorted(known))})"
            raise ChainError(f"unknown interceptor {name!r} {others}{did_you_mean(name, known)}")
        if any(other.name == name for other in planned):
            raise ChainError(f"interceptor {name!r} is named twice")
        try:
            factory = entry.load()
        except Exception as error:
            raise ChainError(f"interceptor {name!r} cannot be imported: {error}") from error
        if group == OPERATION_GROUP and makes_foreign(factory):
            raise ChainError(f"interceptor {name!r} is one of grpcio's, which know no mutations")
        table = settings.interceptor_settings.get(name, {})
        planned.append(Planned(name, entry.value, _package(entry), table, getattr(factory, "after", ()), factory))
    _check_order(planned)
    return planned


def available(group: str) -> list[str]:
    """The names that a chain may have.

    :raises ChainError: two entry points have one name
    """
    return sorted(_entry_points(group))


def _entry_points(group: str) -> dict[str, importlib.metadata.EntryPoint]:
    """The entry points of a group by their names, each from one package: the order of a path must not choose."""
    known: dict[str, importlib.metadata.EntryPoint] = {}
    for entry in importlib.metadata.entry_points(group=group):
        other = known.setdefault(entry.name, entry)
        if other is not entry:
            both = sorted(f"{_package(each)} ({each.value})" for each in (entry, other))
            raise ChainError(f"two packages have an interceptor {entry.name!r} in {group}: {' and '.join(both)}")
    return known


def _place(name: str, group: str) -> importlib.metadata.EntryPoint | None:
    """What a name that says itself where the interceptor is leads to."""
    module, colon, attribute = name.partition(":")
    return importlib.metadata.EntryPoint(name, name, group) if module and colon and attribute else None


def _package(entry: importlib.metadata.EntryPoint) -> str:
    return "by its place" if entry.dist is None else f"{entry.dist.name} {entry.dist.version}"


def load(
    group: str,
    names: Sequence[str],
    settings: Settings,
    tenants: Tenants | None = None,
    instruments: Instruments | None = None,
    trust: Trust | None = None,
) -> list[Link]:
    """The interceptors of a chain, made from what these names lead to, in this order.

    :raises ChainError: one is unknown, given twice, in the wrong place, or cannot be made
    """
    instruments = instruments or Instruments(settings.metrics_tenants)
    links: list[Link] = []
    for planned in plan(group, names, settings):
        table, factory = planned.table, planned.factory
        setup = Setup(table, settings, tenants, instruments, trust)
        try:
            interceptor = factory(**table) if makes_foreign(factory) else factory(setup)
        except Exception as error:
            raise ChainError(f"interceptor {planned.name!r} cannot be made: {error}") from error
        links.append(Link(planned.name, planned.origin, interceptor, planned.after))
    return links


def _check_order(planned: Sequence[Planned]) -> None:
    names = [link.name for link in planned]
    for position, link in enumerate(planned):
        for needed in link.after:
            if needed in names[:position]:
                continue
            where = "behind it" if needed in names else "not in it at all"
            raise ChainError(
                f"interceptor {link.name!r} needs {needed!r} before it in the chain, where it is {where}: "
                f"the chain is {', '.join(names)}"
            )

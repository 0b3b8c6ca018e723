"""How a setting writes a chain: all its links by name, or what is added to the one that comes with fetch, and left out.

    authorization, classification, mine                 the whole chain, outermost first
    +mine, +other:before=metrics, -slow_requests        what comes with fetch, changed so, one item after the other

A name is that of an entry point, or says itself where the interceptor is: `package.module:Class`.

Links that the data's correctness rests on are part of the engine: they cannot be left out, and a chain that does not
name them has them behind those that it names.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from fetch.suggestions import did_you_mean

_ADD, _LEAVE_OUT = "+", "-"
_ADDED = re.compile(r"\+(?P<name>[^:=]+(:[^:=]+)?)(:(?P<side>before|after)=(?P<other>.+))?")


@dataclass(frozen=True, slots=True)
class Chain:
    """A chain as it comes with fetch, outermost first.

    `always` are the links that are never left out, `engine` those that are there though the setting does not name them.
    What is added without a place stands right before the link `added_before`, or at the end.
    """

    names: tuple[str, ...]
    always: tuple[str, ...]
    engine: tuple[str, ...] = ()
    added_before: str | None = None


REQUEST_CHAIN = Chain(
    ("authorization", "classification", "tracing", "metrics", "slow_requests", "memory"), always=("authorization",)
)
OPERATION_CHAIN = Chain(
    ("errors", "timing", "previous", "usage", "quota", "events"),
    always=("previous", "usage", "quota", "events"),
    engine=("previous", "usage", "quota", "events"),
    # where it sees the value that a mutation supersedes, and behind `proceed` the record and the event that it made
    added_before="usage",
)


def resolve(given: Sequence[str], chain: Chain) -> tuple[str, ...]:
    """The names of the links that a setting gives, in their order.

    :raises ValueError: it mixes the two ways to write a chain, or changes what is not there or must not be changed
    """
    changes = [item for item in given if item.startswith((_ADD, _LEAVE_OUT))]
    if not changes:
        return (*given, *(name for name in chain.engine if name not in given))
    if len(changes) != len(given):
        plain = next(item for item in given if item not in changes)
        raise ValueError(
            f"names of the whole chain and changes to it do not go together: {plain!r} is one, {changes[0]!r} the other"
        )
    names = list(chain.names)
    for change in changes:
        if change.startswith(_ADD):
            _add(change, names, chain)
        else:
            _leave_out(change, names, chain)
    return tuple(names)


def _add(change: str, names: list[str], chain: Chain) -> None:
    written = _ADDED.fullmatch(change)
    if written is None:
        raise ValueError(f"{change!r} is none of +NAME, +NAME:before=OTHER and +NAME:after=OTHER")
    name, side, other = written["name"], written["side"], written["other"]
    if name in names:
        raise ValueError(f"{change!r}: the chain has {name!r} already: {', '.join(names)}")
    if side is None:
        names.insert(len(names) if chain.added_before is None else names.index(chain.added_before), name)
        return
    if other not in names:
        raise ValueError(_not_there(change, other, names))
    names.insert(names.index(other) + (side == "after"), name)


def _leave_out(change: str, names: list[str], chain: Chain) -> None:
    name = change.removeprefix(_LEAVE_OUT)
    if name not in names:
        raise ValueError(_not_there(change, name, names))
    if name in chain.always:
        raise ValueError(f"{change!r}: {name!r} cannot be left out")
    names.remove(name)


def _not_there(change: str, name: str, names: Sequence[str]) -> str:
    return f"{change!r}: the chain has no {name!r}: {', '.join(names)}{did_you_mean(name, names)}"

"""What somebody may have meant by a name that there is not."""

import difflib
from collections.abc import Callable, Iterable

_ALIKE = 0.75
"""The least likeness: `tenant` is like `tenants`, `max-ops` not like `max-txn-ops`, which may be another's setting."""


def did_you_mean(given: str, known: Iterable[str], write: Callable[[str], str] = repr) -> str:
    """The end of a sentence that says there is no such name: which one is meant, in the form that `write` gives it.

    Empty where none is like it.
    """
    meant = {_plain(name): name for name in known}
    close = difflib.get_close_matches(_plain(given), meant, 1, _ALIKE)
    return f": did you mean {write(meant[close[0]])}?" if close else ""


def _plain(name: str) -> str:
    """A name without what is written one way here and another way there."""
    return name.lower().replace("_", "-").strip("-")

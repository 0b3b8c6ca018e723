"""Metadata as handlers see it."""

from collections.abc import Iterable
from typing import NamedTuple


class Metadatum(NamedTuple):
    """One pair of metadata: bytes where the key ends in `-bin`, text otherwise."""

    key: str
    value: str | bytes


Pairs = Iterable[tuple[str, str | bytes]]

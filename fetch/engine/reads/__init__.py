"""Reading keys at a revision.

`view` is where they are read, `paging` reads them, `counts` knows how many there are, which `pieces` find out,
`gathering` makes an answer of pages, `ranges` answers a request, and `bounds` is how much of it there is at once.
"""

from fetch.engine.reads.counts import Counts
from fetch.engine.reads.gathering import without_values
from fetch.engine.reads.paging import page, pages
from fetch.engine.reads.ranges import find, find_briefly, needed
from fetch.engine.reads.view import EVERYTHING, View, lasting_view

__all__ = [
    "EVERYTHING",
    "Counts",
    "View",
    "find",
    "find_briefly",
    "lasting_view",
    "needed",
    "page",
    "pages",
    "without_values",
]

"""The page itself."""

import pytest

from tests.compatibility import page
from tests.compatibility.page import Row

ROWS = [*page.methods(), *page.rows("## HTTP paths"), *page.rows("## Metrics"), *page.rows("## Commands of etcdctl")]


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_a_row_is_one_of_three(row: Row) -> None:
    assert row.state in (page.SERVED, page.DIFFERENTLY, page.NOT_SERVED)


@pytest.mark.parametrize("row", [row for row in ROWS if row.state == page.DIFFERENTLY], ids=lambda row: row.name)
def test_what_is_different_is_told(row: Row) -> None:
    assert row.how


def test_nothing_has_two_rows() -> None:
    assert len({row.name for row in ROWS}) == len(ROWS)

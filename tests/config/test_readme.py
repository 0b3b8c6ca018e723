"""The README tells of every setting, and of none that there is not."""

import re
from dataclasses import replace
from pathlib import Path

from fetch.config import Settings, declared

README = (Path(__file__).parents[2] / "README.md").read_text()


def told() -> set[str]:
    """The names in the first column of the table of settings."""
    table = README.split("\n| setting |")[1].split("\n\n")[0]
    rows = re.findall(r"^\|([^|]*)\|", table, re.MULTILINE)
    return {name for row in rows for name in re.findall(r"`([^`]+)`", row)}


def test_every_setting_stands_in_the_table() -> None:
    assert told() == {name.replace("_", "-") for name in declared()}


def test_the_picture_shows_the_chains_that_come_with_fetch() -> None:
    settings = Settings(listen_client_urls=("http://127.0.0.1:2379",), anonymous_tenant="guest")
    changed = replace(settings, interceptors=("+(yours)",), transaction_interceptors=("+(yours)",))
    pictured = re.findall(r"(?:request|operation) chain: (.* ▸ .*)", README)
    assert [tuple(chain.split(" ▸ ")) for chain in pictured] == [
        changed.interceptors,
        changed.transaction_interceptors,
    ]

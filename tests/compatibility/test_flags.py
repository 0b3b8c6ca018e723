"""Every flag of etcd has a row; what the row says is made of the settings (`docs/reference/generate.py`)."""

import re
import subprocess

import pytest

from tests.compatibility import page
from tests.endpoints.etcd import PROMISED, find_etcd
from tests.endpoints.server import Missing

_OF_ITS_OWN = ("config-file", "version", "help")


def test_every_flag_of_a_real_etcd_has_a_row() -> None:
    etcd = find_etcd()
    if isinstance(etcd, Missing) or etcd.version < PROMISED:
        pytest.skip("there is no etcd 3.7")
    told = subprocess.run([etcd.binary, "--help"], capture_output=True, text=True, check=True, timeout=60)
    flags = set(re.findall(r"^  --([a-z0-9-]+)", told.stdout + told.stderr, re.MULTILINE)) - set(_OF_ITS_OWN)
    rows = {row.name.removeprefix("--") for row in page.rows("## Flags")}
    assert len(flags) > 100
    assert {flag for flag in flags if not flag.startswith("experimental-")} - rows == set()

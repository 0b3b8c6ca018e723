"""`python -m tests.upgrade RELEASE`: keeps stores as this code writes them, for later code to serve. Done once a release."""

import asyncio
import json
import lzma
import random
import sys
import tempfile
from pathlib import Path
from typing import Any

import lmdb

from fetch.stores.embedded.store import LmdbStore
from fetch.stores.foundationdb.store import FoundationDBStore
from tests.simulation.binding import SimulatedBinding
from tests.simulation.cluster import Cluster
from tests.upgrade.stored import STORES, answers, tenants_on, write


async def _embedded(directory: Path) -> tuple[bytes, dict[str, Any]]:
    async with tenants_on(LmdbStore(directory / "data")) as tenants:
        await write(tenants)
        told = await answers(tenants)
    (directory / "copy").mkdir()
    with lmdb.open(str(directory / "data"), create=False) as environment:
        environment.copy(str(directory / "copy"), compact=True)
    return (directory / "copy" / "data.mdb").read_bytes(), told


async def _foundationdb() -> tuple[dict[str, str], dict[str, Any]]:
    cluster = Cluster(random.Random(1))
    async with tenants_on(FoundationDBStore(SimulatedBinding(cluster))) as tenants:  # type: ignore[arg-type]
        await write(tenants)
        told = await answers(tenants)
        rows: dict[str, str] = {}
        begin, more = b"", True
        while more:
            found, more = cluster.rows(begin, b"\xff", cluster.read_version(), 1000)
            rows |= {key.hex(): value.hex() for key, value in found}
            begin = found[-1][0] + b"\x00"
    return rows, told


async def _keep(release: str) -> None:
    with tempfile.TemporaryDirectory() as directory:
        database, of_embedded = await _embedded(Path(directory))
    rows, of_foundationdb = await _foundationdb()
    assert of_embedded == of_foundationdb
    kept = STORES / release
    kept.mkdir(parents=True)
    (kept / "data.mdb.xz").write_bytes(lzma.compress(database))
    (kept / "rows.json.xz").write_bytes(lzma.compress(json.dumps(rows).encode()))
    (kept / "answers.json").write_text(json.dumps(of_embedded, indent=1) + "\n")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    asyncio.run(_keep(sys.argv[1]))

"""Stores as a release has left them, and what they answer: the fixtures of `tests/upgrade`.

`stores/RELEASE/` has the database of an embedded store (`data.mdb.xz`), the rows of a FoundationDB (`rows.json.xz`: keys
and values in hexadecimal), and what the tenants answered when they were written (`answers.json`).
"""

import json
import lzma
import random
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

from fetch import chain
from fetch.api.rpc_pb2 import PutRequest, RangeRequest, RequestOp, TxnRequest
from fetch.engine.alarms import NO_SPACE
from fetch.engine.engine import StoredEngine
from fetch.engine.mutations import apply
from fetch.engine.tenants import Tenants
from fetch.stores.embedded.store import LmdbStore
from fetch.stores.foundationdb.store import FoundationDBStore
from fetch.stores.protocol import Store
from tests.engine.engines import delete, listed, operation_chain, put, take, watch
from tests.simulation.binding import SimulatedBinding
from tests.simulation.cluster import Cluster, Commit

STORES = Path(__file__).parent / "stores"
RELEASES = sorted(path.name for path in STORES.iterdir()) if STORES.is_dir() else []
TENANTS = ("alpha", "beta", "spiffe://cluster/gamma")

_PODS = b"/registry/pods/%02d"
_EVERY_KEY = RangeRequest(key=b"\x00", range_end=b"\x00")
_COMPACTED = 30


@asynccontextmanager
async def tenants_on(store: Store) -> AsyncIterator[Tenants]:
    """The tenants of a daemon that serves the store."""
    tenants = Tenants(store, 0, None, chain.compose(operation_chain(), apply), lambda *_: None)
    try:
        yield tenants
    finally:
        await tenants.close()
        await store.close()


async def write(tenants: Tenants) -> None:
    """Writes something of everything that is stored."""
    for number, tenant in enumerate(TENANTS):
        await _write(await tenants.open(tenant), number)
    await (await tenants.open("beta")).change_alarms(activate=frozenset({NO_SPACE}))


async def _write(engine: StoredEngine, number: int) -> None:
    chance = random.Random(number)
    pods = [_PODS % pod for pod in range(12)]
    for key in pods:
        await put(engine, key, b"first of %s" % key)
    for _ in range(30):
        await put(engine, chance.choice(pods), b"value %d" % chance.randrange(1 << 30))
    await delete(engine, pods[0])
    await delete(engine, pods[8], pods[10])
    await put(engine, pods[8], b"made again")
    puts = [RequestOp(request_put=PutRequest(key=key, value=b"in one transaction")) for key in pods[2:6]]
    await engine.txn(TxnRequest(success=puts))
    await put(engine, b"/large", chance.randbytes(500) * 500)  # more than FoundationDB takes in one row
    await put(engine, b"/long/" + b"k" * 1200, b"longer than LMDB's keys")
    await put(engine, b"/\x00\xff\x00", b"bytes that rows escape")
    await engine.grant_lease(7587 + number, 1 << 30)
    await engine.grant_lease(1, 1 << 30)
    for key in (b"/leased/a", b"/leased/b"):
        await engine.put(PutRequest(key=key, value=b"leased", lease=7587 + number))
    await engine.compact(_COMPACTED, physical=True)
    for _ in range(10):
        await put(engine, chance.choice(pods), b"later %d" % chance.randrange(1 << 30))
    await delete(engine, b"/large")


async def answers(tenants: Tenants) -> dict[str, Any]:
    """What the tenants answer, by their names."""
    return {tenant: await _answers(await tenants.open(tenant)) for tenant in TENANTS}


async def _answers(engine: StoredEngine) -> dict[str, Any]:
    status = await engine.status()
    revisions = range(status.compacted, status.revision + 1)
    events = await take(engine, await watch(engine, b"\x00", b"\x00", status.compacted))
    leases = sorted((await engine.leases())[0])
    return {
        "revision": status.revision,
        "compacted": status.compacted,
        "keys": status.keys,
        "stored_bytes": status.stored_bytes,
        "alarms": sorted(map(list, status.alarms)),
        "hashes": [(await engine.hash_keys(revision))[0] for revision in revisions],
        "lists": [_digest(await listed(engine, _at(revision))) for revision in revisions],
        "events": _digest([event.SerializeToString(deterministic=True) for event in events]),
        "leases": {str(lease): await _keys_of(engine, lease) for lease in leases},
    }


def _at(revision: int) -> RangeRequest:
    request = RangeRequest(revision=revision)
    request.MergeFrom(_EVERY_KEY)
    return request


def _digest(found: Sequence[object]) -> str:
    return f"{len(found)} {sha256(repr(found).encode()).hexdigest()[:16]}"


async def _keys_of(engine: StoredEngine, lease: int) -> list[str]:
    return sorted(key.decode() for key in (await engine.find_lease(lease, keys=True))[2])


@dataclass(frozen=True, slots=True)
class Kept:
    """The stores of a release."""

    directory: Path

    @property
    def answers(self) -> dict[str, Any]:
        kept: dict[str, Any] = json.loads((self.directory / "answers.json").read_text())
        return kept

    def embedded(self, directory: Path) -> LmdbStore:
        """The embedded store, in this folder."""
        directory.mkdir(mode=0o700)
        (directory / "data.mdb").write_bytes(lzma.decompress((self.directory / "data.mdb.xz").read_bytes()))
        return LmdbStore(directory)

    def foundationdb(self) -> FoundationDBStore:
        """The store on a FoundationDB in memory that has the rows."""
        rows = json.loads(lzma.decompress((self.directory / "rows.json.xz").read_bytes()))
        cluster = Cluster(random.Random(1))
        cluster.commit(
            Commit(
                cluster.read_version(),
                [],
                [],
                {bytes.fromhex(key): bytes.fromhex(value) for key, value in rows.items()},
            )
        )
        return FoundationDBStore(SimulatedBinding(cluster))  # type: ignore[arg-type]  # the model of the binding

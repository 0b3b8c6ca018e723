"""Audit log: writes down every change of a tenant in the transaction that makes it.

An entry commits with its change or not at all. Entries lie in a subspace of the tenant's that no etcd request reaches,
so who may write keys cannot rewrite the log; `entries` reads it.

Settings:
    prefix: only changes of keys with this prefix are written down; by default all
"""

import json
import time
from collections.abc import AsyncIterator
from typing import Any

from fetch.chain import ProceedMutation, Setup
from fetch.engine.batch import Mutation
from fetch.engine.layout import Layout
from fetch.stores.transaction import Source, all_rows

_NAME = "audit-log"


class AuditLog:
    """Adds an entry for each put and delete: when, what, at which revision."""

    def __init__(self, setup: Setup) -> None:
        self._prefix = str(setup.table.get("prefix", "")).encode()

    async def intercept(self, mutation: Mutation, proceed: ProceedMutation) -> None:
        """Writes the entry once the change is made; a change that is refused has none."""
        await proceed(mutation)
        if mutation.key.startswith(self._prefix):
            batch = mutation.batch
            row = _row(batch.layout, batch.revision, batch.sub)
            entry = {"at": time.time(), "kind": mutation.kind, "key": mutation.key.decode(errors="backslashreplace")}
            batch.transaction.set(row, json.dumps(entry).encode())


async def entries(source: Source, layout: Layout) -> AsyncIterator[dict[str, Any]]:
    """The entries of a tenant, oldest first."""
    begin = layout.extension(_NAME)
    async for _, entry in all_rows(source, begin, begin + b"\xff"):
        yield json.loads(entry)


def _row(layout: Layout, revision: int, sub: int) -> bytes:
    return layout.extension(_NAME) + revision.to_bytes(8, "big") + sub.to_bytes(4, "big")

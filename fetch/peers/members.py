"""The daemons that serve a store's tenants: each keeps a row in the store, and reads the others'.

A daemon's name is a number that it makes up when it starts. Its row says where clients and other daemons reach it, and
changes with each beat of its heart; who sees a row stand still for long, by its own clock, takes the daemon for dead
and removes the row, as with the heartbeats of `fetch/stores/foundationdb/daemons.py`. Those belong to the store, which
has to know them before it can commit anything, and know nothing of addresses; these are ordinary rows.

What etcd calls a member is what clients tell apart: an address. So the ID of a member is made from its daemon's URLs,
and stays when the daemon is started again.
"""

import asyncio
import hashlib
import logging
import secrets
import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from fetch.engine.layout import members
from fetch.stores.protocol import Store, StoreFull, StoreUnavailable
from fetch.stores.transaction import Transaction
from fetch.v1 import peers_pb2

BEAT_SECONDS = 3.0
GONE_SECONDS = 10.0
"""How long a row may stand still before its daemon is no longer counted among those that live."""

REMOVED_SECONDS = 60.0
_LEAST_SECONDS = 0.2
_MOST = 1000
_NAME = struct.Struct(">Q")

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Member:
    """A daemon that serves. `daemon` is its name, `label` what people call it."""

    daemon: int
    label: str
    client_urls: Sequence[str]
    peer_urls: Sequence[str]
    id: int = field(init=False)

    def __post_init__(self) -> None:
        digest = hashlib.sha256("\n".join(sorted(self.client_urls)).encode()).digest()
        object.__setattr__(self, "id", struct.unpack(">Q", digest[:8])[0] >> 1 | 1)


class Members:
    """This daemon among those on its store."""

    def __init__(self, store: Store, label: str, client_urls: Sequence[str], peer_urls: Sequence[str]) -> None:
        self._store = store
        self.own = Member(secrets.randbits(63) | 1, label, tuple(client_urls), tuple(peer_urls))
        self._beats = 0
        # each row as it was seen last, when it was first seen so, and the daemon that it tells of
        self._seen: dict[int, tuple[bytes, float, Member]] = {}
        self._sooner = asyncio.Event()

    def find(self, daemon: int) -> Member | None:
        """A daemon that lives, by its name. One that is not known is looked for soon."""
        known = self._seen.get(daemon)
        if known is None:
            self._sooner.set()
            return None
        return known[2] if asyncio.get_running_loop().time() - known[1] < GONE_SECONDS else None

    def living(self) -> list[Member]:
        """All that live, this one among them, in an order that is the same on all daemons; each address once."""
        now = asyncio.get_running_loop().time()
        alive = [member for _, since, member in self._seen.values() if now - since < GONE_SECONDS]
        by_id = {member.id: member for member in sorted([*alive, self.own], key=lambda member: member.daemon)}
        return [by_id[number] for number in sorted(by_id)]

    def leader(self, writer: int) -> int:
        """The ID of the member that leads a tenant: the daemon that wrote for it last, if it lives, else the first."""
        if writer == self.own.daemon:
            return self.own.id
        member = self.find(writer) if writer else None
        return self.living()[0].id if member is None else member.id

    def knows(self, daemon: int) -> bool:
        """Whether a daemon has a row, as far as this one has seen."""
        return daemon in self._seen

    async def run(self, seen: Callable[[], None] = lambda: None) -> None:
        """Beats until cancelled, at once when somebody is asked for who is not known. `seen` is told of each look."""
        while True:
            try:
                await self.beat()
                seen()
            except (StoreUnavailable, StoreFull) as error:
                logger.debug("no heartbeat among the daemons: %s", error)
            await asyncio.sleep(_LEAST_SECONDS)
            try:
                async with asyncio.timeout(BEAT_SECONDS - _LEAST_SECONDS):
                    await self._sooner.wait()
            except TimeoutError:
                pass
            self._sooner.clear()

    async def beat(self) -> None:
        """Writes this daemon's row, reads all, and removes those that have stood still for long.

        Costs by the number of daemons.

        :raises StoreUnavailable: :raises StoreFull:
        """
        begin, end = members(self._store.shared_prefix)
        self._beats += 1
        own = self.own
        row = peers_pb2.Member(
            name=own.label, client_urls=own.client_urls, peer_urls=own.peer_urls, beat=self._beats
        ).SerializeToString()

        async def look(transaction: Transaction) -> list[tuple[int, bytes]]:
            rows, _ = await transaction.get_range(begin, end, _MOST)
            found = [(_NAME.unpack(key[len(begin) :])[0], stored) for key, stored in rows]
            for daemon, stored in found:
                if self._stands_still(daemon, stored):
                    transaction.clear(begin + _NAME.pack(daemon))
            transaction.set(begin + _NAME.pack(own.daemon), row)
            return found

        self._learn(await self._store.transact(look))

    async def leave(self) -> None:
        """Removes this daemon's row.

        :raises StoreUnavailable: :raises StoreFull: it stays, for others to remove
        """
        begin, _ = members(self._store.shared_prefix)

        async def remove(transaction: Transaction) -> None:
            transaction.clear(begin + _NAME.pack(self.own.daemon))

        await self._store.transact(remove)

    def _stands_still(self, daemon: int, stored: bytes) -> bool:
        known = self._seen.get(daemon)
        if known is None or known[0] != stored:
            return False
        return asyncio.get_running_loop().time() - known[1] > REMOVED_SECONDS

    def _learn(self, found: Sequence[tuple[int, bytes]]) -> None:
        now = asyncio.get_running_loop().time()
        seen = self._seen
        self._seen = {}
        for daemon, stored in found:
            if daemon == self.own.daemon:
                continue
            known = seen.get(daemon)
            if known is not None and known[0] == stored:
                self._seen[daemon] = known
                continue
            told = peers_pb2.Member.FromString(stored)
            member = Member(daemon, told.name, tuple(told.client_urls), tuple(told.peer_urls))
            self._seen[daemon] = stored, now, member

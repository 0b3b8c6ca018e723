"""The daemons that write to one cluster, and what became of their last transactions.

FoundationDB may not know whether it has committed a transaction (`commit_unknown_result`). So each attempt of a
transaction writes its number to a row, its lane, that it also reads as a conflict. The next attempt finds there whether
the one before was committed; and if that one should still be under way, only one of the two can be. A daemon has as
many lanes as it has transactions at once, and uses them again.

    HEARTBEATS DAEMON            the number of its last heartbeat
    LANES DAEMON LANE            the number of the last attempt that was committed on the lane

Daemons beat; whoever sees another's heart stand still removes its rows. An attempt that follows an unknown one also
relies on its own heartbeat: a daemon that was taken for dead must not conclude anything from lanes that are gone.
"""

import asyncio
import itertools
import logging
import secrets
import struct
import time
from dataclasses import dataclass
from typing import Any

from fetch.stores.foundationdb.binding import Binding, as_store_error
from fetch.stores.protocol import StoreUnavailable

BEAT_SECONDS = 10.0
DEAD_SECONDS = 60.0
_RETRY_SECONDS = 0.5
_MOST_DAEMONS = 10_000
_ID_BYTES = 8
_NUMBER = struct.Struct(">Q")
_LANE = struct.Struct(">I")

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Lane:
    """The row that tells which attempt was committed last, and the heartbeat of the daemon that it belongs to."""

    row: bytes
    heartbeat: bytes
    number: int


class Daemons:
    """This daemon among all of them."""

    def __init__(self, binding: Binding, prefix: bytes) -> None:
        self._binding = binding
        self._heartbeats = prefix + b"h"
        self._lanes = prefix + b"l"
        self._id = secrets.token_bytes(_ID_BYTES)
        self._attempts = itertools.count(1)
        self._beats = itertools.count(1)
        self._free: list[int] = []
        self._made = 0
        self._registered = asyncio.Event()
        self._seen: dict[bytes, tuple[bytes, float]] = {}

    async def register(self, seconds: float) -> None:
        """Returns once this daemon's heart beats, so that whatever it leaves behind will be removed.

        :raises StoreUnavailable: not within so many seconds
        """
        if self._registered.is_set():
            return
        try:
            await asyncio.wait_for(self._registered.wait(), seconds)
        except TimeoutError as error:
            raise StoreUnavailable(f"FoundationDB did not answer within {seconds:g} s") from error

    def take_lane(self) -> Lane:
        """A lane that nobody else uses until it is given back."""
        if self._free:
            number = self._free.pop()
        else:
            number, self._made = self._made, self._made + 1
        return Lane(self._lanes + self._id + _LANE.pack(number), self._heartbeats + self._id, number)

    def give_back(self, lane: Lane) -> None:
        """The lane can be used again."""
        self._free.append(lane.number)

    def next_attempt(self) -> bytes:
        """What an attempt writes to its lane: different each time."""
        return _NUMBER.pack(next(self._attempts))

    async def run(self) -> None:
        """Beats until cancelled."""
        while True:
            try:
                await self.beat()
            except self._binding.fdb.FDBError as error:
                logger.debug("no heartbeat: %s", as_store_error(self._binding.fdb, error))
                await asyncio.sleep(_RETRY_SECONDS)
            else:
                await asyncio.sleep(BEAT_SECONDS)

    async def beat(self) -> None:
        """Beats once, and removes what daemons have left whose hearts have stood still.

        :raises FDBError: it did not work this time
        """
        transaction = self._binding.begin()
        rows, _ = await self._binding.rows(
            transaction, self._heartbeats, self._heartbeats + b"\xff" * (_ID_BYTES + 1), _MOST_DAEMONS
        )
        found = dict(rows)
        if self._registered.is_set() and self._heartbeats + self._id not in found:
            logger.warning("this daemon has been taken for dead; it goes on under another name")
            self._id = secrets.token_bytes(_ID_BYTES)
        own = self._heartbeats + self._id
        transaction.add_read_conflict_key(own)
        for row in self._dead(found, own):
            transaction.add_read_conflict_key(row)
            self._remove(transaction, row)
        transaction.set(own, _NUMBER.pack(next(self._beats)))
        await self._binding.commit(transaction)
        self._registered.set()

    async def leave(self) -> None:
        """Removes what this daemon would leave behind.

        :raises FDBError: it stays, for others to remove
        """
        transaction = self._binding.begin()
        self._remove(transaction, self._heartbeats + self._id)
        await self._binding.commit(transaction)

    def _dead(self, found: dict[bytes, bytes], own: bytes) -> list[bytes]:
        """The heartbeats that have not changed for long, by this daemon's own clock: others' clocks may differ."""
        now = time.monotonic()
        seen = self._seen
        self._seen = {
            row: seen[row] if row in seen and seen[row][0] == beat else (beat, now) for row, beat in found.items()
        }
        return [row for row, (_, since) in self._seen.items() if row != own and now - since > DEAD_SECONDS]

    def _remove(self, transaction: Any, heartbeat: bytes) -> None:
        lanes = self._lanes + heartbeat[len(self._heartbeats) :]
        transaction.clear_range(lanes, lanes + b"\xff" * (_LANE.size + 1))
        transaction.clear(heartbeat)

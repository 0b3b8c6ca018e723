"""The first reads of snapshots, which most snapshots consist of: gathered, and made at one read version in one go.

A snapshot must hold everything that was acknowledged before it was asked for, so whoever asks while the read version
is still to be fetched may share it. What asks while a group is read forms the next one, as the writes of a batch do: a
group takes one transaction, one read version and one wake-up, and reads a row once that several want, such as a
tenant's revision. With 64 gets in flight that saves 90 of 360 µs of a get's CPU, gRPC included; a get that is alone
starts at once. A group that is slow, for one of its rows is, holds the next one up for `_PATIENCE_SECONDS` only.
"""

import asyncio
from collections.abc import Sequence
from typing import Any

from fetch.stores.foundationdb.binding import Binding

_PATIENCE_SECONDS = 0.005

Answer = tuple[Any, list[bytes | None]]


class FirstReads:
    """Groups the first reads of all snapshots of a store."""

    def __init__(self, binding: Binding) -> None:
        self._binding = binding
        self._loop = asyncio.get_running_loop()
        self._waiting: list[tuple[Sequence[bytes], asyncio.Future[Answer]]] = []
        self._group: asyncio.Task[None] | None = None
        self._groups: set[asyncio.Task[None]] = set()

    async def read(self, keys: Sequence[bytes]) -> Answer:
        """The transaction that has read the keys, for further reads at its version, and their values.

        :raises FDBError:
        """
        answer: asyncio.Future[Answer] = self._loop.create_future()
        self._waiting.append((keys, answer))
        self._start()
        return await answer

    def _start(self) -> None:
        if self._group is None and self._waiting:
            # it runs in the loop's next turn, so that all reads of this turn join
            self._group = group = self._loop.create_task(self._run())
            self._groups.add(group)
            self._loop.call_later(_PATIENCE_SECONDS, self._pass, group)
            group.add_done_callback(self._pass)
            group.add_done_callback(self._groups.discard)

    def _pass(self, group: asyncio.Task[None]) -> None:
        if self._group is group:
            self._group = None
            self._start()

    async def _run(self) -> None:
        group, self._waiting = self._waiting, []
        rows = list(dict.fromkeys(key for keys, _ in group for key in keys))
        try:
            transaction = self._binding.begin()
            values = dict(zip(rows, await self._binding.values(transaction, rows), strict=True))
        except self._binding.fdb.FDBError as error:
            for _, answer in group:
                if not answer.done():
                    answer.set_exception(error)
            return
        for keys, answer in group:
            if not answer.done():
                answer.set_result((transaction, [values[key] for key in keys]))

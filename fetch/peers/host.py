"""What a daemon does for others: it takes their clients' writes into its own batches, and answers them as they are
done.

It writes whatever it is sent, be it the tenant's writer or not; but tells who is, so that the next write goes there.
"""

import asyncio
import contextlib
import logging
from collections.abc import Callable

from opentelemetry import context, propagate

from fetch.engine.tenants import Tenants, name_of
from fetch.peers import operations
from fetch.peers.channels import Channel, ChannelClosed
from fetch.peers.claims import Writing
from fetch.v1.peers_pb2 import Moved, Result, Results, Write, Writes

BEAT_SECONDS = 1.0
_TOLD_AGAIN_SECONDS = 0.5
_MOST_BYTES = 1 << 20

logger = logging.getLogger(__name__)


class Host:
    """The writes of other daemons, on whatever channels they come."""

    def __init__(self, tenants: Tenants, writing: Callable[[str], Writing]) -> None:
        """`writing` is what this daemon knows of who writes for a tenant."""
        self._tenants = tenants
        self._writing = writing
        self._guests: set[_Guest] = set()
        self._leaving = False
        self._alone = asyncio.Event()
        self._alone.set()

    async def serve(self, channel: Channel) -> None:
        """Serves one daemon, until it goes."""
        guest = _Guest(channel, self._tenants, self._writing, leaving=self._leaving)
        self._guests.add(guest)
        self._alone.clear()
        try:
            await guest.serve()
        finally:
            self._guests.discard(guest)
            if not self._guests:
                self._alone.set()

    async def leave(self) -> None:
        """Asks the others to send no more; returns when all have gone, with what they had sent answered."""
        self._leaving = True
        for guest in self._guests:
            guest.leave()
        await self._alone.wait()


class _Guest:
    """One daemon's writes."""

    def __init__(self, channel: Channel, tenants: Tenants, writing: Callable[[str], Writing], *, leaving: bool) -> None:
        self._channel = channel
        self._tenants = tenants
        self._writing = writing
        self.tasks: dict[int, asyncio.Task[None]] = {}
        self._said = Results(leaving=leaving)
        self._results: list[Result] = []
        self._told: dict[str, float] = {}
        self._more = asyncio.Event()

    def leave(self) -> None:
        self._said.leaving = True
        self._more.set()

    async def serve(self) -> None:
        saying = asyncio.create_task(self._say())
        try:
            while True:
                self._take(Writes.FromString(await self._channel.receive()))
        except ChannelClosed:
            return
        finally:
            saying.cancel()
            for task in self.tasks.values():
                task.cancel()  # what no batch has taken yet nobody waits for any more
            self._channel.close()

    def _take(self, message: Writes) -> None:
        for number in message.cancelled:
            if (task := self.tasks.get(number)) is not None:
                task.cancel()
        for write in message.writes:
            task = asyncio.create_task(self._carry_out(write, message.origin))
            self.tasks[write.number] = task
            task.add_done_callback(lambda _, number=write.number: self.tasks.pop(number, None))  # type: ignore[misc]

    async def _carry_out(self, write: Write, origin: int) -> None:
        if write.trace:
            context.attach(propagate.extract(dict(write.trace)))  # the task's own
        name = name_of(write.tenant)
        try:
            engine = self._tenants.get(name) or await self._tenants.open(name)
            # one of the two daemons has not heard yet that the name is another keyspace now
            declined = engine.keyspace != write.tenant
        except Exception as error:  # noqa: BLE001  whatever it is, nothing was written: the origin meets it itself
            logger.info("a write of %s that another daemon has sent is left to it: %s", name, error)
            declined = True
        if declined:
            self._answer(Result(number=write.number, declined=True))
            return
        writing = self._writing(name)
        writing.count(origin)
        self._tell(name, writing)
        self._answer(await operations.carry_out(engine, write))

    def _tell(self, tenant: str, writing: Writing) -> None:
        """Tells of another writer, but not with each of many writes."""
        writer = writing.writer
        now = asyncio.get_running_loop().time()
        if writer is not None and now >= self._told.get(tenant, 0.0):
            self._told[tenant] = now + _TOLD_AGAIN_SECONDS
            self._said.moved.append(Moved(tenant=tenant, writer=writer))

    def _answer(self, result: Result) -> None:
        self._results.append(result)
        self._more.set()

    async def _say(self) -> None:
        """Says what there is to say, all at once, and something every second."""
        with contextlib.suppress(ChannelClosed):
            await self._channel.send(Results(leaving=self._said.leaving).SerializeToString())
            while True:
                try:
                    async with asyncio.timeout(BEAT_SECONDS):
                        await self._more.wait()
                except TimeoutError:
                    pass
                self._more.clear()
                await self._channel.send(self._next_message())

    def _next_message(self) -> bytes:
        """What there is to say, as much as fits; the rest follows."""
        said, self._said = self._said, Results()
        size = taken = 0
        while taken < len(self._results) and size < _MOST_BYTES:
            size += self._results[taken].ByteSize()
            taken += 1
        said.results.extend(self._results[:taken])
        del self._results[:taken]
        if self._results:
            self._more.set()
        return said.SerializeToString()

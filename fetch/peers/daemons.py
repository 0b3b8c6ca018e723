"""A daemon among others: what it knows of each tenant's writer, its ways to the others, and what it does for them."""

import asyncio
import contextlib
from collections.abc import Callable

from fetch.engine import background
from fetch.engine.background import Failed
from fetch.engine.engine import StoredEngine
from fetch.engine.protocol import Ended, StorageEngine
from fetch.engine.tenants import Tenants
from fetch.errors import EtcdError
from fetch.peers.channels import Channel, ChannelClosed, Connect
from fetch.peers.claims import Writing
from fetch.peers.engine import SharedEngine
from fetch.peers.host import Host
from fetch.peers.link import Link
from fetch.peers.members import Member, Members
from fetch.stores.protocol import StoreFull, StoreUnavailable

_LEAVE_SECONDS = 2.0


class Writers:
    """What this daemon knows of who writes, by tenant, and its ways to those who do."""

    def __init__(self, members: Members, now: Callable[[], int], connect: Connect) -> None:
        """`now` is the time served, in milliseconds."""
        self.members = members
        self._now = now
        self._connect = connect
        self._writing: dict[str, Writing] = {}
        self._links: dict[int, Link] = {}

    def of(self, tenant: str) -> Writing:
        """What is known of a tenant's writer."""
        writing = self._writing.get(tenant)
        if writing is None:
            writing = self._writing[tenant] = Writing(self.members.own.daemon, self._now, self._is_unreachable)
        return writing

    def link(self, daemon: int) -> Link | None:
        """The way to a daemon, if it can be used now. If it is not open, it is begun to be opened."""
        link = self._links.get(daemon)
        if link is None:
            member = self.members.find(daemon)
            if member is None or not member.peer_urls:
                return None
            link = self._links[daemon] = Link(self.members.own.daemon, lambda: self._reach(member), self._moved)
        if link.is_ready:
            return link
        link.open()
        return None

    def close(self) -> None:
        """Ends all ways to others."""
        for link in self._links.values():
            link.close()

    def forget_the_dead(self) -> None:
        """Lets go of the ways to daemons that are not known any more."""
        for daemon in [daemon for daemon in self._links if not self.members.knows(daemon)]:
            self._links.pop(daemon).close()

    async def _reach(self, member: Member) -> Channel:
        """A channel to a daemon, by the first of its URLs that leads to it."""
        for url in member.peer_urls:
            with contextlib.suppress(ChannelClosed):
                return await self._connect(url)
        raise ChannelClosed

    def _is_unreachable(self, daemon: int) -> bool:
        link = self._links.get(daemon)
        return link is not None and link.is_broken

    def _moved(self, tenant: str, writer: int) -> None:
        self.of(tenant).moved_to(writer)


class SharedTenants:
    """Gives each tenant its engine, whose writes go to whoever writes for it."""

    def __init__(
        self, tenants: Tenants, writers: Writers, *, traces: bool, report: Callable[[str], None] = lambda _: None
    ) -> None:
        """`traces`: spans go somewhere; `report`: see `SharedEngine`."""
        self._tenants = tenants
        self._writers = writers
        self._traces = traces
        self._report = report
        self._shared: dict[str, SharedEngine] = {}

    def get(self, name: str) -> SharedEngine | None:
        """See `Tenants`."""
        stored = self._tenants.get(name)
        if stored is None:
            self._shared.pop(name, None)  # it may have been, and be gone
            return None
        return self._of(stored)

    async def open(self, name: str) -> SharedEngine:
        """See `Tenants`."""
        return self._of(await self._tenants.open(name))

    def when_ended(self, ended: Ended) -> None:
        """See `Tenants`."""

        def told(engine: StorageEngine, error: type[EtcdError]) -> None:
            shared = self._shared.get(engine.tenant)
            if shared is not None and shared.stored is engine:
                del self._shared[engine.tenant]
                ended(shared, error)

        self._tenants.when_ended(told)

    def _of(self, stored: StoredEngine) -> SharedEngine:
        shared = self._shared.get(stored.tenant)
        if shared is None or shared.stored is not stored:
            writing = self._writers.of(stored.tenant)
            shared = self._shared[stored.tenant] = SharedEngine(
                stored, writing, self._writers.link, self._report, traces=self._traces
            )
        return shared


class Peers:
    """All of it, while a daemon runs."""

    def __init__(self, tenants: Tenants, writers: Writers, failed: Failed) -> None:
        """`failed` is told of each failure of what runs in the background."""
        self._writers = writers
        self._failed = failed
        self._beating: asyncio.Task[None] | None = None
        self.host = Host(tenants, writers.of)

    def start(self) -> None:
        """Makes this daemon known, and begins to look for others."""
        self._beating = background.start("daemons", self._beat, self._failed)

    async def leave(self) -> None:
        """Takes nothing more from others, once what they have sent is answered, and sends them nothing more."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_LEAVE_SECONDS):
                await self.host.leave()
        self._writers.close()
        if self._beating is not None:
            await leave_others(self._writers.members, self._beating)

    async def _beat(self) -> None:
        await self._writers.members.run(self._writers.forget_the_dead)


async def leave_others(members: Members, beating: "asyncio.Task[None]") -> None:
    """Ends the beats of this daemon, and removes its row, if the store takes that."""
    beating.cancel()
    await asyncio.wait([beating])
    with contextlib.suppress(StoreUnavailable, StoreFull, TimeoutError):
        async with asyncio.timeout(_LEAVE_SECONDS):
            await members.leave()

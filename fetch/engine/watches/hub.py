"""All watches of a tenant, and the one who follows its log.

Every await here is a place where watches begin and end and where commits are handed on. What is relied on after one is
read after it, or does not change: the log behind a position does not, but by compaction, which is looked for each time.
"""

import time
from collections.abc import Callable, Iterator

from fetch.engine.background import Failed
from fetch.engine.batch import Delivered
from fetch.engine.layout import FIRST_REVISION, Layout, LoadingMark, unpack_last_revision, unpack_revision
from fetch.engine.protocol import MESSAGE_BYTES, Delivery
from fetch.engine.records import StoredEvent
from fetch.engine.turns import Turns, Work
from fetch.engine.watches.background import Background
from fetch.engine.watches.delivery import framed, is_long, take_from
from fetch.engine.watches.fanout import FanOut, Feeds
from fetch.engine.watches.feed import Backlog, Watcher
from fetch.engine.watches.log import Log
from fetch.engine.watches.replay import Replay
from fetch.stores.protocol import Store

# what a commit's hand-on may take before it goes on in slices, in microseconds; a slice of it likewise
_AT_ONCE = 1600
_CANCELLED_AT_ONCE = 200

# what runs in the background
_FOLLOWING = "following the log"
_HANDING_ON = "handing on what has happened"
_REPLAYING = "replaying the log"
_FREEING = "freeing what nobody waits for"


class Hub:
    """All watches of a tenant, and the one who follows its log."""

    def __init__(
        self,
        tenant: str,
        store: Store,
        layout: Layout,
        turns: Turns,
        delivered: Callable[[Delivered], None],
        failed: Failed,
    ) -> None:
        """`delivered` is told of what watchers are given, `failed` of failures of what runs in the background."""
        self._tenant = tenant
        self._store = store
        self._layout = layout
        self._turns = turns
        self._delivered = delivered
        self._log = Log(store, layout)
        self._backlog = Backlog()
        self._feeds = Feeds(self._backlog)
        self._fan_out: FanOut | None = None
        self._steps: Iterator[float] | None = None
        self._replay = Replay(self._log, layout, lambda: self.received, self._join)
        self._background = Background(tenant, failed)
        # those who need the hub: watchers, and those that are being registered
        self._users = 0
        self.watchers = 0
        self.behind = 0
        """The watchers that read the log, since they started in the past or could not keep up."""

    @property
    def position(self) -> int:
        """The revision up to which everything has been handed on; -1 while nobody watches."""
        return -1 if self._fan_out is None else self._fan_out.position

    @property
    def received(self) -> int:
        """The newest revision that the hub knows of; -1 while nobody watches."""
        return -1 if self._fan_out is None else self._fan_out.received

    @property
    def held(self) -> int:
        """The bytes that are held for watchers."""
        return self._backlog.size + self._replay.held

    async def register_key_watch(
        self,
        key: bytes,
        range_end: bytes,
        start_revision: int,
        *,
        prev_kv: bool,
        puts: bool,
        deletes: bool,
        listener: Callable[[Watcher], bool | None],
    ) -> Watcher:
        """A watcher of the range from `start_revision` (0: from now) on. It may be in the future, or compacted: the
        latter shows when it is served."""
        self._users += 1  # from now on: or the last watcher that ends meanwhile would stop what this one needs
        try:
            await self._start()
            # now is not where this daemon is, but where the last acknowledged write of any is
            now = await self._newest() if self._store.shared and not start_revision else 0
        except BaseException:
            self._release()
            raise
        # nothing is awaited from here on: the position cannot move before the watcher is where it belongs
        begin, end = self._layout.key_range(key, range_end)
        watcher = Watcher(begin, end, prev_kv, puts, deletes, listener, max(start_revision - 1, now, self.received))
        self.watchers += 1
        self.behind += 1
        if 0 < start_revision <= self.received:
            watcher.position = start_revision - 1
        else:
            self._join(watcher)
        return watcher

    def cancel_key_watch(self, watcher: Watcher) -> None:
        """Ends a watch, if it has not ended."""
        if watcher.ended:
            return
        watcher.ended = True
        watcher.listener = _nobody
        self.watchers -= 1
        if watcher.feed is None:
            self._replay.forget(watcher)
            self._one_less_behind()
        else:
            self._leave(watcher)
        self._release()

    def cancel_key_watches(self, watchers: list[Watcher]) -> None:
        """Ends many watches, a lot of them in the background."""
        if len(watchers) <= _CANCELLED_AT_ONCE:
            for watcher in watchers:
                self.cancel_key_watch(watcher)
            return

        async def cancel() -> None:
            async with self._turns.work(self._tenant) as work:
                while watchers:
                    self.cancel_key_watch(watchers.pop())
                    if work.is_spent():
                        await work.give_way()

        self._background.run(f"cancelling watches {id(watchers)}", cancel)

    def publish(self, before: int, revision: int, events: list[StoredEvent]) -> None:
        """Hands on what this daemon has committed, after revision `before` and up to `revision`.

        Where another daemon's commits lie between, the log is read instead.
        """
        if self._fan_out is None:
            return
        if self._fan_out.received == before:
            self._receive(revision, events)
        elif not self._store.shared and before > self._fan_out.received:
            self._receive(revision, None)  # a commit was under way when the hub began

    async def take(
        self, watcher: Watcher, limit: int = MESSAGE_BYTES, up_to: int | None = None, work: Work | None = None
    ) -> Delivery | None:
        """What has happened in the watcher's range since the last call: whole revisions, no more than fit into `limit`
        but at least one, and none behind `up_to`. None when there is nothing now; the listener is told when there is.

        `work` is the work that this is part of, if it is.

        :raises Compacted: the log does not reach back to the watcher's position any more
        """
        if watcher.ended:
            return None
        feed = watcher.feed
        revision = self.position if up_to is None else min(up_to, self.position)
        if feed is None:
            if not watcher.found:
                self._ask(watcher)
                return None
        elif not feed.has_more(watcher, revision):
            watcher.position = max(watcher.position, revision)
            return None
        if work is None and (feed is None or is_long(feed, watcher, revision, limit)):
            async with self._turns.work(self._tenant) as begun:
                return await self.take(watcher, limit, up_to, begun)  # anew, since all may have changed
        since = None
        if feed is not None:
            since = feed.group_of(watcher).came
            delivery = await take_from(feed, watcher, revision, self.position, limit, work)
            self._free_in_background()
        else:
            assert work is not None  # noqa: S101  what reads the log is long
            events = await self._replay.take(watcher, limit, work)
            delivery = await framed(events, watcher, self.position, work) if events else None
        if delivery is not None:
            self._delivered(Delivered(delivery.events, None if since is None else time.perf_counter() - since))
        return delivery

    def has_more(self, watcher: Watcher) -> bool:
        """Whether there is something to take from memory."""
        return watcher.feed is not None and watcher.feed.has_more(watcher, self.position)

    def is_synced(self, watcher: Watcher, revision: int | None = None) -> bool:
        """Whether everything up to a revision has been taken; None: up to the hub's position."""
        if watcher.feed is None:
            return False
        return not watcher.feed.has_more(watcher, self.position if revision is None else min(revision, self.position))

    async def caught_up(self) -> None:
        """Returns once the hub has handed on everything up to what is the tenant's newest revision now."""
        newest = await self._newest()
        if self._fan_out is not None:
            await self._fan_out.reached(newest)

    async def close(self) -> None:
        """Ends what runs in the background."""
        await self._background.close()

    async def _newest(self) -> int:
        with self._store.snapshot() as snapshot:
            return unpack_revision(await snapshot.get(self._layout.revision), FIRST_REVISION)

    # watchers come, go, and change between memory and log

    async def _start(self) -> None:
        if self._fan_out is not None:
            return
        revision = await self._newest()
        # somebody else may have been quicker. What was committed since is in the log, which the follower reads; with
        # no other daemon there is none, and `publish` finds the gap
        if self._fan_out is None:
            self._fan_out = FanOut(self._layout, self._feeds, self._backlog, revision, self._left_behind)
            if self._store.shared:
                self._background.run(_FOLLOWING, self._follow)

    def _release(self) -> None:
        """One who needs the hub less. With the last of them ends the following of the log."""
        self._users -= 1
        if self._users or not self._store.shared or self._fan_out is None:
            return
        self._fan_out.end()
        self._fan_out = self._steps = None
        self._background.cancel(_FOLLOWING)
        self._background.cancel(_HANDING_ON)

    def _join(self, watcher: Watcher) -> None:
        self._feeds.join(watcher)
        self._one_less_behind()

    def _leave(self, watcher: Watcher) -> None:
        self._feeds.leave(watcher)
        self._free_in_background()

    def _left_behind(self, watcher: Watcher) -> None:
        self.behind += 1
        watcher.found = False

    def _one_less_behind(self) -> None:
        self.behind -= 1
        if not self.behind:
            self._replay.rest()

    def _ask(self, watcher: Watcher) -> None:
        """Has the log read for the watcher, unless it has caught up."""
        if watcher.position >= self.received:
            self._join(watcher)
            return
        self._replay.ask(watcher)
        self._background.run(_REPLAYING, self._read_for_those_behind)

    # what happens, and what runs in the background

    def _receive(self, revision: int, events: list[StoredEvent] | None) -> None:
        """Hands on at once what is short; whoever commits waits for it."""
        fan_out = self._fan_out
        assert fan_out is not None  # noqa: S101  nothing is received while nobody watches
        fan_out.receive(revision, events)
        if _HANDING_ON in self._background:
            return
        try:
            is_done = self._hand_on_for(_AT_ONCE)
        except Exception as error:  # noqa: BLE001  whoever commits has committed, and is to be answered
            self._background.report(_HANDING_ON, error)
            is_done = False
        if not is_done:
            self._background.run(_HANDING_ON, self._hand_on)

    def _hand_on_for(self, microseconds: float) -> bool:
        """Hands on for about so long; whether all is done. Whatever fails costs the watchers a reading of the log."""
        assert self._fan_out is not None  # noqa: S101  see above; who hands on ends with it
        if self._steps is None:
            self._steps = self._fan_out.steps()
        try:
            for cost in self._steps:
                microseconds -= cost
                if microseconds <= 0:
                    return False
        except Exception:
            self._fan_out.lose()
            self._steps = None
            raise
        self._steps = None
        self._free_in_background()
        return True

    async def _hand_on(self) -> None:
        async with self._turns.work(self._tenant) as work:
            while not self._hand_on_for(_AT_ONCE):
                await work.give_way()

    def _free_in_background(self) -> None:
        if self._backlog.freed:
            self._background.run(_FREEING, self._free)

    async def _free(self) -> None:
        async with self._turns.work(self._tenant) as work:
            while self._backlog.freed:
                self._backlog.free_some()
                if work.is_spent():
                    await work.give_way()

    async def _read_for_those_behind(self) -> None:
        while self._replay.is_needed():
            async with self._turns.work(self._tenant) as work:
                await self._replay.run(work)
        if not self.behind:
            self._replay.rest()

    async def _follow(self) -> None:
        """Reads what other daemons commit. Sleeps until the tenant's revision changes."""
        seen: bytes | None = None
        while True:
            await self._store.changed(self._layout.revision, seen)
            with self._store.snapshot() as snapshot:
                seen = await snapshot.get(self._layout.revision)
            if LoadingMark.unpack(seen) is None:  # else there is nothing yet, and it changes when there is
                await self._catch_up(unpack_last_revision(seen)[0])

    async def _catch_up(self, revision: int) -> None:
        """Hands on what the log has up to a revision, page by page, each once the one before has been handed on."""
        while self.received < revision and (fan_out := self._fan_out) is not None:
            async with self._turns.work(self._tenant) as work:
                page = await self._log.read(self.received, revision, work)
            # own commits may have been handed on meanwhile, so only what is behind them is new
            if page is None:
                self._receive(max(revision, self.received), None)
            elif page.last > self.received:
                events = [event for chunk in page.chunks for event in chunk if event.revision > self.received]
                self._receive(page.last, events)
            await fan_out.reached(self.received)


def _nobody(_: Watcher) -> None:
    """The listener of a watch that has ended."""

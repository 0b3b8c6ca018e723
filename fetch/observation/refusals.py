"""Refusals that can be seen: a counter for all of them, and a line in the log for each that is news.

A client that is refused once is refused ten thousand times a second, if it likes. So of one reason and one tenant (or
one address, of whom nothing else is known) there is a line at once, and then one in ten seconds that says how many were
left out; and of one reason, whoever it meets, there are two lines a second in the long run, behind which the rest is a
number. What clients have sent is cut off where it is long, and escaped where lines are written.
"""

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

from fetch.observation.instruments import Instruments

EACH_SECONDS = 10.0
"""Between lines of one reason and one tenant or address."""
BURST, LINES_A_SECOND = 20, 2.0
"""Lines of one reason: at once, and in the long run."""
KNOWN = 1024
"""Reasons and whom they have met, of which lines are held back."""
LONGEST = 256
"""Letters of what a line tells of a client."""

logger = logging.getLogger(__name__)


@dataclass(slots=True)
class _Told:
    """When the next line of this may be written, and what has been left out since the last one."""

    until: float
    tenant: str
    left_out: int = 0


@dataclass(slots=True)
class _Lines:
    """How many lines of a reason may be written now."""

    left: float
    since: float

    def take(self, now: float) -> bool:
        self.left = min(BURST, self.left + (now - self.since) * LINES_A_SECOND)
        self.since = now
        if self.left < 1:
            return False
        self.left -= 1
        return True


class Refusals:
    """Counts refusals, and tells of them."""

    def __init__(self, instruments: Instruments, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._counted = instruments.counter("fetch.refusals", "What was refused, by reason.", ("reason", "tenant"))
        self._label = instruments.tenants.label
        self._told: dict[tuple[str, str], _Told] = {}
        self._lines: dict[str, _Lines] = {}
        self._besides: Counter[str] = Counter()
        self._timer: asyncio.TimerHandle | None = None

    def report(self, reason: str, *, tenant: str = "", who: str = "", **fields: str) -> None:
        """Something was refused to a tenant, or to `who`, of whom no tenant is known. `fields` are told in the line.

        Costs a microsecond where there is no line.
        """
        self.count(reason, tenant)
        now = self._now()
        met = reason, tenant or who
        told = self._told.get(met)
        if told is not None and now < told.until:
            told.left_out += 1
            return
        left_out = 0 if told is None else told.left_out
        if not self._write(reason, tenant, fields, left_out, now):
            self._besides[reason] += 1 + left_out
            self._told.pop(met, None)
        else:
            self._told.pop(met, None)
            if len(self._told) >= KNOWN:
                oldest = next(iter(self._told))
                self._besides[oldest[0]] += self._told.pop(oldest).left_out
            self._told[met] = _Told(now + EACH_SECONDS, tenant)
        self._look_later()

    def count(self, reason: str, tenant: str = "", amount: int = 1) -> None:
        """Counts what no line tells of."""
        self._counted.add((reason, self._label(tenant) if tenant else ""), amount)

    def look(self) -> None:
        """Tells what has been left out and is due."""
        self._timer = None
        now = self._now()
        for met, told in list(self._told.items()):
            if now < told.until:
                continue
            if not told.left_out:
                del self._told[met]
                continue
            fields = {} if told.tenant else {"who": met[1]}
            if not self._write(met[0], told.tenant, fields, told.left_out, now):
                self._besides[met[0]] += told.left_out
            told.left_out, told.until = 0, now + EACH_SECONDS
        for reason, count in self._besides.items():
            logger.warning("refusals of many", extra={"fields": {"reason": reason, "left_out": count}})
        self._besides.clear()
        if self._told:
            self._look_later()

    def _write(self, reason: str, tenant: str, fields: dict[str, str], left_out: int, now: float) -> bool:
        lines = self._lines.get(reason)
        if lines is None:
            lines = self._lines[reason] = _Lines(BURST, now)
        if not lines.take(now):
            return False
        told = {"reason": reason, "tenant": tenant, **{name: _short(text) for name, text in fields.items()}}
        if left_out:
            told["left_out"] = str(left_out)
        logger.warning("refused", extra={"fields": {name: text for name, text in told.items() if text}})
        return True

    def _look_later(self) -> None:
        if self._timer is None:
            try:
                loop = asyncio.get_running_loop()
            except RuntimeError:
                return  # whoever has no loop looks by itself
            self._timer = loop.call_later(EACH_SECONDS, self.look)


def _short(text: str) -> str:
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}…"

"""Maintenance window: makes tenants read-only at certain hours of the day.

Settings:
    tenants: a list of the tenants that have the window
    begin, end: when it begins and ends, UTC, such as "22:00" and "04:30"; it may go over midnight
"""

from collections.abc import Callable
from datetime import UTC, datetime, time
from typing import Any

import grpc

from fetch.chain import Call, Proceed, Setup
from fetch.errors import Refused
from interceptors.read_only import writes


class MaintenanceWindow:
    """Refuses writes with UNAVAILABLE while the window is open; clients try again."""

    after = ("authorization", "classification")

    def __init__(self, setup: Setup, now: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        self._tenants = frozenset(setup.table["tenants"])
        self._begin = time.fromisoformat(setup.table["begin"])
        self._end = time.fromisoformat(setup.table["end"])
        self._now = now

    async def intercept(self, call: Call, proceed: Proceed) -> Any:
        """Reads and watches pass at any time."""
        if call.tenant is not None and call.tenant.tenant in self._tenants and writes(call) and self._is_open():
            raise Refused(grpc.StatusCode.UNAVAILABLE, f"maintenance until {self._end:%H:%M} UTC")
        return await proceed(call)

    def _is_open(self) -> bool:
        now = self._now().time()
        if self._begin <= self._end:
            return self._begin <= now < self._end
        return now >= self._begin or now < self._end

"""What fetch counts and measures, by names and labels, in OpenTelemetry's data model.

Recording is on the path of every call, where an instrument of the OpenTelemetry SDK costs 5 µs and a dozen of them
would be a fifth of a call. A cell here is an entry of a dictionary, 0.2 µs; the SDK's model is made when somebody
collects. Instruments that extensions make with OpenTelemetry's own API are exported alongside (see `telemetry`).
"""

import time
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from opentelemetry.sdk.metrics.export import (
    AggregationTemporality,
    Gauge,
    Histogram,
    HistogramDataPoint,
    Metric,
    NumberDataPoint,
    Sum,
)

Labels = tuple[str, ...]
Read = Callable[[], Iterable[tuple[Labels, float]]]

OTHER = "(other)"
"""The label of all tenants that have no name of their own among the metrics; no tenant can be called so."""

SECONDS = tuple(0.001 * 2**exponent for exponent in range(14))
"""Bounds of durations: 1 ms to 8 s, those of etcd's disk histograms."""

COUNTS = tuple(float(2**exponent) for exponent in range(11))
"""Bounds of sizes in pieces: 1 to 1024."""

_Value = TypeVar("_Value")

_REBALANCE_SECONDS = 60.0
_CUMULATIVE = AggregationTemporality.CUMULATIVE


class TenantLabels:
    """Gives at most `most` tenants a label of their own: those that call most; all others share `OTHER`.

    Names are given as tenants come. When there are more than names, the busiest of those without one takes the place
    of the quietest, if it is at least twice as busy: a name that changed hands with every scrape would tell nothing.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._named: set[str] = set()
        self._calls: defaultdict[str, float] = defaultdict(float)
        self._rebalanced = time.monotonic()

    def count(self, tenant: str) -> str:
        """The tenant's label; counts a call of it."""
        self._calls[tenant] += 1
        return tenant if tenant in self._named else self.label(tenant)

    def label(self, tenant: str) -> str:
        """The tenant's label."""
        if tenant in self._named:
            return tenant
        if len(self._named) < self._most:
            self._named.add(tenant)
            return tenant
        return OTHER

    def rebalance(self) -> list[str]:
        """Gives names to the busiest, at most once a minute; those that lost theirs."""
        now = time.monotonic()
        if now - self._rebalanced < _REBALANCE_SECONDS:
            return []
        self._rebalanced = now
        calls = self._calls
        quiet = sorted(self._named, key=lambda tenant: calls.get(tenant, 0))
        busy = sorted(calls.keys() - self._named, key=lambda tenant: -calls[tenant])
        lost: list[str] = []
        for old, new in zip(quiet, busy, strict=False):
            if calls[new] < 2 * calls.get(old, 0) + 1:
                break
            self._named.remove(old)
            self._named.add(new)
            lost.append(old)
        self._calls = defaultdict(float, {tenant: count / 2 for tenant, count in calls.items() if count > 1})
        return lost


@dataclass(slots=True)
class _Described:
    name: str
    description: str
    unit: str
    labels: Sequence[str]
    started: int = field(default_factory=time.time_ns)

    def attributes(self, values: Labels) -> dict[str, str]:
        return dict(zip(self.labels, values, strict=True))


@dataclass(slots=True)
class Counting:
    """A counter: a sum for each combination of labels."""

    described: _Described
    cells: defaultdict[Labels, float] = field(default_factory=lambda: defaultdict(float))

    def add(self, labels: Labels, amount: float = 1) -> None:
        """Adds to a sum."""
        self.cells[labels] += amount

    def forget(self, tenant: str) -> None:
        """Drops the tenant's sums."""
        _forget(self.described, self.cells, tenant)

    def of(self, tenant: str) -> "Counting":
        """The tenant's sums."""
        mine = _of(self.described, self.cells.items(), tenant)
        return Counting(self.described, defaultdict(float, mine))

    def metric(self, now: int) -> Metric:
        """What has been counted."""
        return _sums(self.described, list(self.cells.items()), now)


@dataclass(slots=True)
class Distribution:
    """A histogram: for each combination of labels the sum and the number of values within each bound."""

    described: _Described
    bounds: Sequence[float]
    cells: dict[Labels, list[float]] = field(default_factory=dict)

    def record(self, labels: Labels, value: float) -> None:
        """Adds a value."""
        cell = self.cells.get(labels)
        if cell is None:
            cell = self.cells[labels] = [0.0] * (len(self.bounds) + 2)
        cell[bisect_left(self.bounds, value)] += 1
        cell[-1] += value

    def forget(self, tenant: str) -> None:
        """Drops the tenant's values."""
        _forget(self.described, self.cells, tenant)

    def of(self, tenant: str) -> "Distribution":
        """The tenant's values."""
        return Distribution(self.described, self.bounds, dict(_of(self.described, self.cells.items(), tenant)))

    def metric(self, now: int) -> Metric:
        """What has been recorded. Extremes are not kept: they are given as the values' bounds."""
        points = [
            HistogramDataPoint(
                attributes=self.described.attributes(labels),
                start_time_unix_nano=self.described.started,
                time_unix_nano=now,
                count=int(sum(cell[:-1])),
                sum=cell[-1],
                bucket_counts=[int(count) for count in cell[:-1]],
                explicit_bounds=self.bounds,
                min=0.0,
                max=float("inf"),
            )
            for labels, cell in list(self.cells.items())
        ]
        described = self.described
        return Metric(described.name, described.description, described.unit, Histogram(points, _CUMULATIVE))


@dataclass(slots=True)
class Observed:
    """A value that is read when somebody collects."""

    described: _Described
    read: Read
    monotonic: bool

    def forget(self, tenant: str) -> None:
        """Keeps nothing."""

    def of(self, tenant: str) -> "Observed":
        """What is read of the tenant."""
        return Observed(self.described, lambda: _of(self.described, self.read(), tenant), self.monotonic)

    def metric(self, now: int) -> Metric:
        """What is read now."""
        values = list(self.read())
        if self.monotonic:
            return _sums(self.described, values, now)
        described = self.described
        points = [
            NumberDataPoint(described.attributes(labels), described.started, now, value) for labels, value in values
        ]
        return Metric(described.name, described.description, described.unit, Gauge(points))


class Instruments:
    """All instruments of a daemon. One that is asked for again is the same one."""

    def __init__(self, most_tenants: int = 100) -> None:
        """`most_tenants` bounds how many tenants have a label of their own."""
        self.tenants = TenantLabels(most_tenants)
        self._all: dict[str, Counting | Distribution | Observed] = {}

    def counter(self, name: str, description: str, labels: Sequence[str] = (), unit: str = "") -> Counting:
        """A counter. A `tenant` among the labels takes values from `tenants`."""
        made = self._all.setdefault(name, Counting(_Described(name, description, unit, labels)))
        if not isinstance(made, Counting):
            raise TypeError(f"{name} is another kind of instrument")
        return made

    def histogram(
        self, name: str, description: str, labels: Sequence[str] = (), unit: str = "", bounds: Sequence[float] = SECONDS
    ) -> Distribution:
        """A histogram with these upper bounds."""
        made = self._all.setdefault(name, Distribution(_Described(name, description, unit, labels), bounds))
        if not isinstance(made, Distribution):
            raise TypeError(f"{name} is another kind of instrument")
        return made

    def observe(
        self,
        name: str,
        description: str,
        read: Read,
        labels: Sequence[str] = (),
        unit: str = "",
        *,
        monotonic: bool = False,
    ) -> None:
        """A gauge, or a counter when it is `monotonic`, that is read when somebody collects; maybe in a thread."""
        self._all[name] = Observed(_Described(name, description, unit, labels), read, monotonic)

    def metrics(self) -> list[Metric]:
        """Everything that has a value."""
        for tenant in self.tenants.rebalance():
            for instrument in self._all.values():
                instrument.forget(tenant)
        now = time.time_ns()
        made = [instrument.metric(now) for instrument in list(self._all.values())]
        return [metric for metric in made if metric.data.data_points]

    def metrics_of(self, tenant: str, shared: Collection[str]) -> list[Metric]:
        """What one tenant may know: its own values, and the instruments of these names, which have no tenant.

        Nothing of its own while it has no label: what shares one is others', too.
        """
        label = self.tenants.label(tenant)
        now = time.time_ns()
        made: list[Metric] = []
        for instrument in list(self._all.values()):
            if "tenant" in instrument.described.labels:
                if label != OTHER:
                    made.append(instrument.of(label).metric(now))
            elif instrument.described.name in shared:
                made.append(instrument.metric(now))
        return [metric for metric in made if metric.data.data_points]


def _forget(described: _Described, cells: dict[Labels, list[float]] | dict[Labels, float], tenant: str) -> None:
    if "tenant" in described.labels:
        position = list(described.labels).index("tenant")
        for labels in [labels for labels in cells if labels[position] == tenant]:
            del cells[labels]


def _of(described: _Described, values: Iterable[tuple[Labels, _Value]], tenant: str) -> list[tuple[Labels, _Value]]:
    """Those of a tenant, of all of which each is looked at."""
    position = list(described.labels).index("tenant")
    return [(labels, value) for labels, value in list(values) if labels[position] == tenant]


def _sums(described: _Described, values: Iterable[tuple[Labels, float]], now: int) -> Metric:
    points = [NumberDataPoint(described.attributes(labels), described.started, now, value) for labels, value in values]
    return Metric(described.name, described.description, described.unit, Sum(points, _CUMULATIVE, is_monotonic=True))

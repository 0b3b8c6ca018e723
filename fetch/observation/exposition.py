"""Metrics as text, in the format that Prometheus scrapes (version 0.0.4).

Names follow OpenTelemetry's rules for Prometheus: what is no letter or digit becomes an underscore, the unit is
appended, and counters end in `_total`. Names that are etcd's stay as they are: not all of its counters end so.
"""

import math
from collections.abc import Iterable, Iterator, Mapping

from opentelemetry.sdk.metrics.export import Histogram, HistogramDataPoint, Metric, NumberDataPoint, Sum

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

_UNITS = {"s": "seconds", "ms": "milliseconds", "By": "bytes", "1": "ratio"}
_ESCAPES = str.maketrans({"\\": r"\\", '"': r"\"", "\n": r"\n"})


def render(metrics: Iterable[Metric]) -> bytes:
    """The metrics as one text."""
    return "".join(line + "\n" for metric in metrics for line in _lines(metric)).encode()


def name_of(metric: Metric) -> str:
    """A metric's name in Prometheus."""
    name = "".join(letter if letter.isalnum() or letter in "_:" else "_" for letter in metric.name)
    unit = _UNITS.get(metric.unit or "")
    if unit and not name.endswith("_" + unit):
        name += "_" + unit
    if _is_counter(metric) and not name.endswith("_total") and not name.startswith("etcd_"):
        name += "_total"
    return name


def _lines(metric: Metric) -> Iterator[str]:
    name = name_of(metric)
    kind = "histogram" if isinstance(metric.data, Histogram) else "counter" if _is_counter(metric) else "gauge"
    description = (metric.description or "").replace("\\", r"\\").replace("\n", r"\n")
    yield f"# HELP {name} {description}"
    yield f"# TYPE {name} {kind}"
    for point in metric.data.data_points:
        labels = point.attributes or {}
        if isinstance(point, HistogramDataPoint):
            yield from _buckets(name, labels, point)
        elif isinstance(point, NumberDataPoint):
            yield f"{name}{_braced(labels)} {_number(point.value)}"


def _buckets(name: str, labels: Mapping[str, object], point: HistogramDataPoint) -> Iterator[str]:
    count = 0
    for bound, within in zip((*point.explicit_bounds, math.inf), point.bucket_counts, strict=True):
        count += within
        yield f"{name}_bucket{_braced({**labels, 'le': _number(bound)})} {count}"
    yield f"{name}_sum{_braced(labels)} {_number(point.sum)}"
    yield f"{name}_count{_braced(labels)} {count}"


def _braced(labels: Mapping[str, object]) -> str:
    if not labels:
        return ""
    return "{" + ",".join(f'{_label(key)}="{str(value).translate(_ESCAPES)}"' for key, value in labels.items()) + "}"


def _label(key: str) -> str:
    return "".join(letter if letter.isalnum() else "_" for letter in key)


def _number(value: float) -> str:
    if math.isinf(value):
        return "+Inf" if value > 0 else "-Inf"
    return str(int(value)) if value == int(value) else repr(float(value))


def _is_counter(metric: Metric) -> bool:
    return isinstance(metric.data, Sum) and metric.data.is_monotonic

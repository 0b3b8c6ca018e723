"""What is shown of a run: the table of medians with their ratios to etcd, in Markdown, and the plots."""

from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any

from bench import plots, results

PLOTS = Path(__file__).parent.parent / "docs" / "plots"
_REFERENCE = "etcd"

Records = Sequence[dict[str, Any]]


def table(records: Records) -> str:
    """The medians of the rounds by workload and server.

    Each figure is followed by its ratio to etcd's of the same run; of rates more is better, of all else less.
    """
    servers = _ordered({record["server"] for record in records})
    lines = [
        "| workload | figure | " + " | ".join(servers) + " |",
        "|---|---|" + "---|" * len(servers),
    ]
    for workload in dict.fromkeys(record["workload"] for record in records):
        for figure, unit, form in (
            ("rate", "/s", ",.0f"),
            ("cpu", "µs", ",.1f"),
            ("p50", "ms", ".2f"),
            ("p99", "ms", ".2f"),
        ):
            values = {server: _median(records, workload, server, figure) for server in servers}
            reference = values.get(_REFERENCE)
            cells = [_cell(values[server], reference if server != _REFERENCE else None, form) for server in servers]
            name = {"rate": "rate", "cpu": "CPU"}.get(figure, figure)
            lines.append(f"| {workload if figure == 'rate' else ''} | {name}, {unit} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def draw(path: Path) -> list[Path]:
    """Writes the plots that the run stored at `path` has figures for; returns where they lie."""
    drawn: list[Path] = []
    flight = results.read(path, "flight")
    for figure, up in (("rate", "requests/s"), ("p99", "p99, ms")):
        if flight:
            name = {"rate": "throughput", "p99": "latency"}[figure]
            lines = _lines(flight, "in_flight", figure, "work")
            drawn.append(PLOTS / f"{name}.svg")
            plots.write(drawn[-1], f"{up} against requests in flight", "requests in flight", up, lines)
    objects = results.read(path, "objects")
    if objects:
        drawn.append(PLOTS / "lists.svg")
        plots.write(
            drawn[-1],
            "one whole list, p50 in ms, against objects",
            "objects",
            "ms",
            _lines([r for r in objects if "work" in r], "objects", "p50", "work"),
        )
    memory = results.read(path, "tenants")
    if memory:
        in_mib = [
            {**record, "kind": kind, "MiB": record[kind] / 2**20}
            for record in memory
            if "tenants" in record
            for kind in ("anonymous", "proportional")
        ]
        drawn.append(PLOTS / "tenants.svg")
        plots.write(
            drawn[-1], "memory against idle tenants", "idle tenants", "MiB", _lines(in_mib, "tenants", "MiB", "kind")
        )
    return drawn


def _lines(records: Records, across: str, up: str, kind: str) -> dict[tuple[str, str], list[tuple[float, float]]]:
    lines: dict[tuple[str, str], list[tuple[float, float]]] = {}
    for record in records:
        lines.setdefault((record["server"], record[kind]), []).append((record[across], record[up]))
    return lines


def _median(records: Records, workload: str, server: str, figure: str) -> float | None:
    found = [record[figure] for record in records if (record["workload"], record["server"]) == (workload, server)]
    return median(found) if found else None


def _cell(value: float | None, reference: float | None, form: str) -> str:
    if value is None:
        return "not served"
    return format(value, form) + (f" ({value / reference:.2f})" if reference else "")


def _ordered(servers: set[str]) -> list[str]:
    order = ("fetch-native", "fetch-grpcio", _REFERENCE, "kine")
    return sorted(servers, key=lambda server: order.index(server) if server in order else len(order))

"""What is shown of a run: tables in Markdown, and plots."""

from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any

from bench import plots, results

PLOTS = Path(__file__).parent.parent / "docs" / "plots"
_REFERENCE = "etcd"

_NATIVE = "fetch-native"
_BARE = "bare grpcio"
_MIB = 2**20
_FIGURES = {"rate": ",.0f", "p50": ".2f", "p99": ".2f", "cpu": ",.1f"}
_KINDS = ("anonymous", "proportional")

Records = Sequence[dict[str, Any]]
Cells = Sequence[str]


def tables(path: Path) -> str:
    """All tables that the run stored at `path` has figures for."""
    sections = (
        ("The table", _compared(results.read(path, "table"), _REFERENCE)),
        ("Neighbours", _neighbours(results.read(path, "neighbours"))),
        ("Workers", _compared(results.read(path, "workers"), _NATIVE)),
        ("grpcio's own server", _compared(results.read(path, "grpcio"), _BARE)),
        ("More in flight", _in_flight(results.read(path, "flight"))),
        ("More objects", _lists(results.read(path, "objects")) + _starts(results.read(path, "objects"))),
        ("A million objects", _lists(results.read(path, "million")) + _starts(results.read(path, "million"))),
        ("Tenants", _tenants(results.read(path, "tenants"))),
        ("Idle kube-apiservers", _apiservers(results.read(path, "apiservers"))),
        ("Several daemons", _daemons(results.read(path, "daemons"))),
        ("A watcher that does not read", _slow(results.read(path, "slow"))),
    )
    return "".join(f"## {title}\n\n{text}\n" for title, text in sections if text)


def _compared(records: Records, reference: str) -> str:
    """The medians of the rounds by workload and server.

    Each figure is followed by its ratio to the reference's of the same run; of rates more is better, of all else less.
    """
    servers = _ordered({record["server"] for record in records})
    rows: list[Cells] = []
    for workload in dict.fromkeys(record["workload"] for record in records):
        for figure, name, form in (
            ("rate", "rate, /s", ",.0f"),
            ("cpu", "CPU, µs", ",.1f"),
            ("p50", "p50, ms", ".2f"),
            ("p99", "p99, ms", ".2f"),
        ):
            values = {server: _median(records, workload, server, figure) for server in servers}
            base = values.get(reference)
            cells = [_cell(values[server], None if server == reference else base, form) for server in servers]
            rows.append([workload if figure == "rate" else "", name, *cells])
    return _grid(["workload", "figure", *servers], rows)


def _daemons(records: Records) -> str:
    """The medians of the rounds; each figure's ratio is to one daemon's."""
    rows: list[Cells] = []
    kinds = dict.fromkeys((it["tenants"], it["clients"], it["work"]) for it in records)
    for tenants, clients, work in kinds:
        those = [it for it in records if (it["tenants"], it["clients"], it["work"]) == (tenants, clients, work)]
        found = {
            number: {figure: median(it[figure] for it in those if it["daemons"] == number) for figure in _FIGURES}
            for number in sorted({it["daemons"] for it in those})
        }
        for number, figures in found.items():
            bases = found[1] if number > 1 else {}
            cells = [_cell(figures[figure], bases.get(figure), form) for figure, form in _FIGURES.items()]
            rows.append([f"{tenants} tenants, {clients} clients, {work}", str(number), *cells])
    return _grid(["work", "daemons", "rate, /s", "p50, ms", "p99, ms", "CPU, µs"], rows)


def _in_flight(records: Records) -> str:
    servers = _ordered({record["server"] for record in records})
    found = {(record["in_flight"], record["work"], record["server"]): record for record in records}
    rows = [
        [
            str(count),
            work,
            *("{rate:,.0f}/s, p99 {p99:.1f} ms, {cpu:,.0f} µs".format(**found[count, work, it]) for it in servers),
        ]
        for count, work in dict.fromkeys((record["in_flight"], record["work"]) for record in records)
    ]
    return _grid(["in flight", "", *servers], rows)


def _lists(records: Records) -> str:
    listed = [record for record in records if "work" in record]
    servers = _ordered({record["server"] for record in listed})
    found = {(record["objects"], record["work"], record["server"]): record for record in listed}
    rows = [
        [
            f"{count:,}",
            {"list": "pages of 500", "stream": "RangeStream"}[work],
            *("{rate:,.0f}/s, {cpu:.1f} µs".format(**found[count, work, it]) for it in servers),
        ]
        for count, work in sorted({(record["objects"], record["work"]) for record in listed})
    ]
    return _grid(["objects", "one whole list: objects/s, CPU by object", *servers], rows)


def _starts(records: Records) -> str:
    rows: list[Cells] = []
    for record in records:
        memory = [f"{record[kind] / _MIB:,.0f}" for kind in ("anonymous", "resident") if kind in record]
        if "listed" in record:
            rows.append([record["server"], f"having written and listed {record['listed']:,}", "", *memory])
        elif "seconds" in record:
            what = f"started on {record['stored']:,}" if record["stored"] else "started on nothing"
            rows.append([record["server"], what, f"{record['seconds']:.2f}", *memory])
    return _grid(["server", "", "to the first answer, s", "anonymous memory, MiB", "resident, MiB"], rows)


def _tenants(records: Records) -> str:
    rows = [
        [record["server"], f"{record['tenants']:,}", *(f"{record[kind] / _MIB:,.0f}" for kind in _KINDS)]
        for record in records
        if "tenants" in record
    ]
    cold = [
        [record["server"], *(f"{record[name]:.1f}" for name in ("cold_p50", "cold_max", "connecting_p50"))]
        for record in records
        if "cold_p50" in record
    ]
    return _grid(["server", "idle tenants", "anonymous, MiB", "Pss, MiB"], rows) + _grid(
        ["server", "first request of a new tenant: p50, ms", "slowest, ms", "connecting before it: p50, ms"], cold
    )


def _slow(records: Records) -> str:
    rows = [
        [it["server"], str(it["not_reading"]), f"{it['p50']:.1f} ms", f"{it['p99']:.1f} ms", f"{it['cpu']:.0f} µs"]
        for it in records
    ]
    return _grid(["server", "not reading", "p50", "p99", "CPU"], rows)


def _neighbours(records: Records) -> str:
    """What another tenant notices, by action and server."""
    rows: list[Cells] = []
    last = ""
    for it in records:
        about = "" if it["about"] == last else it["about"]
        last = it["about"]
        if "failed" in it:
            rows.append([about, it["server"], it["failed"].replace("\n", " ").replace("|", "/"), *[""] * 5])
            continue
        times = f"{it['times']:,}" if it.get("times") else "none to its end"
        times += f", {it['refused']:,} refused" if it.get("refused") else ""
        times += "" if it["whole"] else ", prepared in part"
        unanswered = f", {it['unanswered']:,} unanswered" if it["unanswered"] else ""
        rows.append(
            [
                about,
                it["server"],
                *(f"{it[f'{call}_p50']:,.1f}, {it[f'{call}_p99']:,.0f}" for call in ("get", "create")),
                f"{max(it['get_max'], it['create_max']):,.0f}{unanswered}",
                _stretch(it),
                f"{it['memory'] / _MIB:,.0f} → {it['memory_peak'] / _MIB:,.0f}",
                times,
            ]
        )
    headings = ["one tenant does", "server", "others' get: p50, p99, ms", "create: p50, p99, ms", "slowest, ms"]
    return _grid([*headings, "longest stretch, ms", "anonymous, MiB", "done, times"], rows)


def _stretch(record: dict[str, Any]) -> str:
    if record["server"] == _REFERENCE:
        return ""
    return "not told in 20 s" if record["stretch"] is None else f"≤ {record['stretch'] * 1000:,.0f}"


def _apiservers(records: Records) -> str:
    """Memory and CPU with more and more of them, and what one more of the last has added."""
    rows: list[Cells] = []
    alone: dict[tuple[str, str], dict[str, Any]] = {}
    for it in records:
        if "missing" in it:
            rows.append([it["server"], it["kind_of"], it["missing"], "", "", ""])
            continue
        first = alone.setdefault((it["server"], it["kind_of"]), it)
        count = it["apiservers"]
        each = f"{(it['anonymous'] - first['anonymous']) / count / _MIB:.2f}" if count else ""
        rows.append(
            [
                it["server"],
                it["kind_of"],
                str(count),
                f"{it['anonymous'] / _MIB:,.1f}",
                each,
                f"{it['cpu'] * 1000:,.1f}",
            ]
        )
    return _grid(["server", "kube-apiservers", "", "anonymous, MiB", "by each, MiB", "CPU, ms by second"], rows)


def _grid(headings: Cells, rows: Sequence[Cells]) -> str:
    """A table in Markdown; nothing without rows."""
    if not rows:
        return ""
    lines = [headings, ["---"] * len(headings), *rows]
    return "".join(f"| {' | '.join(cells)} |\n" for cells in lines) + "\n"


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
            {**record, "kind": kind, "MiB": record[kind] / _MIB}
            for record in memory
            if "tenants" in record
            for kind in _KINDS
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
    order = (_BARE, _NATIVE, f"{_NATIVE}, 2 workers", "fetch-grpcio", "fetch-grpcio, 2 workers", _REFERENCE, "kine")
    return sorted(servers, key=order.index)

"""The workloads that the table compares, and the two that are repeated with more in flight and with more objects."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from bench.contenders import Server
from bench.generator import Generator

IN_FLIGHT = (1, 4, 16, 64, 256)
OBJECTS = (1_000, 10_000, 100_000)
MANY_OBJECTS = (10_000, 1_000_000)
_BUSY = {"clients": 64, "conns": 4}
_ONE = {"clients": 1, "conns": 1}


@dataclass(frozen=True, slots=True)
class Workload:
    """A line of the table: the generator's `work` on the keys below `prefix`."""

    name: str
    work: str
    prefix: str
    options: dict[str, int] = field(default_factory=dict)


def table(total: int) -> list[Workload]:
    """The lines, in an order in which each finds the objects that it wants: `total` of them."""
    many, one = {"total": total, **_BUSY}, {"total": max(total // 10, 1), **_ONE}
    return [
        Workload("create", "create", "many", many),
        Workload("get", "get", "many", many),
        Workload("update", "update", "many", many),
        Workload("list in pages of 500", "list", "many", {**many, "lists": 20, "page": 500}),
        Workload("list by RangeStream", "stream", "many", {**many, "lists": 20}),
        Workload("50 watchers", "watch", "many", {**many, "watchers": 50, "events": total // 10}),
        Workload("500 watchers", "watch", "many", {**many, "watchers": 500, "events": total // 25}),
        Workload("delete", "delete", "many", many),
        Workload("create, one client", "create", "one", one),
        Workload("get, one client", "get", "one", one),
    ]


def requests(total: int) -> list[Workload]:
    """Those lines of the table that are made of single requests, of many clients."""
    return [workload for workload in table(total) if workload.name in ("create", "get", "update", "delete")]


def interleaved(
    generator: Generator, servers: Sequence[Server], workloads: Sequence[Workload], turn: int
) -> Iterator[dict[str, Any]]:
    """Runs each workload on one server after another; who begins changes with the workload and with `turn`."""
    for number, workload in enumerate(workloads):
        first = (number + turn) % len(servers)
        for server in (*servers[first:], *servers[:first]):
            if workload.work == "stream" and not server.contender.streams:
                continue
            figures = generator.run(server, workload.work, workload.prefix, **workload.options)
            yield {"workload": workload.name, "server": server.contender.name, "round": turn, **figures.record()}


def more_in_flight(generator: Generator, servers: Sequence[Server], total: int) -> Iterator[dict[str, Any]]:
    """Create and get with 1 to 256 requests in flight; fewer of them where few are in flight."""
    for clients in IN_FLIGHT:
        count = total if clients >= 16 else max(total // 8, 1)
        options = {"total": count, "clients": clients, "conns": min(clients, 4)}
        for work in ("create", "get"):
            for server in servers:
                figures = generator.run(server, work, f"flight{clients}", **options)
                yield {"work": work, "in_flight": clients, "server": server.contender.name, **figures.record()}


def more_objects(generator: Generator, servers: Sequence[Server], counts: Sequence[int]) -> Iterator[dict[str, Any]]:
    """Lists of a prefix, in pages of 500 and by RangeStream, as it grows."""
    for count in counts:
        options = {"total": count, **_BUSY}
        for server in servers:
            generator.run(server, "create", f"objects{count}", **options)
        lists = max(min(300_000 // count, 20), 1)
        for work in ("list", "stream"):
            for server in servers:
                if work == "stream" and not server.contender.streams:
                    continue
                figures = generator.run(server, work, f"objects{count}", **options, lists=lists, page=500)
                yield {"work": work, "objects": count, "server": server.contender.name, **figures.record()}

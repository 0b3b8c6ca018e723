"""`python -m bench`: runs the comparison, stores it, prints the table and writes the plots."""

import argparse
import asyncio
import contextlib
import shutil
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import grpc

from bench import apiservers, contenders, daemons, generator, neighbours, report, single, tenants, workloads
from bench.contenders import Certificates, Contender, Server
from bench.generator import Generator
from bench.results import Results
from bench.workloads import Workload

PARTS = (
    *("table", "neighbours", "workers", "grpcio", "flight", "objects", "million"),
    *("tenants", "apiservers", "slow", "daemons"),
)
_TENANT_SECONDS = 120.0


def main() -> None:
    """Runs the parts that were asked for, all by default."""
    options = _options()
    found, missing = contenders.find(options.fdb_cluster_file)
    found = [it for it in found if not options.servers or it.name in options.servers]
    for sentence in missing:
        sys.stderr.write(sentence + "\n")
    with tempfile.TemporaryDirectory(prefix="fetch-bench-", dir=options.dir) as directory:
        try:
            program = generator.build(Path(directory))
        except RuntimeError as error:
            sys.exit(f"bench: {error}")
        settings = {"parts": options.parts, "objects": options.objects, "foundationdb": bool(options.fdb_cluster_file)}
        run = Results({**settings, "seconds": options.seconds, "scale": options.scale})
        for part in options.parts:
            try:
                for record in _part(part, options, program, found, Path(directory) / part):
                    run.add(part, record)
            except (RuntimeError, grpc.RpcError) as error:
                run.add("failed", {"part": part, "why": str(error)})  # the other parts are worth having
    sys.stdout.write(report.tables(run.path))
    for path in report.draw(run.path):
        sys.stderr.write(f"drawn in {path}\n")
    sys.stderr.write(f"stored in {run.path}\n")


def _part(
    part: str, options: argparse.Namespace, program: Generator, found: list[Contender], directory: Path
) -> Iterator[dict[str, Any]]:
    fast = [contender for contender in found if contender.name != "kine"]
    fetches = [contender for contender in found if contender.name.startswith("fetch")]
    if part == "table":
        yield from _compared(program, found, workloads.table(options.objects), options.rounds, directory)
    elif part == "workers":
        compared = [it for fetch in fetches for it in (fetch, contenders.with_workers(fetch, 2))]
        yield from _compared(program, compared, workloads.requests(options.objects), options.rounds, directory)
    elif part == "grpcio":
        compared = [contenders.BARE, *(it for it in found if it.name in ("fetch-grpcio", "kine"))]
        yield from _compared(program, compared, workloads.requests(options.objects), options.rounds, directory)
    elif part == "flight":
        with _started(fast, directory) as servers:
            yield from workloads.more_in_flight(program, servers, options.objects)
    elif part == "objects":
        yield from _more_objects(program, fast, workloads.OBJECTS, directory)
    elif part == "million":
        yield from _more_objects(program, fetches[:1], workloads.MANY_OBJECTS, directory)
    elif part == "tenants":
        for contender in fetches:
            with _started([contender], directory) as (server,):
                yield tenants.cold(server)
                yield from asyncio.run(_idle_tenants(server))
    elif part == "apiservers":
        for contender in fast:
            with _started([contender], directory / "imitated") as (server,):
                yield from apiservers.imitated(program, server)
            with _started([contender], directory / "real") as (server,):
                yield from apiservers.real(server, directory / "real" / f"{contender.name}-apiservers")
    elif part == "daemons" and options.fdb_cluster_file:  # a directory has one
        for turn in range(options.rounds):
            yield from daemons.measure(program, fetches[0], options.objects, turn, directory / str(turn))
    elif part == "slow":
        with _started(fast, directory) as servers:
            for server in servers:
                yield from single.slow_watchers(program, server)
    elif part == "neighbours":
        for row in neighbours.rows(program, options.actions, options.seconds, options.scale):
            for contender in map(contenders.with_metrics, fast):
                yield neighbours.measure(program, contender, row, directory / row.action / contender.name)
                shutil.rmtree(directory / row.action, ignore_errors=True)  # some have stored a lot


def _compared(
    generator: Generator, compared: list[Contender], lines: list[Workload], rounds: int, directory: Path
) -> Iterator[dict[str, Any]]:
    for turn in range(rounds):
        with _started(compared, directory / f"round{turn}") as servers:
            yield from workloads.interleaved(generator, servers, lines, turn)


def _more_objects(
    generator: Generator, compared: list[Contender], counts: Sequence[int], directory: Path
) -> Iterator[dict[str, Any]]:
    """Starts on nothing, lists ever more objects, and starts again on them."""
    issued = Certificates(directory / "certs")
    for contender in compared:
        yield single.start(contender, directory / "empty" / contender.name, issued, 0)
    with _started(compared, directory, issued) as servers:
        yield from workloads.more_objects(generator, servers, counts)
        yield from ({"server": it.contender.name, "listed": sum(counts), **it.memory()} for it in servers)
    for contender in compared:
        yield single.start(contender, directory / contender.name, issued, sum(counts))


async def _idle_tenants(server: Server) -> list[dict[str, Any]]:
    return [record async for record in tenants.idle(server, tenants.COUNTS, _TENANT_SECONDS)]


@contextlib.contextmanager
def _started(found: list[Contender], directory: Path, issued: Certificates | None = None) -> Iterator[list[Server]]:
    issued = issued or Certificates(directory / "certs")
    with contextlib.ExitStack() as stack:
        yield [stack.enter_context(contender.start(directory / contender.name, issued)) for contender in found]


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("parts", nargs="*", default=list(PARTS), help=f"of {', '.join(PARTS)}; all by default")
    parser.add_argument("--fdb-cluster-file", type=Path, help="run fetch on this FoundationDB")
    parser.add_argument("--dir", type=Path, default=Path("/var/tmp"), help="where data lies: on a disk, fsync counts")
    parser.add_argument("--objects", type=int, default=5_000, help="objects in the table's workloads")
    parser.add_argument("--rounds", type=int, default=3, help="how often the table's workloads run")
    parser.add_argument("--seconds", type=float, default=10.0, help="how long a row of neighbours takes")
    parser.add_argument("--scale", type=float, default=1.0, help="which share of a row's action is done")
    parser.add_argument("--actions", type=_names, default=[], help="rows of neighbours, with commas; all by default")
    parser.add_argument("--servers", type=_names, default=[], help="with commas, fetch-native for one; all by default")
    options = parser.parse_args()
    if not set(options.parts) <= set(PARTS):
        parser.error(f"the parts are {', '.join(PARTS)}")
    return options


def _names(text: str) -> list[str]:
    return [name for name in text.split(",") if name]


if __name__ == "__main__":
    main()

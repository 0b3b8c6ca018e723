"""`python -m bench`: runs the comparison, stores it, prints the table and writes the plots."""

import argparse
import contextlib
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from bench import contenders, workloads
from bench.contenders import Certificates, Contender
from bench.generator import Generator
from bench.results import Results

PARTS = ("table", "flight", "objects", "tenants", "single")


def main() -> None:
    """Runs the parts that were asked for, all by default."""
    options = _options()
    program = shutil.which(os.environ.get("LOADGEN") or "loadgen")
    if program is None:
        sys.exit("bench: there is no load generator: set LOADGEN to its path, or put `loadgen` on the PATH")
    found, missing = contenders.find(options.fdb_cluster_file)
    for sentence in missing:
        sys.stderr.write(sentence + "\n")
    run = Results({"parts": options.parts, "objects": options.objects, "foundationdb": bool(options.fdb_cluster_file)})
    with tempfile.TemporaryDirectory(prefix="fetch-bench-", dir=options.dir) as directory:
        for part in options.parts:
            for record in _part(part, options, Generator(Path(program)), found, Path(directory)):
                run.add(part, record)
    sys.stderr.write(f"stored in {run.path}\n")


def _part(
    part: str, options: argparse.Namespace, generator: Generator, found: list[Contender], directory: Path
) -> Iterator[dict[str, Any]]:
    fast = [contender for contender in found if contender.name != "kine"]
    if part == "table":
        for turn in range(options.rounds):
            with _started(found, directory / f"table{turn}") as servers:
                yield from workloads.interleaved(generator, servers, workloads.table(options.objects), turn)
    elif part == "flight":
        with _started(fast, directory / part) as servers:
            yield from workloads.more_in_flight(generator, servers, options.objects)
    elif part == "objects":
        with _started(fast, directory / part) as servers:
            yield from workloads.more_objects(generator, servers, workloads.OBJECTS)


@contextlib.contextmanager
def _started(found: list[Contender], directory: Path) -> Iterator[list[contenders.Server]]:
    issued = Certificates(directory / "certs")
    with contextlib.ExitStack() as stack:
        yield [stack.enter_context(contender.start(directory / contender.name, issued)) for contender in found]
    shutil.rmtree(directory)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("parts", nargs="*", default=list(PARTS), help=f"of {', '.join(PARTS)}; all by default")
    parser.add_argument("--fdb-cluster-file", type=Path, help="run fetch on this FoundationDB")
    parser.add_argument("--dir", type=Path, default=Path("/var/tmp"), help="where data lies: on a disk, fsync counts")
    parser.add_argument("--objects", type=int, default=5_000, help="objects in the table's workloads")
    parser.add_argument("--rounds", type=int, default=3, help="how often the table's workloads run")
    parser.add_argument("--million", action="store_true", help="list 1,000,000 objects, too")
    options = parser.parse_args()
    if not set(options.parts) <= set(PARTS):
        parser.error(f"the parts are {', '.join(PARTS)}")
    return options


if __name__ == "__main__":
    main()

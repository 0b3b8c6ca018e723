"""`python -m tests.peers [NAME…]`: builds the programs that are named, or all of them, and says where they lie."""

import argparse
import sys
import time

from tests import peers
from tests.peers.build import PROGRAMS, BuildError, build


def main() -> int:
    """Builds one after the other; one that fails does not keep the others from being built."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.peers",
        description="Builds real programs from their public Go modules, unless they are there. On two cores etcd takes "
        "one or two minutes, kube-apiserver about ten the first time.",
        epilog=f"They are built into {peers.directory()}; KUBE_BIN names another folder.",
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(PROGRAMS)}; all by default")
    names = parser.parse_args().names or list(PROGRAMS)
    if unknown := set(names) - PROGRAMS.keys():
        parser.error(f"there is no {', '.join(sorted(unknown))}; there are {', '.join(PROGRAMS)}")
    failed = False
    for name in names:
        began = time.monotonic()
        _say(f"{name} {PROGRAMS[name].release} …")
        try:
            built = build(PROGRAMS[name])
        except BuildError as error:
            failed = True
            _say(str(error))
        else:
            _say(f"{name} {PROGRAMS[name].release} is {built} ({time.monotonic() - began:.0f} s)")
    return int(failed)


def _say(line: str) -> None:
    sys.stderr.write(line + "\n")


if __name__ == "__main__":
    sys.exit(main())

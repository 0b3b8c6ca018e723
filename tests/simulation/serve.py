"""`python -m tests.simulation.serve serve …`: fetch as it is started by its users, on a simulated cluster of its own.

What `--fdb-cluster-file` names need not exist. The cluster is in memory: it ends with the process.
"""

import random
import sys
from pathlib import Path

from fetch.cli import main
from fetch.stores.foundationdb.store import FoundationDBStore
from tests.simulation.binding import SimulatedBinding
from tests.simulation.cluster import Cluster, Faults

_FAULTS = Faults(least_delay=0.00005, most_delay=0.0005, conflict=0.01, unknown_done=0.01, unknown_not_done=0.01)
"""Those that clients of fetch do not notice, but for the time that they take."""


def _open(_: Path) -> FoundationDBStore:
    return FoundationDBStore(SimulatedBinding(Cluster(random.Random(1), _FAULTS)))  # type: ignore[arg-type]


if __name__ == "__main__":
    FoundationDBStore.open = _open  # type: ignore[method-assign, assignment]
    sys.argv[0] = "fetch"
    main()

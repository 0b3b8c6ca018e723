"""`python -m tests.simulation FIRST COUNT` runs seeds one after the other; `python -m tests.simulation SEED` one, aloud.

Sets must be in the same order each time, so the process starts itself again with a fixed hash seed.
"""

import logging
import os
import sys
import time
import traceback

from tests.simulation.world import simulate

HASH_SEED = "PYTHONHASHSEED"


def main(arguments: list[str]) -> int:
    """The exit code: how many seeds failed, 100 at most."""
    numbers = [int(argument) for argument in arguments] or [0]
    alone = len(numbers) == 1
    logging.basicConfig(level=logging.DEBUG if alone else logging.CRITICAL)
    seeds = range(numbers[0], numbers[0] + (1 if alone else numbers[1]))
    failed: list[int] = []
    began = time.monotonic()
    for seed in seeds:
        try:
            what = simulate(seed)
        except Exception as error:  # noqa: BLE001  whatever it is, the seed has found it
            failed.append(seed)
            print(f"seed {seed} FAILED: {type(error).__name__}: {str(error)[:2000]}", flush=True)
            if alone:
                traceback.print_exc()
        else:
            if alone or (seed - numbers[0]) % 100 == 99:
                print(f"seed {seed}: {what}", flush=True)
    seconds = time.monotonic() - began
    print(f"{len(seeds)} seeds in {seconds:.0f} s, {len(failed)} failed: {failed}", flush=True)
    return min(len(failed), 100)


if __name__ == "__main__":
    if os.environ.get(HASH_SEED) != "0":
        os.execve(
            sys.executable, [sys.executable, "-m", "tests.simulation", *sys.argv[1:]], os.environ | {HASH_SEED: "0"}
        )
    sys.exit(main(sys.argv[1:]))

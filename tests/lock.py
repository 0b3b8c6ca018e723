"""`python -m tests.lock REPORT`: pip's report of a resolution as constraints, without what is ours."""

import json
import sys
from pathlib import Path

_HEAD = "# The versions that were tested together, made by `make lock`; `make` installs them.\n"


def constraints(report: str) -> str:
    """A line for each package that comes from an index."""
    resolved = json.loads(report)["install"]
    foreign = [item["metadata"] for item in resolved if "dir_info" not in item["download_info"]]
    return _HEAD + "".join(sorted(f"{package['name'].lower()}=={package['version']}\n" for package in foreign))


if __name__ == "__main__":
    sys.stdout.write(constraints(Path(sys.argv[1]).read_text()))

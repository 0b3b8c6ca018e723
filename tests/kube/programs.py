"""Where Kubernetes' programs are: in `KUBE_BIN`, in the place that builds of them are kept in, or on the PATH."""

import os
import shutil
from dataclasses import dataclass
from pathlib import Path

BUILDS = Path("~/.cache/fetch-kube/bin").expanduser()


@dataclass(frozen=True, slots=True)
class Programs:
    apiserver: str
    kubectl: str


def find_programs() -> Programs | str:
    """The programs, or a sentence that says which is missing."""
    places = os.pathsep.join([os.environ.get("KUBE_BIN", str(BUILDS)), os.environ.get("PATH", "")])
    found = {name: shutil.which(name, path=places) for name in ("kube-apiserver", "kubectl")}
    apiserver, kubectl = found.values()
    if apiserver is None or kubectl is None:
        missing = " and ".join(name for name, path in found.items() if path is None)
        return f"there is no {missing}: set KUBE_BIN to the directory of Kubernetes' programs, or put them on the PATH"
    return Programs(apiserver, kubectl)

"""Where Kubernetes' programs are: in `KUBE_BIN`, where `make peers` builds them, or on the PATH."""

from dataclasses import dataclass

from tests import peers


@dataclass(frozen=True, slots=True)
class Programs:
    apiserver: str
    kubectl: str


def find_programs() -> Programs | str:
    """The programs, or a sentence that says which is missing."""
    apiserver, kubectl = (peers.find(name) for name in ("kube-apiserver", "kubectl"))
    if apiserver is None or kubectl is None:
        missing = [name for name, path in (("kube-apiserver", apiserver), ("kubectl", kubectl)) if path is None]
        return f"there is no {' and no '.join(missing)}: `make peers` builds them where Go is"
    return Programs(apiserver, kubectl)

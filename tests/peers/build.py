"""Builds programs from their public Go modules, of the releases that tests are written for.

Each is built in a small module of its own that requires the program's: what that one pins is what gets built, checked
against Go's public checksum database as any dependency is.
"""

import json
import os
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tests import peers

ETCD = "v3.7.3"
KUBERNETES = "v1.37.2"
KINE = "v0.17.5"
GRPC = "v1.83.2"
HELM = "v3.22.0"


class BuildError(Exception):
    """Why a program could not be built: one sentence, and the end of what Go said."""


@dataclass(frozen=True, slots=True)
class Program:
    """A main package of a module at a release."""

    name: str
    module: str
    release: str
    package: str
    flags: Sequence[str] = ()
    environment: Mapping[str, str] = field(default_factory=dict)

    @property
    def source(self) -> Path:
        """The module that it is built in; programs of one release of one module share it."""
        return peers.directory().parent / "src" / f"{self.module.replace('/', '+')}@{self.release}"

    @property
    def built(self) -> Path:
        """Where it lies once it is built; the release is not in the name, which others look for."""
        return peers.directory() / self.name

    @property
    def mark(self) -> Path:
        """Says which release was built."""
        return peers.directory() / f".{self.name}@{self.release}"


def _etcd(name: str, module: str) -> Program:
    return Program(name, f"go.etcd.io/etcd/{module}/v3", ETCD, f"go.etcd.io/etcd/{module}/v3")


def _kubernetes(name: str) -> Program:
    version = "k8s.io/component-base/version"
    major, minor, _ = KUBERNETES.removeprefix("v").split(".")
    # a build says which release it is by what its linker is told; clients decide by it what to ask for
    told = {"gitVersion": KUBERNETES, "gitMajor": major, "gitMinor": minor}
    linker = " ".join(["-s -w", *(f"-X {version}.{variable}={value}" for variable, value in told.items())])
    return Program(name, "k8s.io/kubernetes", KUBERNETES, f"k8s.io/kubernetes/cmd/{name}", ["-ldflags", linker])


# SQLite is C
_KINE = Program(
    "kine", "github.com/k3s-io/kine", KINE, "github.com/k3s-io/kine", ["-tags", "nats"], {"CGO_ENABLED": "1"}
)
_HELM = Program("helm", "helm.sh/helm/v3", HELM, "helm.sh/helm/v3/cmd/helm", ["-ldflags", "-s -w"])
_INTEROP = Program("grpc-go-interop-client", "google.golang.org/grpc", GRPC, "google.golang.org/grpc/interop/client")

PROGRAMS = {
    program.name: program
    for program in (
        _etcd("etcd", "server"),
        _etcd("etcdctl", "etcdctl"),
        _etcd("etcdutl", "etcdutl"),
        _INTEROP,
        _HELM,
        _KINE,
        _kubernetes("kubectl"),
        _kubernetes("kubeadm"),
        _kubernetes("kube-apiserver"),
    )
}
"""In the order they are built in: what takes longest comes last."""


def build(program: Program) -> Path:
    """Builds a program, unless it is there; returns its path. What was not built here is its owner's, and left alone.

    :raises BuildError:
    """
    older = [mark for mark in program.built.parent.glob(f".{program.name}@*") if mark != program.mark]
    if program.built.is_file() and not older:
        return program.built
    if shutil.which("go") is None:
        raise BuildError("there is no Go: install it from https://go.dev/dl")
    program.source.mkdir(parents=True, exist_ok=True)
    program.built.parent.mkdir(parents=True, exist_ok=True)
    _require(program)
    unfinished = program.built.with_name(f".{program.name}.{os.getpid()}")
    try:
        _go(program, "build", "-mod=mod", "-trimpath", *program.flags, "-o", str(unfinished), program.package)
        unfinished.replace(program.built)
    finally:
        unfinished.unlink(missing_ok=True)
    program.mark.touch()
    for mark in older:
        mark.unlink()
    return program.built


def _require(program: Program) -> None:
    """Writes the module that the program is built in, whole or not at all."""
    if (program.source / "required").exists():
        return
    (program.source / "go.mod").unlink(missing_ok=True)
    _go(program, "mod", "init", "peers.invalid/build")
    _go(program, "mod", "edit", f"-require={program.module}@{program.release}", *_replacements(program))
    (program.source / "required").touch()


def _replacements(program: Program) -> list[str]:
    """Kubernetes requires its parts at v0.0.0 and replaces these by folders, which holds within its own tree only.

    Outside of it, the parts are modules that are released along with it: v0.37.2 with v1.37.2.
    """
    found = json.loads(_go(program, "mod", "download", "-json", f"{program.module}@{program.release}"))
    required = json.loads(_go(program, "mod", "edit", "-json", found["GoMod"]))["Require"]
    parts = [module["Path"] for module in required if module["Version"] == "v0.0.0"]
    released = program.release.replace("v1.", "v0.", 1)
    return [f"-replace={part}={part}@{released}" for part in parts]


def _go(program: Program, *arguments: str) -> str:
    ran = subprocess.run(
        ("go", *arguments),
        cwd=program.source,
        env={**os.environ, "GOWORK": "off", **program.environment},
        capture_output=True,
        text=True,
        check=False,
    )
    if ran.returncode:
        said = (ran.stderr or ran.stdout).strip().splitlines()[-10:]
        raise BuildError("\n".join([f"{program.name} {program.release} could not be built: go {arguments[0]}", *said]))
    return ran.stdout

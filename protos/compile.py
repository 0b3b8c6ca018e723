"""Compiles the protocol definitions into `fetch/api` when the package is built or installed.

What is built to be handed on has a file `fetch/commit`, which `fetch --version` tells (`fetch/cli/versions.py`).
"""

import subprocess
import tempfile
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class CompileProtos(BuildHookInterface):  # type: ignore[type-arg]
    """The build hook of `pyproject.toml`; editable installs run it too."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Runs protoc, which comes with grpcio-tools."""
        from grpc_tools import protoc  # noqa: PLC0415  a build requirement, not one of the package

        protos = Path(self.root) / "protos"
        sources = sorted(str(path) for path in protos.rglob("*.proto"))
        status = protoc.main(["protoc", f"-I{protos}", f"--python_out={self.root}", f"--pyi_out={self.root}", *sources])
        if status != 0:
            raise RuntimeError(f"protoc failed with status {status}")
        if version != "editable" and (commit := self._commit()):
            build_data["force_include"][self._written(commit)] = "fetch/commit"

    def _commit(self) -> str:
        """The commit of the clone that is built from, with a mark if that has changes; empty where there is none."""
        if not (Path(self.root) / ".git").exists():
            return ""
        command = ["git", "-C", self.root, "describe", "--always", "--abbrev=12", "--exclude=*", "--dirty=, changed"]
        try:
            return subprocess.run(command, capture_output=True, text=True, check=True).stdout  # noqa: S603
        except (OSError, subprocess.SubprocessError):
            return ""

    def _written(self, commit: str) -> str:
        self._directory = tempfile.TemporaryDirectory()  # as long as the build, which includes the file later
        file = Path(self._directory.name) / "commit"
        file.write_text(commit)
        return str(file)

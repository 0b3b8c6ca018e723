"""Compiles the protocol definitions into `fetch/api` when the package is built or installed."""

from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class CompileProtos(BuildHookInterface):  # type: ignore[type-arg]
    """The build hook of `pyproject.toml`; editable installs run it too."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:  # noqa: ARG002
        """Runs protoc, which comes with grpcio-tools."""
        from grpc_tools import protoc  # noqa: PLC0415  a build requirement, not one of the package

        protos = Path(self.root) / "protos"
        sources = sorted(str(path) for path in protos.rglob("*.proto"))
        status = protoc.main(["protoc", f"-I{protos}", f"--python_out={self.root}", f"--pyi_out={self.root}", *sources])
        if status != 0:
            raise RuntimeError(f"protoc failed with status {status}")

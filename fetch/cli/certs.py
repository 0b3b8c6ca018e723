"""`fetch certs`: makes development certificates."""

import argparse
import sys
from pathlib import Path

from fetch.config import SettingsError
from fetch.tenants.names import validate_tenant_name
from fetch.tls import certificates

_DEFAULT_TENANTS = ("alpha", "beta")


def add(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Adds the command."""
    command = commands.add_parser("certs", help="make development certificates")
    command.set_defaults(run=_run, flags=("--dir",))
    command.add_argument("--dir", type=Path, default=Path("certs"), help="where they lie (default: %(default)s)")
    command.add_argument("tenants", nargs="*", metavar="NAME", help="tenants; alpha and beta when none is named")


def _run(options: argparse.Namespace) -> None:
    for name in options.tenants:
        try:
            validate_tenant_name(name)
        except ValueError as error:
            raise SettingsError(str(error)) from error
        if "/" in name or name in ("ca", "server"):
            raise SettingsError(f"{name!r} cannot be the name of a certificate's file")
    try:
        made = certificates.create(options.dir, options.tenants or _DEFAULT_TENANTS)
    except (OSError, TypeError, ValueError) as error:
        raise SettingsError(f"cannot make certificates in {options.dir}: {error}") from error
    sys.stdout.write("".join(f"made {options.dir / name}.crt\n" for name in made) or "all there already\n")

"""`fetch certs`: makes development certificates, and renews those whose end is near."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from fetch.config import SettingsError
from fetch.tenants.names import validate_tenant_name
from fetch.tls import certificates, renewal
from fetch.tls.principals import SHARED_NAMES
from fetch.tls.renewal import Renewed

_DEFAULT_TENANTS = ("alpha", "beta")


def add(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Adds the command."""
    command = commands.add_parser(
        "certs",
        help="make development certificates, and renew them",
        description="Makes what is missing of an authority, a server's certificate and one for each NAME, and renews "
        f"what has less than {renewal.NEAR.days} days left (the authority: less than a year). A fetch that runs with "
        "these files takes them by itself.",
    )
    command.set_defaults(run=_run, flags=("--dir", "--admin"))
    command.add_argument("--dir", type=Path, default=Path("certs"), help="where they lie (default: %(default)s)")
    command.add_argument(
        "--admin", action="append", default=[], metavar="NAME", help="an administrator, for --admin-principals"
    )
    command.add_argument("tenants", nargs="*", metavar="NAME", help="tenants; alpha and beta when nobody is named")


def _run(options: argparse.Namespace) -> None:
    tenants: Sequence[str] = options.tenants or (() if options.admin else _DEFAULT_TENANTS)
    for name in (*tenants, *options.admin):
        _check(name)
    for name in tenants:
        if name in SHARED_NAMES:
            raise SettingsError(f"{name!r} is what every cluster's client is called: give this one a name of its own")
    try:
        renewed = renewal.renew(options.dir)
        made = certificates.create(options.dir, [*tenants, *options.admin])
    except (OSError, TypeError, ValueError) as error:
        raise SettingsError(f"cannot make certificates in {options.dir}: {error}") from error
    lines = [*(_told(options.dir, it) for it in renewed), *(f"made {options.dir / name}.crt" for name in made)]
    if any(it.name == "ca" for it in renewed):
        lines.append(f"{options.dir / 'ca.crt'} has the old authority, too: give it to everyone who trusts that one")
    if options.admin:
        lines.append(f"administrators where fetch has --admin-principals {','.join(options.admin)}")
    sys.stdout.write("".join(f"{line}\n" for line in lines) or "all there already\n")


def _told(directory: Path, renewed: Renewed) -> str:
    file, before, until = directory / f"{renewed.name}.crt", renewed.before.date(), renewed.until.date()
    return f"renewed {file}, which was valid until {before}, until {until}"


def _check(name: str) -> None:
    try:
        validate_tenant_name(name)
    except ValueError as error:
        raise SettingsError(str(error)) from error
    if "/" in name or name in ("ca", "server"):
        raise SettingsError(f"{name!r} cannot be the name of a certificate's file")

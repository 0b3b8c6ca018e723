"""The command line: `fetch serve`, `fetch certs`."""

import argparse
import asyncio
import logging
import os
import sys
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

from fetch import certificates, config
from fetch.chain import ChainError
from fetch.server import StartError, serve
from fetch.tenancy import validate_tenant_name

_DEFAULT_TENANTS = ("alpha", "beta")
_USAGE_ERROR = 2


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs a command. A wrong setting, and a start that fails, is one line on stderr and exit code 2."""
    options = _parser().parse_args(arguments)
    try:
        options.run(options)
    except (config.SettingsError, ChainError, StartError) as error:
        sys.stderr.write(f"fetch: {error}\n")
        sys.exit(_USAGE_ERROR)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="fetch", description="An etcd v3 endpoint for many Kubernetes control planes."
    )
    parser.add_argument("--version", action="version", version=version("fetch"))
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    serving = commands.add_parser("serve", help="serve etcd clients", argument_default=argparse.SUPPRESS)
    serving.set_defaults(run=_serve)
    serving.add_argument("--config", type=Path, help="a TOML file of settings")
    for name, setting in config.declared().items():
        serving.add_argument("--" + name.replace("_", "-"), dest=name, metavar="VALUE", help=setting.description)
    issuing = commands.add_parser("certs", help="make development certificates")
    issuing.set_defaults(run=_certs)
    issuing.add_argument("--dir", type=Path, default=Path("certs"), help="where they lie")
    issuing.add_argument("tenants", nargs="*", metavar="NAME", help="tenants; alpha and beta when none is named")
    return parser


def _serve(options: argparse.Namespace) -> None:
    given = {name: getattr(options, name) for name in config.declared() if hasattr(options, name)}
    settings = config.load(given, os.environ, getattr(options, "config", None))
    logging.basicConfig(
        level=settings.log_level.upper(), format="%(asctime)s %(levelname)s %(name)s: %(message)s", stream=sys.stderr
    )
    sys.stdout.write(f"fetch serves {', '.join(settings.listen_client_urls)}\n{config.connection_hint(settings)}\n")
    sys.stdout.flush()
    asyncio.run(serve(settings))


def _certs(options: argparse.Namespace) -> None:
    for name in options.tenants:
        try:
            validate_tenant_name(name)
        except ValueError as error:
            raise config.SettingsError(str(error)) from error
        if "/" in name or name in ("ca", "server"):
            raise config.SettingsError(f"{name!r} cannot be the name of a certificate's file")
    made = certificates.create(options.dir, options.tenants or _DEFAULT_TENANTS)
    sys.stdout.write("".join(f"made {options.dir / name}.crt\n" for name in made) or "all there already\n")

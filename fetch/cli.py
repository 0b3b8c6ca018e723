"""The command line: `fetch serve`, `fetch chain`, `fetch certs`."""

import argparse
import asyncio
import faulthandler
import os
import sys
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import NoReturn

from fetch import certificates, chain, config, logs
from fetch.chain import ChainError
from fetch.chain_setting import OPERATION_CHAIN, REQUEST_CHAIN
from fetch.server import StartError, require_data_directory, require_free, serve
from fetch.stores.protocol import StoreLost
from fetch.tenancy import validate_tenant_name
from fetch.workers import settings_of, supervise, worker_number

_DEFAULT_TENANTS = ("alpha", "beta")
_USAGE_ERROR = 2


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs a command.

    A wrong setting, and a start that fails, is one line on stderr and exit code 2. A daemon whose store cannot be used
    any more ends with exit code 74 (EX_IOERR), for whoever supervises it to start it again.
    """
    try:
        options = _parser().parse_args(arguments)
        options.arguments = sys.argv[1:] if arguments is None else arguments
        options.run(options)
    except (config.SettingsError, ChainError, StartError) as error:
        sys.stderr.write(f"fetch: {error}\n")
        sys.exit(_USAGE_ERROR)
    except StoreLost:  # the log has told why
        sys.exit(os.EX_IOERR)


class _Parser(argparse.ArgumentParser):
    """Complains in one line: argparse has no other way to leave the usage out."""

    def error(self, message: str) -> NoReturn:
        raise config.SettingsError(message)


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="fetch", description="An etcd v3 endpoint for many Kubernetes control planes.", allow_abbrev=False
    )
    parser.add_argument("--version", action="version", version=version("fetch"))
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    serving = commands.add_parser(
        "serve", help="serve etcd clients", argument_default=argparse.SUPPRESS, allow_abbrev=False
    )
    serving.set_defaults(run=_serve)
    printing = commands.add_parser(
        "chain", help="print the interceptors that these settings give", argument_default=argparse.SUPPRESS,
        allow_abbrev=False,
    )  # fmt: skip
    printing.set_defaults(run=_chain)
    for command in (serving, printing):
        command.add_argument("--config", type=Path, help="a TOML file of settings")
        for name, setting in config.declared().items():
            command.add_argument("--" + name.replace("_", "-"), dest=name, metavar="VALUE", help=setting.description)
    issuing = commands.add_parser("certs", help="make development certificates")
    issuing.set_defaults(run=_certs)
    issuing.add_argument("--dir", type=Path, default=Path("certs"), help="where they lie")
    issuing.add_argument("tenants", nargs="*", metavar="NAME", help="tenants; alpha and beta when none is named")
    return parser


def _settings(options: argparse.Namespace) -> config.Settings:
    given = {name: getattr(options, name) for name in config.declared() if hasattr(options, name)}
    return config.load(given, os.environ, getattr(options, "config", None))


def _serve(options: argparse.Namespace) -> None:
    settings = _settings(options)
    logs.set_up(settings.log_level, settings.log_format)
    faulthandler.enable()  # a page of the database that cannot be read is a SIGBUS: let the end say so
    worker = worker_number(os.environ)
    if settings.workers > 1 and worker is None:
        require_free(settings)
        require_data_directory(settings)
        sys.exit(asyncio.run(supervise(settings, options.arguments)))
    if worker is None:
        asyncio.run(serve(settings))
    else:
        asyncio.run(serve(settings_of(settings, worker), worker))


def _chain(options: argparse.Namespace) -> None:
    # what is listened on is nothing to the chains: they are printed without certificates, too
    options.listen_client_urls, options.anonymous_tenant = "http://127.0.0.1:2379", "nobody"
    settings = _settings(options)
    for title, group, names, default in (
        ("request chain", chain.REQUEST_GROUP, settings.interceptors, REQUEST_CHAIN),
        ("operation chain", chain.OPERATION_GROUP, settings.transaction_interceptors, OPERATION_CHAIN),
    ):
        sys.stdout.write(f"{title} ({group})\n")
        for planned in chain.plan(group, names, settings):
            always = "  always" if planned.name in default.always else ""
            after = f"  after {', '.join(planned.after)}" if planned.after else ""
            table = "".join(f"  {name}={value!r}" for name, value in planned.table.items())
            sys.stdout.write(f"  {planned.name:<16} {planned.origin} ({planned.package}){always}{after}{table}\n")
        others = ", ".join(name for name in chain.available(group) if name not in names) or "nothing"
        sys.stdout.write(f"  not in it: {others}\n")
    sys.stdout.write("+NAME adds, +NAME:before=OTHER and +NAME:after=OTHER at that place, -NAME leaves out\n")
    if "authorization" not in settings.interceptors:
        sys.stdout.write("without authorization no https:// listener is served\n")


def _certs(options: argparse.Namespace) -> None:
    for name in options.tenants:
        try:
            validate_tenant_name(name)
        except ValueError as error:
            raise config.SettingsError(str(error)) from error
        if "/" in name or name in ("ca", "server"):
            raise config.SettingsError(f"{name!r} cannot be the name of a certificate's file")
    try:
        made = certificates.create(options.dir, options.tenants or _DEFAULT_TENANTS)
    except (OSError, TypeError, ValueError) as error:
        raise config.SettingsError(f"cannot make certificates in {options.dir}: {error}") from error
    sys.stdout.write("".join(f"made {options.dir / name}.crt\n" for name in made) or "all there already\n")

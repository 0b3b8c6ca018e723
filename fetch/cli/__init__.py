"""The command line: `fetch COMMAND`, a module for each command.

A command is a module with a function `add`, which adds its parser to those of the others; `COMMANDS` names it.
"""

import argparse
import os
import re
import signal
import sys
from collections.abc import Sequence
from typing import NoReturn

from fetch.chain import ChainError
from fetch.cli import certs, chain, completion, doctor, restore, serve, tenants, versions
from fetch.cli.failure import CommandError
from fetch.config import SettingsError, etcd
from fetch.process.start import StartError
from fetch.stores.protocol import StoreLost
from fetch.suggestions import did_you_mean

COMMANDS = (serve, tenants, restore, chain, certs, doctor, completion)
"""In the order of the help."""

_NO_COMMAND = re.compile(r"^argument COMMAND: invalid choice: '(.*?)'")
_USAGE_ERROR = 2
_NOBODY_READS = 128 + signal.SIGPIPE
"""The exit code of a program that SIGPIPE has ended, as a shell tells it."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs a command.

    A wrong setting, and a start that fails, is one line on stderr and exit code 2; what a command was asked for and
    could not do, exit code 1. A daemon whose store cannot be used any more ends with exit code 74 (EX_IOERR), for
    whoever supervises it to start it again. A command whose output nobody reads any more, such as `head` that has seen
    enough, ends silently.
    """
    try:
        try:
            _run(arguments)
        finally:
            sys.stdout.flush()  # and not at the interpreter's end, which could only complain
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(_NOBODY_READS)


def _run(arguments: Sequence[str] | None) -> None:
    try:
        options = parse(sys.argv[1:] if arguments is None else arguments)
        options.arguments = sys.argv[1:] if arguments is None else arguments
        options.run(options)
    except (SettingsError, ChainError, StartError) as error:
        sys.stderr.write(f"fetch: {error}\n")
        sys.exit(_USAGE_ERROR)
    except CommandError as error:
        sys.stderr.write(f"fetch: {error}\n")
        sys.exit(1)
    except StoreLost:  # the log has told why
        sys.exit(os.EX_IOERR)


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """What a command line says.

    :raises SettingsError: it says what there is not
    """
    options, unknown = parser().parse_known_args(arguments)
    if unknown := etcd.take_experiments(unknown, options):
        flag = unknown[0].partition("=")[0]
        raise SettingsError(f"unrecognized argument {flag}{did_you_mean(flag, options.flags, str)}")
    return options


class _Parser(argparse.ArgumentParser):
    """Complains in one line: argparse has no other way to leave the usage out."""

    def error(self, message: str) -> NoReturn:
        if given := _NO_COMMAND.search(message):
            names = [command.__name__.rpartition(".")[2] for command in COMMANDS]
            message += did_you_mean(given[1], names, str)
        raise SettingsError(message)


class _Version(argparse.Action):
    """Asks for the versions only when they are wanted: git is asked, too."""

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
        sys.stdout.write(versions.told() + "\n")
        parser.exit()


def parser() -> argparse.ArgumentParser:
    """The parser of all commands."""
    made = _Parser(
        prog="fetch", description="An etcd v3 endpoint for many Kubernetes control planes.", allow_abbrev=False
    )
    made.add_argument("--version", action=_Version, nargs=0, help="tell what runs, and what it stands on")
    commands = made.add_subparsers(required=True, metavar="COMMAND")
    for command in COMMANDS:
        command.add(commands)
    return made

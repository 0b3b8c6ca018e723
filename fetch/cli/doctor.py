"""`fetch doctor`: looks for what is wrong, or is going to be, with what `fetch serve` would be started with."""

import argparse
import asyncio
import datetime
import importlib.util
import os
import sys
from collections.abc import AsyncIterator

from fetch.chain import OPERATION_GROUP, REQUEST_GROUP, ChainError, plan
from fetch.cli.settings import settings_of
from fetch.config import Settings, SettingsError, etcd, flags
from fetch.doctor import certificates, clocks, network, store
from fetch.doctor.finding import NOTE, OK, WRONG, Finding

_FOUND = 1


def add(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Adds the command."""
    command = commands.add_parser(
        "doctor",
        help="look for what is wrong with configuration, certificates, clocks, store and network",
        argument_default=argparse.SUPPRESS,
        allow_abbrev=False,
    )
    flags.add_to(command)
    command.set_defaults(run=_run)


def _run(options: argparse.Namespace) -> None:
    if asyncio.run(_look(options)):
        sys.exit(_FOUND)


async def _look(options: argparse.Namespace) -> bool:
    """Prints what is found, a line each, as it is found; whether something is wrong."""
    found = False
    async for finding in findings(options):
        sys.stdout.write(f"{finding}\n")
        sys.stdout.flush()
        found = found or finding.state == WRONG
    return found


async def findings(options: argparse.Namespace) -> AsyncIterator[Finding]:
    """Everything that is looked at."""
    try:
        idle = etcd.check(etcd.given(options), os.environ)
        settings = settings_of(options)
        _plan_chains(settings)
    except (SettingsError, ChainError) as error:
        yield Finding("configuration", WRONG, str(error), "fetch serve would not start")
        return
    yield Finding("configuration", OK, "the settings can be started with")
    if idle:
        yield Finding("configuration", NOTE, idle)
    if settings.transport == "auto" and importlib.util.find_spec("fetch_transport") is None:
        yield Finding(
            "configuration", NOTE, "the native transport is not installed", "pip install 'fetch-etcd[native]'"
        )
    for finding in certificates.look(settings, datetime.datetime.now(datetime.UTC)):
        yield finding
    for finding in clocks.look():
        yield finding
    async for finding in store.look(settings):
        yield finding
    for finding in network.look(settings):
        yield finding


def _plan_chains(settings: Settings) -> None:
    """Looks for the interceptors that are named.

    :raises ChainError: one is not there, or cannot stand where it does
    """
    plan(REQUEST_GROUP, settings.interceptors, settings)
    plan(OPERATION_GROUP, settings.transaction_interceptors, settings)

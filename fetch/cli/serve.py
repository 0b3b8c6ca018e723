"""`fetch serve`: serves etcd clients, in this process or in workers."""

import argparse
import asyncio
import faulthandler
import logging
import os
import signal
import sys

from fetch.cli.settings import settings_of
from fetch.config import etcd, flags
from fetch.observation import logs
from fetch.process.start import require_data_directory, require_free
from fetch.process.workers import settings_of as settings_of_worker
from fetch.process.workers import supervise, worker_number
from fetch.server import serve

logger = logging.getLogger(__name__)


def add(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Adds the command."""
    command = commands.add_parser(
        "serve", help="serve etcd clients", argument_default=argparse.SUPPRESS, allow_abbrev=False
    )
    flags.add_to(command)
    command.set_defaults(run=_run)


def _run(options: argparse.Namespace) -> None:
    idle = etcd.check(etcd.given(options), os.environ)
    settings = settings_of(options)
    logs.set_up(settings.log_level, settings.log_format)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # until it means to take certificates anew
    faulthandler.enable()  # a page of the database that cannot be read is a SIGBUS: let the end say so
    worker = worker_number(os.environ)
    for line in (idle, settings.idle_peers):
        if line and worker is None:
            logger.warning(line)
    if settings.workers > 1 and worker is None:
        require_free(settings)
        require_data_directory(settings)
        sys.exit(asyncio.run(supervise(settings, options.arguments)))
    if worker is None:
        asyncio.run(serve(settings))
    else:
        asyncio.run(serve(settings_of_worker(settings, worker), worker))

"""`fetch chain`: prints the interceptors that these settings give."""

import argparse
import sys

from fetch.chain import OPERATION_GROUP, REQUEST_GROUP, available, plan
from fetch.cli.settings import settings_of
from fetch.config import flags
from fetch.config.chains import OPERATION_CHAIN, REQUEST_CHAIN


def add(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Adds the command."""
    command = commands.add_parser(
        "chain",
        help="print the interceptors that these settings give",
        argument_default=argparse.SUPPRESS,
        allow_abbrev=False,
    )
    flags.add_to(command)
    command.set_defaults(run=_run)


def _run(options: argparse.Namespace) -> None:
    # what is listened on is nothing to the chains: they are printed without certificates, too
    options.listen_client_urls, options.anonymous_tenant = "http://127.0.0.1:2379", "nobody"
    settings = settings_of(options)
    for title, group, names, default in (
        ("request chain", REQUEST_GROUP, settings.interceptors, REQUEST_CHAIN),
        ("operation chain", OPERATION_GROUP, settings.transaction_interceptors, OPERATION_CHAIN),
    ):
        sys.stdout.write(f"{title} ({group})\n")
        for planned in plan(group, names, settings):
            always = "  always" if planned.name in default.always else ""
            after = f"  after {', '.join(planned.after)}" if planned.after else ""
            table = "".join(f"  {name}={value!r}" for name, value in planned.table.items())
            sys.stdout.write(f"  {planned.name:<16} {planned.origin} ({planned.package}){always}{after}{table}\n")
        others = ", ".join(name for name in available(group) if name not in names) or "nothing"
        sys.stdout.write(f"  not in it: {others}\n")
    sys.stdout.write("+NAME adds, +NAME:before=OTHER and +NAME:after=OTHER at that place, -NAME leaves out\n")
    if "authorization" not in settings.interceptors:
        sys.stdout.write("without authorization no https:// listener is served\n")

"""`fetch tenants`: the register of tenants, through any daemon, for an administrator."""

import argparse
import asyncio
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, TypeVar

import grpc
from google.protobuf.json_format import MessageToDict
from google.protobuf.message import Message

from fetch.cli import connection
from fetch.cli.failure import CommandError
from fetch.config import SettingsError
from fetch.config.setting import DURATION
from fetch.v1 import tenants_pb2
from fetch.v1.tenants_pb2 import Tenant

Response = TypeVar("Response", bound=Message)

_SERVICE = "/fetch.v1.Tenants/"
_DEADLINE = 30.0
_PAGE = 500
_FLAGS = (
    "--output",
    "--quota",
    "--notes",
    "--label",
    "--grace",
    "--yes",
    "--give-up-deleted",
    *connection.FLAGS,
)
_COLUMNS = ("NAME", "STATE", "CREATED", "USED", "QUOTA", "LABELS", "NOTES")

_ACTIONS = {
    "list": "all tenants",
    "show": "a tenant, and what it has stored",
    "create": "make a tenant before its first use",
    "set": "change a tenant's quota, notes or labels",
    "disable": "let a tenant be served no longer",
    "enable": "let a disabled tenant be served again",
    "delete": "delete a tenant; for a week it can be brought back",
    "undelete": "bring a deleted tenant back",
}


def add(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Adds the command."""
    command = commands.add_parser(
        "tenants",
        help="look after tenants, through a daemon",
        description="Looks after the tenants of a store, through any of its daemons and with effect on all, by a "
        "certificate that is among --admin-principals.",
        allow_abbrev=False,
    )
    command.set_defaults(run=_run, flags=_FLAGS)
    command.add_argument(
        "action", choices=_ACTIONS, help="; ".join(f"{name}: {what}" for name, what in _ACTIONS.items())
    )
    command.add_argument("name", metavar="NAME", nargs="?", help="the tenant")
    command.add_argument("--output", choices=("table", "json"), default="table", help="for people or for programs")
    command.add_argument(
        "--quota", metavar="BYTES", help="create, set: what it may store; 0: no bound; default: as all"
    )
    command.add_argument("--notes", metavar="TEXT", help="create, set: for people to read")
    command.add_argument(
        "--label", metavar="KEY=VALUE", action="append", help="create, set: in place of all there are; once for each"
    )
    command.add_argument("--grace", metavar="DURATION", help="delete: how long it can be brought back (default: 168h)")
    command.add_argument("--yes", action="store_true", help="delete: do not ask")
    command.add_argument(
        "--give-up-deleted", action="store_true", help="create: a deleted one of that name is gone for good then"
    )
    connection.add_to(command)


def _run(options: argparse.Namespace) -> None:
    if (options.name is None) != (options.action == "list"):
        raise SettingsError(
            "fetch tenants list takes no name" if options.name else f"fetch tenants {options.action} takes a NAME"
        )
    request = _request(options)
    if options.action == "delete" and not options.yes:
        _ask(options.name)
    tenants = asyncio.run(_call(options, request))
    if options.output == "json":
        found: Any = [_as_json(it) for it in tenants]
        sys.stdout.write(json.dumps(found if options.action == "list" else found[0], indent=2) + "\n")
    elif options.action == "list":
        _write_table([_COLUMNS, *map(_row, tenants)])
    else:
        _write_table(list(_details(tenants[0])))


def _request(options: argparse.Namespace) -> Message:
    """:raises SettingsError: a flag is no use as it is"""
    quota, default = _quota(options.quota)
    labels = _labels(options.label or ())
    match options.action:
        case "list":
            return tenants_pb2.ListTenantsRequest(limit=_PAGE)
        case "create":
            return tenants_pb2.CreateTenantRequest(
                name=options.name,
                quota=quota,
                notes=options.notes,
                labels=labels,
                gives_up_deleted=options.give_up_deleted,
            )
        case "set":
            if options.quota is None and options.notes is None and options.label is None:
                raise SettingsError("fetch tenants set takes --quota, --notes or --label")
            return tenants_pb2.SetTenantRequest(
                name=options.name,
                quota=quota,
                default_quota=default,
                notes=options.notes,
                labels=None if options.label is None else tenants_pb2.Labels(labels=labels),
            )
        case "delete":
            try:
                grace = None if options.grace is None else int(DURATION.parse(options.grace))
            except SettingsError as error:
                raise SettingsError(f"--grace: {error}") from error
            return tenants_pb2.DeleteTenantRequest(name=options.name, grace=grace)
        case _:
            return tenants_pb2.GetTenantRequest(name=options.name)


async def _call(options: argparse.Namespace, request: Message) -> list[Tenant]:
    """:raises CommandError: what the daemon said"""
    method = {"show": "Get"}.get(options.action, options.action.capitalize())
    async with connection.connected(options) as channel:
        try:
            if not isinstance(request, tenants_pb2.ListTenantsRequest):
                return [await _ask_daemon(channel, method, request, Tenant)]
            found: list[Tenant] = []
            while True:
                page = await _ask_daemon(channel, method, request, tenants_pb2.ListTenantsResponse)
                found += page.tenants
                if not page.more:
                    return found
                request.after = found[-1].name
        except grpc.aio.AioRpcError as error:
            raise CommandError(_told(error)) from error


async def _ask_daemon(channel: grpc.aio.Channel, method: str, request: Message, response: type[Response]) -> Response:
    call: Callable[..., Any] = channel.unary_unary(
        _SERVICE + method, type(request).SerializeToString, response.FromString
    )
    answer: Response = await call(request, timeout=_DEADLINE)
    return answer


def _told(error: grpc.aio.AioRpcError) -> str:
    if error.code() is grpc.StatusCode.UNIMPLEMENTED:
        return "what answers is no fetch, or one that does not know tenants yet"
    return str(error.details() or error.code().name).removeprefix("etcdserver: ")


def _ask(name: str) -> None:
    """:raises CommandError: it is not to be"""
    if not sys.stdin.isatty():
        raise CommandError(f"nothing was deleted: say --yes, since nobody can be asked whether {name} is to be deleted")
    sys.stderr.write(f"Delete tenant {name}? Its clients are refused from then on. [y/N] ")
    if sys.stdin.readline().strip().lower() not in ("y", "yes"):
        raise CommandError("nothing was deleted")


def _quota(given: str | None) -> tuple[int | None, bool]:
    """The bytes, or None and whether it is to be what all have."""
    if given is None or given == "default":
        return None, given is not None
    if not given.isdecimal():
        raise SettingsError(f"--quota: {given!r} is neither a number of bytes nor 'default'")
    return int(given), False


def _labels(given: Sequence[str]) -> Mapping[str, str]:
    for label in given:
        if "=" not in label.lstrip("="):
            raise SettingsError(f"--label: {label!r} is not KEY=VALUE")
    return dict(label.split("=", 1) for label in given)


def _as_json(tenant: Tenant) -> dict[str, Any]:
    made = MessageToDict(tenant, preserving_proto_field_name=True, always_print_fields_with_no_presence=True)
    return {
        name: int(value) if name in ("created", "used", "quota", "remaining") else value for name, value in made.items()
    }


def _row(tenant: Tenant) -> Sequence[str]:
    return (
        tenant.name,
        _state(tenant),
        _time(tenant.created),
        _time(tenant.used),
        _told_quota(tenant),
        _told_labels(tenant),
        tenant.notes,
    )


def _details(tenant: Tenant) -> Sequence[Sequence[str]]:
    rows = [(title.lower(), value) for title, value in zip(_COLUMNS, _row(tenant), strict=True)]
    rows.append(("roles", ", ".join(tenant.roles)))
    if tenant.HasField("contents"):
        had = tenant.contents
        rows += [
            ("revision", "being restored" if had.loading else str(had.revision)),
            ("oldest revision", str(had.oldest_revision)),
            ("keys", str(had.keys)),
            ("stored bytes", str(had.stored_bytes)),
            ("leases", f"{had.leases}{' or more' if had.more_leases else ''}"),
            ("watches here", str(had.watches)),
            ("alarms", ", ".join(had.alarms)),
        ]
    return [(title, value) for title, value in rows if value]


def _state(tenant: Tenant) -> str:
    state = Tenant.State.Name(tenant.state).lower()
    return f"{state}, {tenant.remaining // 3600} h left" if tenant.state == Tenant.DELETED else state


def _time(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M") if seconds else "-"


def _told_quota(tenant: Tenant) -> str:
    return (str(tenant.quota) if tenant.quota else "none") if tenant.HasField("quota") else "default"


def _told_labels(tenant: Tenant) -> str:
    return ",".join(f"{key}={value}" for key, value in sorted(tenant.labels.items()))


def _write_table(rows: Sequence[Sequence[str]]) -> None:
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        line = "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        sys.stdout.write(line.rstrip() + "\n")

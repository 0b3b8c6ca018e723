"""`fetch restore`: takes a snapshot file, of an etcd or of fetch, into a tenant that is empty."""

import argparse
import asyncio
import contextlib
import signal
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import grpc

from fetch import errors
from fetch.cli import connection
from fetch.cli.failure import CommandError
from fetch.cli.progress import ProgressBar
from fetch.config import SettingsError
from fetch.process.offline import tenants_of
from fetch.snapshots.decoding import MOST_REVISION
from fetch.snapshots.reader import BrokenFileError, FileReader, NoHashError
from fetch.snapshots.restoring import NotAsStoredError, Restored, clear, restore
from fetch.stores.protocol import StoreFull, StoreUnavailable
from fetch.tenants.names import validate_tenant_name
from fetch.v1.snapshots_pb2 import ClearRequest, RestoreRequest, RestoreResponse

_FLAGS = (
    "--tenant",
    "--data-dir",
    "--fdb-cluster-file",
    "--skip-hash-check",
    "--bump-revision",
    "--mark-compacted",
    "--clear",
    *connection.FLAGS,
)
_BLOB_BYTES = 64 << 10


def add(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Adds the command."""
    command = commands.add_parser(
        "restore",
        help="take a snapshot file into an empty tenant",
        description="Takes a snapshot file, as `etcdctl snapshot save` writes it of an etcd or of fetch, into a tenant "
        "that nobody has written to: with its revisions, leases and alarms. A tenant whose restoring was interrupted "
        "is not served until this was run again, or with --clear.",
        allow_abbrev=False,
    )
    command.set_defaults(run=_run, flags=_FLAGS)
    command.add_argument("file", metavar="FILE", type=Path, nargs="?", help="the snapshot")
    command.add_argument("--tenant", metavar="NAME", required=True, help="the tenant, new or empty")
    where = command.add_mutually_exclusive_group()
    where.add_argument(
        "--data-dir", metavar="DIR", type=Path, help="an embedded store that no daemon serves, instead of a daemon"
    )
    where.add_argument(
        "--fdb-cluster-file", metavar="FILE", type=Path, help="FoundationDB's cluster, served or not, instead"
    )
    connection.add_to(command)
    command.add_argument(
        "--skip-hash-check",
        action="store_true",
        help="take a file without a hash, which was copied from etcd's data directory (member/snap/db)",
    )
    command.add_argument(
        "--bump-revision",
        metavar="N",
        type=_count,
        default=0,
        help="go on so many revisions later, so that clients of what was lost see none go back",
    )
    command.add_argument(
        "--mark-compacted",
        action="store_true",
        help="mark that revision as compacted, so that watches begin anew (required with --bump-revision)",
    )
    command.add_argument(
        "--clear", action="store_true", help="instead clear what an interrupted restoring has left: the tenant is empty"
    )


def _run(options: argparse.Namespace) -> None:
    _check(options)
    try:
        if options.data_dir is None and options.fdb_cluster_file is None:
            asyncio.run(_clear_by_daemon(options) if options.clear else _restore_by_daemon(options))
        else:
            asyncio.run(_clear(options) if options.clear else _restore(options))
    except grpc.aio.AioRpcError as error:
        raise CommandError(_refusal(error, options)) from error
    except NoHashError as error:
        hint = "--skip-hash-check takes a file that was copied from etcd's data directory"
        raise CommandError(f"{options.file} cannot be restored: {error} ({hint})") from error
    except (BrokenFileError, NotAsStoredError) as error:
        raise CommandError(f"{options.file} cannot be restored: {error}") from error
    except OSError as error:
        raise CommandError(f"{error.filename or options.file}: {error.strerror}") from error
    except errors.NotEmpty as error:
        raise CommandError(_not_empty(options)) from error
    except errors.EtcdError as error:
        raise CommandError(str(error).removeprefix("etcdserver: ")) from error
    except (StoreFull, StoreUnavailable) as error:
        raise CommandError(f"the store did not take it: {error}") from error
    except (KeyboardInterrupt, asyncio.CancelledError) as error:
        raise CommandError(f"interrupted: nothing of it is in tenant {options.tenant}") from error


def _check(options: argparse.Namespace) -> None:
    """:raises SettingsError: the command line is no use as it is"""
    try:
        validate_tenant_name(options.tenant)
    except ValueError as error:
        raise SettingsError(str(error)) from error
    if (options.file is None) != options.clear:
        raise SettingsError("restore takes a FILE, or --clear and none")
    if options.mark_compacted != bool(options.bump_revision):
        raise SettingsError("--mark-compacted and --bump-revision N go together: give both or neither")


async def _restore(options: argparse.Namespace) -> None:
    bar = ProgressBar()
    with contextlib.closing(bar), FileReader(options.file, hashed=not options.skip_hash_check) as file, _ended():
        async with tenants_of(options.data_dir, options.fdb_cluster_file) as tenants:
            engine = await tenants.open(options.tenant)
            restored = await restore(engine, file, bar.tell, options.bump_revision)
    sys.stdout.write(told(options.tenant, restored))


async def _clear(options: argparse.Namespace) -> None:
    async with tenants_of(options.data_dir, options.fdb_cluster_file) as tenants:
        await clear(await tenants.open(options.tenant))
    sys.stdout.write(f"tenant {options.tenant} is empty\n")


async def _restore_by_daemon(options: argparse.Namespace) -> None:
    bar = ProgressBar()
    size = options.file.stat().st_size
    sent = 0
    with contextlib.closing(bar), options.file.open("rb") as file, _ended():

        async def parts() -> AsyncIterator[bytes]:
            nonlocal sent
            begin = RestoreRequest.Begin(
                tenant=options.tenant,
                skip_hash_check=options.skip_hash_check,
                bump_revision=options.bump_revision,
            )
            yield RestoreRequest(begin=begin).SerializeToString()
            while blob := file.read(_BLOB_BYTES):
                yield RestoreRequest(blob=blob).SerializeToString()
                sent += len(blob)
                bar.tell("sending", sent, size, "bytes")
            yield RestoreRequest(end=True).SerializeToString()

        async with connection.connected(options) as channel:
            answers = channel.stream_stream("/fetch.v1.Snapshots/Restore")(parts())
            async for encoded in answers:
                answer = RestoreResponse.FromString(encoded)
                if answer.HasField("restored"):
                    bar.close()
                    it = answer.restored
                    restored = Restored(it.revision, it.compacted, it.keys, it.leases, it.stored_bytes)
                    sys.stdout.write(told(options.tenant, restored))
                else:
                    bar.tell(answer.progress.stage, answer.progress.done, answer.progress.total)


async def _clear_by_daemon(options: argparse.Namespace) -> None:
    async with connection.connected(options) as channel:
        await channel.unary_unary("/fetch.v1.Snapshots/Clear")(ClearRequest(tenant=options.tenant).SerializeToString())
    sys.stdout.write(f"tenant {options.tenant} is empty\n")


def _refusal(error: grpc.aio.AioRpcError, options: argparse.Namespace) -> str:
    """What a daemon has said, as one line."""
    details = str(error.details() or error.code().name).removeprefix("etcdserver: ")
    if details == errors.NotEmpty.text.removeprefix("etcdserver: "):
        return _not_empty(options)
    if error.code() is grpc.StatusCode.UNAVAILABLE:
        return f"{details}: run it again, or with --clear; until then tenant {options.tenant} may not be served"
    return details


def _not_empty(options: argparse.Namespace) -> str:
    return f"tenant {options.tenant} is not empty: restore into one that nobody has written to"


def told(tenant: str, restored: Restored) -> str:
    """What to say of a tenant that was restored."""
    compacted = f", compacted at {restored.compacted}" if restored.compacted >= 0 else ""
    return (
        f"restored tenant {tenant}: revision {restored.revision}{compacted}, "
        f"{restored.keys:,} keys, {restored.leases:,} leases\n"
    )


@contextlib.contextmanager
def _ended() -> Iterator[None]:
    """Lets SIGTERM end the work as SIGINT does, so that what was written is cleared."""
    task, loop = asyncio.current_task(), asyncio.get_running_loop()
    assert task is not None  # noqa: S101  a coroutine runs in one
    loop.add_signal_handler(signal.SIGTERM, task.cancel)
    try:
        yield
    finally:
        loop.remove_signal_handler(signal.SIGTERM)


def _count(text: str) -> int:
    number = int(text)
    if not 0 <= number <= MOST_REVISION:
        raise ValueError
    return number

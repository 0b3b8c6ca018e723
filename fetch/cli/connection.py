"""How commands reach a daemon: etcdctl's flags, and its variables where a flag is not given."""

import argparse
import asyncio
import contextlib
import os
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from urllib.parse import urlsplit

import grpc

from fetch.cli.failure import CommandError
from fetch.config import SettingsError

FLAGS = ("--endpoints", "--cacert", "--cert", "--key", "--dial-timeout")
_NAMES = ("endpoints", "cacert", "cert", "key")
_OPTIONS = (("grpc.max_receive_message_length", -1), ("grpc.use_local_subchannel_pool", 1))


def add_to(parser: argparse.ArgumentParser) -> None:
    """Adds the flags."""
    group = parser.add_argument_group("connection", "as etcdctl has them, each also as a variable: ETCDCTL_ENDPOINTS …")
    group.add_argument("--endpoints", metavar="URL,…", help="daemons, the first that answers is asked")
    group.add_argument("--cacert", metavar="FILE", type=Path, help="the authority of the daemons' certificates, PEM")
    group.add_argument("--cert", metavar="FILE", type=Path, help="the certificate to be known by, PEM")
    group.add_argument("--key", metavar="FILE", type=Path, help="its key, PEM")
    group.add_argument(
        "--dial-timeout", metavar="SECONDS", type=float, default=2.0, help="for each endpoint (default: %(default)s)"
    )


@contextlib.asynccontextmanager
async def connected(
    options: argparse.Namespace, environment: Mapping[str, str] = os.environ
) -> AsyncIterator[grpc.aio.Channel]:
    """A channel to the first of the endpoints that answers.

    :raises SettingsError: the flags do not go together :raises CommandError: none answers
    """
    given = {name: getattr(options, name) or environment.get(f"ETCDCTL_{name.upper()}") for name in _NAMES}
    endpoints = [it.strip() for it in str(given["endpoints"] or "127.0.0.1:2379").split(",") if it.strip()]
    credentials = _credentials(given)
    failures: list[str] = []
    for endpoint in endpoints:
        channel = _channel(endpoint, credentials)
        async with channel:
            try:
                async with asyncio.timeout(options.dial_timeout):
                    await channel.channel_ready()
            except TimeoutError:
                failures.append(endpoint)
                continue
            yield channel
            return
    raise CommandError(
        f"no daemon answers at {', '.join(failures)}: give --endpoints, and for https --cacert, --cert and --key"
    )


def _credentials(given: Mapping[str, object]) -> grpc.ChannelCredentials | None:
    if (given["cert"] is None) != (given["key"] is None):
        raise SettingsError("--cert and --key go together")
    if given["cacert"] is None and given["cert"] is None:
        return None
    contents = {name: _read(f"--{name}", given[name]) for name in ("cacert", "cert", "key")}
    return grpc.ssl_channel_credentials(contents["cacert"], contents["key"], contents["cert"])


def _read(flag: str, file: object) -> bytes | None:
    if file is None:
        return None
    try:
        return Path(str(file)).read_bytes()
    except OSError as error:
        raise SettingsError(f"{flag}: cannot read {file}: {error.strerror}") from error


def _channel(endpoint: str, credentials: grpc.ChannelCredentials | None) -> grpc.aio.Channel:
    parts = urlsplit(endpoint if "://" in endpoint else f"//{endpoint}")
    if parts.scheme not in ("", "http", "https") or not parts.netloc:
        raise SettingsError(f"--endpoints: {endpoint} is no address: https://HOST:PORT is one")
    if parts.scheme == "http" or (not parts.scheme and credentials is None):
        return grpc.aio.insecure_channel(parts.netloc, _OPTIONS)
    return grpc.aio.secure_channel(parts.netloc, credentials or grpc.ssl_channel_credentials(), _OPTIONS)

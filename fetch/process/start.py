"""What a start needs, tried before anything is started: addresses and the data directory."""

import socket
import time
from pathlib import Path
from urllib.parse import urlsplit

from fetch.config import Settings
from fetch.stores.embedded.directory import DataDirectory, DirectoryTaken
from fetch.stores.protocol import StoreUnavailable

_ORPHANS_SECONDS = 8.0
"""How long workers may outlive a daemon that was killed: a little longer than calls have to end when one stops."""
_ORPHANS_POLL_SECONDS = 0.1


class StartError(Exception):
    """The daemon cannot start: one sentence that says why."""


def require_free(settings: Settings) -> None:
    """Tries the addresses: the transports would say less clearly, or in more than a line, why they cannot have one.

    :raises StartError:
    """
    for url in (*settings.listen_client_urls, *settings.listen_client_http_urls):
        parts = urlsplit(url)
        host = parts.hostname or ""
        try:
            family = socket.AF_INET6 if ":" in host else socket.AF_INET
            socket.create_server((host, parts.port or 0), family=family).close()
        except OSError as error:
            raise StartError(f"cannot listen on {url}: {error.strerror}") from error


def require_data_directory(settings: Settings) -> None:
    """Tries the data directory, so that it is said once what is wrong with it, and not by each worker.

    A daemon that was killed leaves workers behind, which end by themselves: that is waited for.

    :raises StartError:
    """
    if settings.fdb_cluster_file is not None:
        return
    deadline = time.monotonic() + _ORPHANS_SECONDS
    while True:
        try:
            DataDirectory(Path(settings.data_dir), 0, 1).close()
        except DirectoryTaken as error:
            if time.monotonic() > deadline:
                raise StartError(str(error)) from error
            time.sleep(_ORPHANS_POLL_SECONDS)
        except StoreUnavailable as error:
            raise StartError(str(error)) from error
        else:
            return

"""Network: whether the addresses can be listened on, and whether what is advertised can be found."""

import contextlib
import errno
import resource
import socket
from collections.abc import Iterator
from urllib.parse import urlsplit

from fetch.config import Settings
from fetch.doctor.finding import NOTE, OK, WRONG, Finding
from fetch.process.limits import ENOUGH_FILES

_ABOUT = "network"
_SECONDS = 3.0


def look(settings: Settings) -> Iterator[Finding]:
    """Looks at what is listened on, what is advertised, and how many connections there may be."""
    urls = (*settings.listen_client_urls, *settings.listen_client_http_urls, *settings.listen_metrics_urls)
    yield from map(_listened, urls)
    yield from map(_advertised, settings.advertise_client_urls)
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    if most != resource.RLIM_INFINITY and most < ENOUGH_FILES:
        advised = f"each connection is one: allow {ENOUGH_FILES} (LimitNOFILE of the unit, ulimit -Hn)"
        yield Finding("limits", NOTE, f"a process may open {most} files here", advised)
    else:
        yield Finding("limits", OK, "enough files may be open")


def _listened(url: str) -> Finding:
    parts = urlsplit(url)
    host, port = parts.hostname or "", parts.port or 0
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        socket.create_server((host, port), family=family).close()
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            told = f"something listens on {url} already"
            return Finding(_ABOUT, NOTE, told, "well, if it is this daemon; else choose another port")
        told = f"{url} cannot be listened on, {error.strerror or error}"
        return Finding(_ABOUT, WRONG, told, "use an address of this machine, and a port that its user may have")
    return Finding(_ABOUT, OK, f"{url} can be listened on")


def _advertised(url: str) -> Finding:
    parts = urlsplit(url)
    host, port = parts.hostname or "", parts.port or 0
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except OSError as error:
        told = f"{host}, which is advertised, cannot be found, {error.strerror or error}"
        return Finding(_ABOUT, WRONG, told, "have DNS know it, or set --advertise-client-urls")
    with contextlib.suppress(OSError), socket.create_connection((host, port), _SECONDS):
        return Finding(_ABOUT, OK, f"{url}, which is advertised, is {found[0][4][0]}, and somebody answers there")
    return Finding(_ABOUT, OK, f"{url}, which is advertised, is {found[0][4][0]}")

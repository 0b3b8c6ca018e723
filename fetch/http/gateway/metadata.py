"""What a request's headers say to a gRPC call: metadata and deadline.

As grpc-gateway maps them by default (`runtime/context.go`): `Grpc-Metadata-NAME` is NAME, `Authorization` is itself,
what HTTP has for good comes with a prefix. Besides, the trace that the client is in is told as gRPC tells it.
"""

import binascii
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass

import grpc

from fetch.errors import Refused
from fetch.http.asgi import Scope, header

Metadata = tuple[tuple[str, str | bytes], ...]

_PREFIX, _BINARY = "grpc-metadata-", "-bin"
_AS_THEY_ARE = frozenset({"authorization", "traceparent", "tracestate"})
_PERMANENT = frozenset(
    {
        "accept",
        "accept-charset",
        "accept-language",
        "accept-ranges",
        "authorization",
        "cache-control",
        "content-type",
        "cookie",
        "date",
        "expect",
        "from",
        "host",
        "if-match",
        "if-modified-since",
        "if-none-match",
        "if-schedule-tag-match",
        "if-unmodified-since",
        "max-forwards",
        "origin",
        "pragma",
        "referer",
        "user-agent",
        "via",
        "warning",
    }
)
_KEY = re.compile(r"[0-9a-z_.-]+")
_TEXT = re.compile(r"[ -~]*")
_TIMEOUT = re.compile(r"([+-]?[0-9]{1,18})([HMSmun])")
_SECONDS = {"H": 3600.0, "M": 60.0, "S": 1.0, "m": 1e-3, "u": 1e-6, "n": 1e-9}


@dataclass(frozen=True, slots=True)
class Told:
    """What the headers say. `deadline` is in seconds of the monotonic clock."""

    metadata: Metadata
    deadline: float | None


def told_by(scope: Scope) -> Told:
    """What a request's headers say.

    :raises Refused: INVALID_ARGUMENT, a header cannot be understood
    """
    deadline = None
    if timeout := header(scope, b"grpc-timeout"):
        matched = _TIMEOUT.fullmatch(timeout)
        if matched is None:
            raise Refused(grpc.StatusCode.INVALID_ARGUMENT, f"invalid grpc-timeout: {timeout}")
        seconds = int(matched[1]) * _SECONDS[matched[2]]
        deadline = time.monotonic() + seconds if seconds else None
    return Told(tuple(_metadata(scope)), deadline)


def _metadata(scope: Scope) -> Iterator[tuple[str, str | bytes]]:
    forwarded: list[str] = []
    for raw_name, raw_value in scope["headers"]:
        name, value = raw_name.decode("latin-1").lower(), raw_value.decode("latin-1")
        if name == "x-forwarded-for":
            forwarded.append(value)
        if name in _AS_THEY_ARE and _TEXT.fullmatch(value):
            yield name, value
        if name in _PERMANENT:
            key = f"grpcgateway-{name}"
        elif name.startswith(_PREFIX):
            key = name.removeprefix(_PREFIX)
        else:
            continue
        if not _KEY.fullmatch(key):
            continue
        if name.endswith(_BINARY):
            yield key, _binary(name, value)
        elif _TEXT.fullmatch(value):
            yield key, value
    if host := header(scope, b"x-forwarded-host") or header(scope, b"host"):
        yield "x-forwarded-host", host
    if scope.get("client"):
        forwarded.append(scope["client"][0])
    if forwarded:
        yield "x-forwarded-for", ", ".join(forwarded)


def _binary(name: str, value: str) -> bytes:
    try:
        return binascii.a2b_base64(value + "=" * (-len(value) % 4), strict_mode=True)
    except (binascii.Error, ValueError) as error:
        told = "-".join(part.capitalize() for part in name.split("-"))
        why = f"invalid binary header {told}: illegal base64 data"
        raise Refused(grpc.StatusCode.INVALID_ARGUMENT, why) from error

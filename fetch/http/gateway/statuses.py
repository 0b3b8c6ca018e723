"""Errors as grpc-gateway tells them: a `google.rpc.Status` in JSON, and which status of HTTP stands for which code."""

from collections.abc import Mapping

import grpc

from fetch.http.gateway.writing import string

_Code = grpc.StatusCode
_CLIENT_CLOSED = 499  # nginx has made it up
OF_HTTP: Mapping[grpc.StatusCode, int] = {
    _Code.OK: 200,
    _Code.CANCELLED: _CLIENT_CLOSED,
    _Code.UNKNOWN: 500,
    _Code.INVALID_ARGUMENT: 400,
    _Code.DEADLINE_EXCEEDED: 504,
    _Code.NOT_FOUND: 404,
    _Code.ALREADY_EXISTS: 409,
    _Code.PERMISSION_DENIED: 403,
    _Code.UNAUTHENTICATED: 401,
    _Code.RESOURCE_EXHAUSTED: 429,
    _Code.FAILED_PRECONDITION: 400,
    _Code.ABORTED: 409,
    _Code.OUT_OF_RANGE: 400,
    _Code.UNIMPLEMENTED: 501,
    _Code.INTERNAL: 500,
    _Code.UNAVAILABLE: 503,
    _Code.DATA_LOSS: 500,
}


def status_json(code: grpc.StatusCode, details: str, *, for_html: bool = False) -> bytes:
    """A status, without what is empty of it."""
    parts = [b'"code":%d' % code.value[0]]
    if details:
        parts.append(b'"message":' + string(details, for_html=for_html))
    return b"{" + b",".join(parts) + b"}"

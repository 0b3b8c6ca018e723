"""Requests that are asked without a body, and what answers them."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from http import HTTPStatus

from fetch.http.asgi import Scope

PLAIN = "text/plain; charset=utf-8"
JSON = "application/json"


@dataclass(frozen=True, slots=True)
class Request:
    """What is asked of a path. A parameter without a value has an empty one.

    `scope` is the request as the server has told it.
    """

    method: str
    query: Mapping[str, Sequence[str]]
    scope: Scope


@dataclass(frozen=True, slots=True)
class Answer:
    """What a path answers. `headers` are those beside the content's type and length."""

    status: HTTPStatus
    body: bytes
    content_type: str = PLAIN
    headers: Sequence[tuple[str, str]] = ()


Page = Callable[[Request], Awaitable[Answer]]

NOSNIFF = ("X-Content-Type-Options", "nosniff")
NOT_FOUND = Answer(HTTPStatus.NOT_FOUND, b"404 page not found\n", headers=(NOSNIFF,))
ONLY_GET = Answer(HTTPStatus.METHOD_NOT_ALLOWED, b"Method Not Allowed\n", headers=(("Allow", "GET"), NOSNIFF))
FAILED = Answer(HTTPStatus.INTERNAL_SERVER_ERROR, b"Internal Server Error\n", headers=(NOSNIFF,))

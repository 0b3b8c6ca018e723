"""What an application and a server of HTTP say to each other: ASGI 3, the parts of it that are used here.

A server calls the application for each request. Beside the specification's fields, `scope["extensions"]["tls"]` has
`client_cert_chain`, the client's certificates as PEM texts, its own first; on http:// there is no such extension.
"""

from collections.abc import Awaitable, Callable, Mapping, MutableMapping, Sequence
from typing import Any

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Application = Callable[[Scope, Receive, Send], Awaitable[None]]
Headers = Sequence[tuple[bytes, bytes]]


def header(scope: Scope, name: bytes) -> str:
    """The first value of a request's header, whose name is given in small letters; empty where there is none."""
    return next((value.decode("latin-1") for key, value in scope["headers"] if key == name), "")


def certificate_of(scope: Scope) -> str | None:
    """The client's certificate as PEM; None on http://."""
    return next(iter(certificates_of(scope)), None)


def certificates_of(scope: Scope) -> list[str]:
    """What the client has presented as PEM, its own certificate first; nothing on http://."""
    tls: Mapping[str, Any] | None = (scope.get("extensions") or {}).get("tls")
    return [str(certificate) for certificate in (tls and tls.get("client_cert_chain")) or ()]

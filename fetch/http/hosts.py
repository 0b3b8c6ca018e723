"""Requests without TLS for hosts that are not this one's are not answered, where `--host-whitelist` says which are.

A browser that a page has led here by a name of the page's own (DNS rebinding, CVE-2018-5702) names that in `Host`. With
TLS it would have needed a certificate. Follows `accessController` of etcd's `server/embed/serve.go`.
"""

from collections.abc import Collection

from fetch.http.asgi import Application, Receive, Scope, Send

_ANY = "*"
_MISDIRECTED = 421


def guarded(application: Application, hosts: Collection[str]) -> Application:
    """The application, for requests that name one of these hosts, or come by TLS; `*`, and none, is any."""
    if not hosts or _ANY in hosts:
        return application

    async def answer(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["scheme"] == "https" or host_of(scope) in hosts:
            await application(scope, receive, send)
            return
        body = b"This host is not among those of --host-whitelist: add it there, or ask by https://.\n"
        headers = [
            (b"content-type", b"text/plain; charset=utf-8"),
            (b"x-content-type-options", b"nosniff"),
            (b"content-length", str(len(body)).encode()),
        ]
        await send({"type": "http.response.start", "status": _MISDIRECTED, "headers": headers})
        await send({"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else body})

    return answer


def host_of(scope: Scope) -> str:
    """The host that a request names, without its port."""
    name: bytes = next((value for key, value in scope["headers"] if key == b"host"), b"")
    host, colon, port = name.decode("latin-1").rpartition(":")
    if not colon or not (port.isdecimal() or not port) or (":" in host and not host.startswith("[")):
        return name.decode("latin-1")
    return host.removeprefix("[").removesuffix("]")

"""What is answered over HTTP, as an ASGI application: any server of HTTP may call it.

Paths are etcd's, and so is what is said of those that there are not. Follows `accessController` of etcd's
`server/embed/serve.go` for cross-origin requests, and Go's `http.ServeMux` for paths that are not in their normal form.
"""

import html
import logging
import posixpath
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from urllib.parse import parse_qs, quote, urlsplit

from fetch.http.answers import FAILED, NOT_FOUND, Answer, Page, Request
from fetch.http.asgi import Application as Asgi
from fetch.http.asgi import Receive, Scope, Send

CROSS_ORIGIN = (
    (b"access-control-allow-headers", b"accept, content-type, authorization"),
    (b"access-control-allow-methods", b"POST, GET, OPTIONS, PUT, DELETE"),
    (b"access-control-allow-origin", b"*"),
)
"""What etcd lets pages of other origins do by default. A browser sends no certificate for them."""

_GATEWAY, _OLD_GATEWAY = "/v3/", "/v3beta/"
_MOST_PARAMETERS = 100

logger = logging.getLogger(__name__)


class Application:
    """Answers with pages, and has a gateway answer what is under `/v3/`."""

    def __init__(self, pages: Mapping[str, Page], *, cross_origin: bool, gateway: Asgi | None = None) -> None:
        """`cross_origin`: whether pages of other origins may ask, as on etcd's client URLs, not on its metrics URLs."""
        self._pages = pages
        self._cross_origin = cross_origin
        self._gateway = gateway

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers one request. Other protocols of ASGI are not spoken."""
        if scope["type"] != "http":
            raise ValueError(f"{scope['type']} is not spoken")
        if self._gateway is not None and scope["method"] != "OPTIONS" and _normal(scope["path"]) == scope["path"]:
            if scope["path"].startswith(_OLD_GATEWAY):
                scope = {**scope, "path": scope["path"].replace(_OLD_GATEWAY, _GATEWAY, 1)}
            if scope["path"].startswith(_GATEWAY):
                await self._gateway(scope, receive, send)
                return
        await self._send(send, scope["method"], await self._answer(scope))

    async def _answer(self, scope: Scope) -> Answer:
        path, method = scope["path"], scope["method"]
        if self._cross_origin and method == "OPTIONS":
            return Answer(HTTPStatus.OK, b"", "")
        if (normal := _normal(path)) != path:
            return _redirect(method, normal, scope["query_string"])
        if self._gateway is not None and f"{path}/" == _GATEWAY:
            return _redirect(method, _GATEWAY, scope["query_string"])
        page = self._pages.get(path)
        if page is None:
            return NOT_FOUND
        try:
            query = parse_qs(
                scope["query_string"].decode("latin-1"), keep_blank_values=True, max_num_fields=_MOST_PARAMETERS
            )
        except ValueError:
            query = {}
        try:
            return await page(Request(method, query, scope))
        except Exception:
            logger.exception("%s cannot be answered", path)
            return FAILED

    async def _send(self, send: Send, method: str, answer: Answer) -> None:
        headers = [("Content-Length", str(len(answer.body))), *answer.headers]
        if answer.content_type:
            headers.append(("Content-Type", answer.content_type))
        encoded = [(name.lower().encode(), value.encode("latin-1")) for name, value in headers]
        encoded += CROSS_ORIGIN if self._cross_origin else ()
        await send({"type": "http.response.start", "status": answer.status.value, "headers": encoded})
        await send({"type": "http.response.body", "body": b"" if method == "HEAD" else answer.body})


def only_at(urls: Sequence[str], application: Asgi) -> Asgi:
    """The application where it is asked on a port of these URLs, and a page that is not found elsewhere."""
    ports = {urlsplit(url).port for url in urls}
    nothing = Application({}, cross_origin=False)

    async def answer(scope: Scope, receive: Receive, send: Send) -> None:
        await (application if scope["server"][1] in ports else nothing)(scope, receive, send)

    return answer


def _normal(path: str) -> str:
    """A path without what names nothing: empty parts, `.` and `..`."""
    if "//" not in path and "/." not in path and path.startswith("/"):
        return path
    normal = posixpath.normpath("/" + path.lstrip("/"))
    return normal + "/" if path.endswith("/") and normal != "/" else normal


def _redirect(method: str, path: str, query: bytes) -> Answer:
    place = quote(path, safe="/:@!$&'()*+,;=~") + (f"?{query.decode('latin-1')}" if query else "")
    body = f'<a href="{html.escape(place)}">Temporary Redirect</a>.\n\n'.encode("latin-1")
    content_type = "text/html; charset=utf-8" if method in ("GET", "HEAD") else ""
    return Answer(HTTPStatus.TEMPORARY_REDIRECT, body if method == "GET" else b"", content_type, (("Location", place),))

"""The application by itself, as a server calls it."""

from typing import Any

import pytest

from fetch.http.answers import Answer, Page, Request
from fetch.http.application import Application
from fetch.http.pages import version


async def ask(
    path: str, method: str = "GET", query: bytes = b"", pages: dict[str, Page] | None = None
) -> tuple[int, dict[str, str], bytes]:
    """(status, headers, body) of what is answered."""
    application = Application(pages or {"/version": version("3.7.3", "3.7.0")}, cross_origin=True)
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    async def receive() -> Any:
        return {"type": "http.request", "body": b"", "more_body": False}

    scope = {
        "type": "http",
        "method": method,
        "path": path,
        "query_string": query,
        "headers": [],
        "extensions": {},
    }
    await application(scope, receive, send)
    start, *body = sent
    headers = {name.decode(): value.decode() for name, value in start["headers"]}
    return start["status"], headers, b"".join(part["body"] for part in body)


async def test_the_version_is_told_as_etcd_tells_it() -> None:
    status, headers, body = await ask("/version")
    assert (status, headers["content-type"]) == (200, "application/json")
    assert body == b'{"etcdserver":"3.7.3","etcdcluster":"3.7.0","storage":"3.7.0"}'


@pytest.mark.parametrize("method", ["POST", "PUT", "BREW"])
async def test_the_version_is_asked_with_get_alone(method: str) -> None:
    status, headers, body = await ask("/version", method)
    assert (status, headers["allow"], body) == (405, "GET", b"Method Not Allowed\n")


async def test_a_head_comes_without_what_it_tells_of() -> None:
    status, headers, body = await ask("/version", "HEAD")
    assert (status, headers["content-length"], body) == (405, "19", b"")


async def test_an_unknown_path_is_not_found() -> None:
    status, headers, body = await ask("/foo")
    assert (status, headers["x-content-type-options"], body) == (404, "nosniff", b"404 page not found\n")


@pytest.mark.parametrize("path", ["//version", "/./version", "/../version", "/a/../version"])
async def test_a_path_that_is_not_in_its_normal_form_is_redirected(path: str) -> None:
    status, headers, body = await ask(path, query=b"a=1")
    assert (status, headers["location"]) == (307, "/version?a=1")
    assert body == b'<a href="/version?a=1">Temporary Redirect</a>.\n\n'


async def test_a_redirection_cannot_leave_the_server() -> None:
    _, headers, _ = await ask("//elsewhere.example/x")
    assert headers["location"] == "/elsewhere.example/x"


async def test_a_redirection_cannot_smuggle_headers() -> None:
    _, headers, _ = await ask("//a\r\nSet-Cookie: b")
    assert headers["location"] == "/a%0D%0ASet-Cookie:%20b"


async def test_pages_of_other_origins_may_ask() -> None:
    status, headers, body = await ask("/foo", "OPTIONS")
    assert (status, headers["access-control-allow-origin"], body) == (200, "*", b"")


async def test_a_page_that_fails_says_nothing_of_why(caplog: pytest.LogCaptureFixture) -> None:
    async def fails(_: Request) -> Answer:
        raise RuntimeError("a secret")

    status, _, body = await ask("/x", pages={"/x": fails})
    assert (status, body) == (500, b"Internal Server Error\n")
    assert "a secret" in caplog.text

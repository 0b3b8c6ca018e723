"""Plain HTTP beside gRPC on one port: what applications are asked, and what their clients read."""

import asyncio
import contextlib
import shutil
import socket
import ssl
import threading
from typing import Any

import grpc
import pytest
from certificates import Authority, Identity, context_of
from conftest import BOUND, path
from plain import Receive, Send, answer, body_of, client_to, once, serving
from test_wire import framed, wire_to

import fetch_transport

Scope = dict[str, Any]


async def length(scope: Scope, receive: Receive, send: Send) -> None:
    """Answers with the length of what it was sent."""
    await answer(send, b"%d" % len(await body_of(receive)))


async def where(scope: Scope, receive: Receive, send: Send) -> None:
    """Answers with the path that it was asked for."""
    await body_of(receive)
    await answer(send, scope["path"].encode())


async def mirror(scope: Scope, receive: Receive, send: Send) -> None:
    """Sends each part of a body back as it comes."""
    await send({"type": "http.response.start", "status": 200, "headers": []})
    more = True
    while more:
        message = await receive()
        more = message["more_body"]
        await send({"type": "http.response.body", "body": message["body"], "more_body": more})


async def test_a_request_is_described_as_asgi_has_it() -> None:
    scopes = []

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        scopes.append(scope)
        await answer(send, b"x", 201, [(b"X-Own", b"1")])

    async with serving(application) as served, client_to(served.port) as client:
        await client.ask("POST", "/a%20b/%C3%A9?c=d%20", b"", "X-Twice: 1", "x-twice: 2")
        response = await client.response()
        address = client.writer.get_extra_info("sockname")
    assert (response.status, response.headers["x-own"], response.body) == (201, "1", b"x")
    assert "date" in response.headers
    (scope,) = scopes
    assert scope["asgi"]["version"] == "3.0"
    del scope["asgi"]
    assert scope == {
        "type": "http",
        "http_version": "1.1",
        "method": "POST",
        "scheme": "http",
        "path": "/a b/é",
        "raw_path": b"/a%20b/%C3%A9",
        "query_string": b"c=d%20",
        "root_path": "",
        "headers": [(b"host", b"test"), (b"content-length", b"0"), (b"x-twice", b"1"), (b"x-twice", b"2")],
        "client": address,
        "server": ("127.0.0.1", served.port),
        "extensions": {},
    }


async def test_http_2_that_is_not_grpc_reaches_the_application_on_the_connection_that_grpc_is_on() -> None:
    scopes = []

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        scopes.append(scope)
        assert await body_of(receive) == b"abc"
        await answer(send, b"x", 418)

    async with serving(application) as served, wire_to(served.port) as wire:
        plain = wire.begin("Echo", kind="application/json")
        wire.http.send_data(plain, b"abc", end_stream=True)
        await wire.flush()
        headers = await wire.end_of(plain)
        assert (headers[":status"], headers["content-length"]) == ("418", "1")
        assert "date" in headers
        call = wire.begin("Echo")
        wire.http.send_data(call, framed(b"x"), end_stream=True)
        await wire.flush()
        assert (await wire.end_of(call))["grpc-status"] == "0"
    assert scopes[0]["http_version"] == "2"
    assert (b"host", b"test") in scopes[0]["headers"]


@pytest.mark.parametrize(("kind", "status"), [("application/grpcx", "415"), ("application/grpc-web", "415")])
async def test_what_says_that_it_is_grpc_never_reaches_the_application(kind: str, status: str) -> None:
    async with serving(length) as served, wire_to(served.port) as wire:
        stream = wire.begin("Echo", kind=kind)
        wire.http.end_stream(stream)
        await wire.flush()
        assert (await wire.end_of(stream))[":status"] == status


async def test_a_connection_serves_requests_one_after_the_other() -> None:
    async with serving(where) as served, client_to(served.port) as client:
        for asked in ("/1", "/2", "/3"):
            await client.ask(path=asked)
            assert (await client.response()).body == asked.encode()


async def test_requests_that_come_together_are_answered_in_their_order() -> None:
    async with serving(where) as served, client_to(served.port) as client:
        await client.send(
            *[b"POST /%d HTTP/1.1\r\nhost: t\r\ncontent-length: 2\r\n\r\nab" % each for each in range(50)]
        )
        assert [(await client.response()).body for _ in range(50)] == [b"/%d" % each for each in range(50)]


async def test_a_client_of_http_1_0_is_answered_and_left() -> None:
    async with serving(where) as served, client_to(served.port) as client:
        await client.send(b"GET /old HTTP/1.0\r\n\r\n")
        assert (await client.response()).body == b"/old"
        assert await client.is_closed()


@pytest.mark.parametrize("size", [0, 1, 16_384, 70_000, 3_000_000])
async def test_bodies_of_any_length_arrive_whole(size: int) -> None:
    async with serving(length) as served, client_to(served.port) as client:
        await client.ask("POST", "/", b"x" * size)
        assert (await client.response()).body == b"%d" % size


async def test_a_body_in_chunks_arrives_whole_without_its_trailers() -> None:
    async with serving(length) as served, client_to(served.port) as client:
        await client.send(b"POST / HTTP/1.1\r\nhost: t\r\ntransfer-encoding: chunked\r\ntrailer: a\r\n\r\n")
        await client.send(b"3\r\nabc\r\n", b"1;extension\r\nd\r\n", b"0\r\na: b\r\n\r\n")
        assert (await client.response()).body == b"4"
        await client.ask()
        assert (await client.response()).body == b"0"


@pytest.mark.parametrize("size", [0, 1, 16_384, 16_385, 5_000_000])
async def test_a_response_whose_length_is_known_has_it(size: int) -> None:
    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        await answer(send, b"x" * size)

    async with serving(application) as served, client_to(served.port) as client:
        for _ in range(2):
            await client.ask()
            response = await client.response()
            assert response.headers["content-length"] == str(size)
            assert response.body == b"x" * size


async def test_parts_go_both_ways_as_they_come() -> None:
    async with serving(mirror) as served, client_to(served.port) as client:
        await client.send(b"POST / HTTP/1.1\r\nhost: t\r\ntransfer-encoding: chunked\r\n\r\n")
        assert (await client.head()).headers["transfer-encoding"] == "chunked"
        for part in (b"abc", b"d" * 10_000):
            await client.send(b"%x\r\n" % len(part), part, b"\r\n")
            assert await client.part() == part
        await client.send(b"0\r\n\r\n")
        assert await client.part() == b""


async def test_parts_go_both_ways_over_http_2() -> None:
    async with serving(mirror) as served, wire_to(served.port) as wire:
        stream = wire.begin("Mirror", kind="application/json")
        for part in (b"abc", b"defg"):
            wire.http.send_data(stream, part)
            await wire.flush()
            event = await wire.receive(lambda event: type(event).__name__ == "DataReceived")
            assert event.data == part
        wire.http.end_stream(stream)
        await wire.flush()
        assert (await wire.end_of(stream)) == {}


async def test_a_head_goes_out_while_its_application_waits() -> None:
    release = asyncio.Event()

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await once(release)
        await send({"type": "http.response.body", "body": b"x"})

    async with serving(application) as served, client_to(served.port) as client:
        await client.ask()
        assert (await client.head()).status == 200
        release.set()
        assert await client.part() == b"x"


@pytest.mark.parametrize("parts", [[b"abc"], [b"a", b"bc"]])
async def test_a_head_alone_is_what_is_asked_for_by_head(parts: list[bytes]) -> None:
    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"3")]})
        for part in parts:
            await send({"type": "http.response.body", "body": part, "more_body": part is not parts[-1]})

    async with serving(application) as served, client_to(served.port) as client:
        for _ in range(2):
            await client.ask("HEAD")
            assert (await client.response("HEAD")).headers["content-length"] == "3"


async def test_a_status_without_body_has_none() -> None:
    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        await answer(send, b"", 204)

    async with serving(application) as served, client_to(served.port) as client:
        for _ in range(2):
            await client.ask()
            assert "content-length" not in (await client.response()).headers


async def test_a_client_that_waits_is_told_to_go_on_when_its_body_is_wanted() -> None:
    begun, wanted = asyncio.Event(), asyncio.Event()

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        begun.set()
        await once(wanted)
        await length(scope, receive, send)

    async with serving(application) as served, client_to(served.port) as client:
        await client.send(b"POST / HTTP/1.1\r\nhost: t\r\ncontent-length: 3\r\nexpect: 100-continue\r\n\r\n")
        await once(begun)
        reading = asyncio.ensure_future(client.head())
        wanted.set()
        assert (await reading).status == 100
        await client.send(b"abc")
        assert (await client.response()).body == b"3"


async def test_a_client_that_waits_is_spared_a_body_that_nobody_wants() -> None:
    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        await answer(send, b"", 413)

    async with serving(application) as served, client_to(served.port) as client:
        await client.send(b"POST / HTTP/1.1\r\nhost: t\r\ncontent-length: 3\r\nexpect: 100-continue\r\n\r\n")
        assert (await client.head()).status == 413


async def test_an_answer_that_comes_before_its_request_is_whole_is_read() -> None:
    """A connection that is closed with something unread is reset, and what its client has not read is dropped."""
    answered = threading.Event()

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        await answer(send, b"no", 413)
        answered.set()

    def converse(port: int) -> bytes:
        with socket.create_connection(("127.0.0.1", port), timeout=BOUND) as client:
            client.sendall(b"POST / HTTP/1.1\r\nhost: t\r\ncontent-length: 700000\r\n\r\n" + bytes(100_000))
            answered.wait(BOUND)
            # what shows that the answer is here, and leaves it where a reset finds it
            assert client.recv(1, socket.MSG_PEEK)
            with contextlib.suppress(ConnectionError):
                for _ in range(6):
                    client.sendall(bytes(100_000))
            return b"".join(iter(lambda: client.recv(65536), b""))

    async with serving(application) as served:
        said = await asyncio.to_thread(converse, served.port)
    assert said.startswith(b"HTTP/1.1 413")
    assert said.endswith(b"no")


async def test_an_application_that_is_called_many_times_at_once_answers_each_its_own() -> None:
    async with serving(where) as served:

        async def ask(number: int) -> bytes:
            async with client_to(served.port) as client:
                await client.ask(path=f"/{number}")
                return (await client.response()).body

        assert await asyncio.gather(*[ask(number) for number in range(100)]) == [b"/%d" % each for each in range(100)]


# TLS


@pytest.fixture
def credentials(authority: Authority, server_identity: Identity) -> fetch_transport.ServerCredentials:
    """What clients need a certificate for."""
    pair = (server_identity.key, server_identity.certificate)
    return fetch_transport.ssl_server_credentials([pair], authority.pem, True)


@pytest.mark.parametrize("protocols", [None, ["http/1.1"]])
@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
async def test_tls_without_http_2_is_http_1_1(
    authority: Authority,
    credentials: fetch_transport.ServerCredentials,
    tmp_path: Any,
    protocols: list[str] | None,
    version: ssl.TLSVersion,
) -> None:
    scopes = []

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        scopes.append(scope)
        await answer(send, b"x")

    identity = authority.client("alpha")
    context = context_of(authority, identity, tmp_path, protocols)
    context.minimum_version = context.maximum_version = version
    async with serving(application, credentials=credentials) as served, client_to(served.port, context) as client:
        for _ in range(2):
            await client.ask()
            assert (await client.response()).body == b"x"
        suite = client.writer.get_extra_info("ssl_object").cipher()[0]
    first, second = scopes
    assert first["scheme"] == "https"
    tls = first["extensions"]["tls"]
    assert tls is not second["extensions"]["tls"]
    assert tls == second["extensions"]["tls"]
    numbers = {cipher["name"]: cipher["id"] & 0xFFFF for cipher in context.get_ciphers()}
    # some clients send what has signed it, too
    assert tls.pop("client_cert_chain")[0] == identity.certificate.decode()
    assert tls == {
        "server_cert": None,
        "client_cert_name": "CN=alpha",
        "client_cert_error": None,
        "tls_version": int(version),
        "cipher_suite": numbers[suite],
    }


async def test_grpc_and_http_share_a_secure_port(
    authority: Authority, credentials: fetch_transport.ServerCredentials, tmp_path: Any
) -> None:
    identity = authority.client("alpha")
    async with serving(where, credentials=credentials) as served:
        channel = grpc.ssl_channel_credentials(authority.pem, identity.key, identity.certificate)
        async with grpc.aio.secure_channel(f"127.0.0.1:{served.port}", channel) as to:
            assert await to.unary_unary(path("Echo"))(b"x", timeout=BOUND) == b"x"
        async with client_to(served.port, context_of(authority, identity, tmp_path, None)) as client:
            await client.ask(path="/x")
            assert (await client.response()).body == b"/x"


async def test_a_client_without_certificate_gets_no_answer(
    authority: Authority, credentials: fetch_transport.ServerCredentials
) -> None:
    context = ssl.create_default_context(cadata=authority.pem.decode())
    async with serving(where, credentials=credentials) as served:

        async def ask() -> None:
            async with client_to(served.port, context) as client:
                await client.ask()
                await client.response()

        with pytest.raises((ssl.SSLError, ConnectionError, asyncio.IncompleteReadError)):
            await ask()


# Ports


async def test_a_port_for_http_alone_gives_the_application_what_says_that_it_is_grpc() -> None:
    async with serving(where, only_http=True) as served:
        async with wire_to(served.port) as wire:
            stream = wire.begin("Echo")
            wire.http.end_stream(stream)
            await wire.flush()
            headers = await wire.end_of(stream)
            assert headers[":status"] == "200"
            assert "grpc-status" not in headers
        async with client_to(served.port) as client:
            await client.ask(path="/x")
            assert (await client.response()).body == b"/x"


async def test_a_port_for_http_alone_needs_an_application() -> None:
    server = fetch_transport.server()
    server.add_http_port("127.0.0.1:0")
    with pytest.raises(grpc.aio.UsageError):
        await server.start()


async def test_without_an_application_http_1_1_is_not_spoken() -> None:
    async with serving(None) as served, client_to(served.port) as client:
        await client.ask()
        # what HTTP/2 says to those who do not speak it, if that
        with contextlib.suppress(ConnectionError):
            assert not (await asyncio.wait_for(client.reader.read(), BOUND)).startswith(b"HTTP/1.1")


@pytest.mark.skipif(shutil.which("curl") is None, reason="there is no curl")
@pytest.mark.parametrize("version", ["--http1.1", "--http2", "--http2-prior-knowledge"])
async def test_curl_is_served(version: str) -> None:
    async with serving(length) as served:
        command = ("curl", "-sS", version, "--data-binary", "@-", f"http://127.0.0.1:{served.port}/")
        curl = await asyncio.create_subprocess_exec(
            *command, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
        )
        said, _ = await asyncio.wait_for(curl.communicate(b"x" * 2_000_000), BOUND)
    assert (said, curl.returncode) == (b"2000000", 0)

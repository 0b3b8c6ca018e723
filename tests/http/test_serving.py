"""The server of HTTP: what well-behaved clients get, and what others can take."""

import asyncio
import contextlib
import ssl
from pathlib import Path
from typing import Any

import pytest
from h2.events import ConnectionTerminated, ResponseReceived, StreamReset

from fetch.http import pace
from fetch.http.asgi import Receive, Scope, Send, certificate_of
from fetch.http.serving import http1, http2, listener
from fetch.http.serving.listener import PROTOCOLS, Listener
from fetch.tls import certificates
from fetch.tls.contexts import server_context
from tests.endpoints.process import free_port
from tests.http.serving import (
    SECONDS,
    Endless,
    Http2Client,
    answer,
    connect,
    converse,
    echo,
    heads,
    serving,
    statuses,
    whole,
)

MUCH = 8 << 20
"""More than the operating system keeps for a connection."""


# HTTP/1.1


async def test_a_connection_serves_request_after_request() -> None:
    async with serving(echo) as port:
        once = heads("POST / HTTP/1.1", "Host: a", "Content-Length: 2") + b"ab"
        last = heads("POST / HTTP/1.1", "Host: a", "Content-Length: 2", "Connection: close") + b"cd"
        answers = await converse(port, once * 3 + last)
    assert statuses(answers) == [200] * 4
    assert answers.count(b"\r\n\r\nab") == 3
    assert answers.endswith(b"\r\n\r\ncd")


async def test_a_client_that_waits_to_be_told_is_told_to_continue() -> None:
    async with serving(echo) as port:
        reader, writer = await connect(port)
        writer.write(heads("POST / HTTP/1.1", "Host: a", "Content-Length: 2", "Expect: 100-continue"))
        assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 100")
        writer.write(b"ab")
        assert (await reader.readuntil(b"ab")).startswith(b"HTTP/1.1 200")
        writer.close()


async def test_a_chunked_request_is_read() -> None:
    async with serving(echo) as port:
        asked = heads("POST / HTTP/1.1", "Host: a", "Transfer-Encoding: chunked", "Connection: close")
        assert (await converse(port, asked + b"1\r\na\r\n2\r\nbc\r\n0\r\n\r\n")).endswith(b"\r\n\r\nabc")


async def test_a_client_of_http_1_0_is_served() -> None:
    async with serving(echo) as port:
        assert statuses(await converse(port, heads("GET / HTTP/1.0"))) == [200]


@pytest.mark.parametrize(
    ("said", "status"),
    [
        (b"nonsense\r\n\r\n", 400),
        (heads("GET / HTTP/1.1"), 400),  # without a host
        (heads("GET / HTTP/1.1", "Host: a", "Content-Length: -1"), 400),
        (heads("POST / HTTP/1.1", "Host: a", "Content-Length: 1", "Content-Length: 2"), 400),
        (heads("GET / HTTP/1.1", "Host: a", "X: " + "x" * 100_000), 431),
        (b"GET /" + b"x" * 100_000, 431),
    ],
)
async def test_what_is_no_request_is_refused(said: bytes, status: int) -> None:
    async with serving(echo) as port:
        assert statuses(await converse(port, said)) == [status]


async def test_a_head_that_does_not_end_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http1, "HEAD_SECONDS", 0.1)
    async with serving(echo) as port:
        assert await converse(port, b"GET / HTTP/1.1\r\nHost: a\r\n") == b""


async def test_a_head_that_trickles_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http1, "HEAD_SECONDS", 0.3)
    async with serving(echo) as port:
        reader, writer = await connect(port)
        closed = asyncio.create_task(reader.read())
        writer.write(b"GET / HTTP/1.1\r\n")
        while not closed.done():
            with contextlib.suppress(ConnectionError):
                writer.write(b"X: y\r\n")
                await asyncio.wait([closed], timeout=0.05)
        assert closed.done()


async def test_a_connection_on_which_nothing_is_asked_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (http1, listener):
        monkeypatch.setattr(module, "IDLE_SECONDS", 0.1)
    async with serving(echo) as port:
        assert await converse(port, b"") == b""
        answered = await converse(port, heads("GET / HTTP/1.1", "Host: a"))
    assert statuses(answered) == [200]


async def test_an_answer_before_the_request_is_whole_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    async def refuse(_: Scope, __: Receive, send: Send) -> None:
        await answer(send, b"no", 413)

    async with serving(refuse) as port:
        asked = heads("POST / HTTP/1.1", "Host: a", "Content-Length: 500000")
        answered = await converse(port, asked + b"x" * 500_000)
    assert statuses(answered) == [413]
    assert b"connection: close" in answered
    assert answered.endswith(b"no")


async def test_a_client_that_goes_is_heard_of() -> None:
    endless = Endless()
    async with serving(endless) as port:
        _, writer = await connect(port)
        writer.write(heads("GET / HTTP/1.1", "Host: a"))
        writer.close()
        async with asyncio.timeout(SECONDS):
            await endless.gone.wait()


async def test_a_client_that_goes_in_the_middle_of_a_request_is_heard_of() -> None:
    heard: asyncio.Future[Any] = asyncio.get_running_loop().create_future()

    async def application(_: Scope, receive: Receive, __: Send) -> None:
        try:
            heard.set_result(await whole(receive))
        except ConnectionError as error:
            heard.set_result(error)

    async with serving(application) as port:
        _, writer = await connect(port)
        writer.write(heads("POST / HTTP/1.1", "Host: a", "Content-Length: 10") + b"abc")
        writer.close()
        async with asyncio.timeout(SECONDS):
            assert isinstance(await heard, ConnectionError)


async def test_what_is_sent_behind_a_request_that_is_being_answered_is_bounded() -> None:
    endless = Endless()
    async with serving(endless) as port:
        reader, writer = await connect(port)
        writer.write(heads("GET / HTTP/1.1", "Host: a") + b"x" * 1_000_000)
        reading = asyncio.create_task(reader.read())  # it is not for want of a reader that it is given up
        async with asyncio.timeout(SECONDS):
            await endless.gone.wait()
        writer.close()
        reading.cancel()


# HTTP/2


async def test_requests_of_a_connection_are_answered_side_by_side() -> None:
    async with serving(echo) as port, Http2Client.to(port) as client:
        slow, fast = client.ask(), client.ask(end=True)
        await client.flush()
        assert await client.answered(fast) == (200, b"")
        await client.send(slow, b"abc", end=True)
        assert await client.answered(slow) == (200, b"abc")


async def test_what_is_large_goes_both_ways() -> None:
    async with serving(echo) as port, Http2Client.to(port) as client:
        stream = client.ask()
        await client.send(stream, b"x" * 1_000_000, end=True)
        assert await client.answered(stream) == (200, b"x" * 1_000_000)


async def test_a_request_that_is_not_taken_stays_with_its_client() -> None:
    reached, done = asyncio.Event(), asyncio.Event()

    async def idle(_: Scope, __: Receive, send: Send) -> None:
        reached.set()
        await done.wait()
        await answer(send, b"")

    async with serving(idle) as port, Http2Client.to(port) as client:
        stream = client.ask()
        while (room := client.http.local_flow_control_window(stream)) > 0:
            client.http.send_data(stream, b"x" * min(room, 16384))
        await client.flush()
        await reached.wait()
        other = client.ask(end=True)  # its answer comes after all that the server would say of the first
        await client.flush()
        done.set()
        await client.answered(other)
        assert client.http.local_flow_control_window(stream) < 10


async def test_a_client_that_gives_a_request_up_is_heard_of() -> None:
    endless = Endless()
    async with serving(endless) as port, Http2Client.to(port) as client:
        stream = client.ask(end=True)
        await client.flush()
        await client.next(ResponseReceived)
        client.http.reset_stream(stream)
        await client.flush()
        async with asyncio.timeout(SECONDS):
            await endless.gone.wait()


async def test_a_client_that_gives_up_request_after_request_is_cut_off() -> None:
    async with serving(Endless()) as port, Http2Client.to(port) as client:
        with pytest.raises(ConnectionError):  # noqa: PT012
            for _ in range(10_000):
                client.http.reset_stream(client.ask(end=True))
                await client.flush()
            await client.next(StreamReset)


async def test_more_requests_at_once_than_are_allowed_end_the_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    async with serving(Endless()) as port, Http2Client.to(port) as client:
        client.http.remote_settings.update({3: 1000})  # what a client may believe
        for _ in range(http2.STREAMS + 50):
            client.ask(end=True)
        await client.flush()
        terminated = await client.next(ConnectionTerminated)
        assert isinstance(terminated, ConnectionTerminated)


@pytest.mark.parametrize(
    "frames",
    [
        b"\x00\x00\x00\x00\x00\x00\x00\x00\x01" * 20_000,  # empty data of a stream
        b"\x00\x00\x08\x06\x00\x00\x00\x00\x00pingpong" * 20_000,
        b"\x00\x00\x04\x08\x00\x00\x00\x00\x00\x00\x00\x00\x01" * 20_000,  # windows that open a little
        b"\x00\x00\x06\x04\x00\x00\x00\x00\x00\x00\x04\x00\x00\x00\x01" * 20_000,  # settings
    ],
    ids=["data", "ping", "window", "settings"],
)
async def test_many_small_frames_do_not_keep_others_waiting(frames: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pace, "_TURN_SECONDS", 0.0)  # all work is long then, and the slices are what counts
    turns = 0

    async def count() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    async with serving(echo) as port, Http2Client.to(port) as client:
        client.ask()
        await client.flush()
        counting = asyncio.create_task(count())
        client.writer.write(frames)
        stream = client.ask(end=True)
        await client.flush()
        with contextlib.suppress(ConnectionError):  # some are so many that the connection is ended
            await client.answered(stream)
        counting.cancel()
    assert turns > len(frames) / 600


# both


@pytest.mark.parametrize("version", [1, 2])
async def test_an_answer_that_is_not_read_waits(version: int) -> None:
    endless = Endless()
    async with serving(endless) as port, contextlib.AsyncExitStack() as stack:
        if version == 2:
            client = await stack.enter_async_context(Http2Client.to(port))
            client.ask(end=True)
            await client.flush()
        else:
            _, writer = await connect(port)
            writer.write(heads("GET / HTTP/1.1", "Host: a"))
        before = -1
        while before != endless.sent or not before:
            before = endless.sent
            for _ in range(1000):  # rounds of the loop in which it could have gone on
                await asyncio.sleep(0)
        assert 0 < endless.sent < MUCH


async def test_connections_of_one_client_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listener, "CONNECTIONS_OF_A_CLIENT", 2)
    async with serving(echo) as port:
        asked = heads("GET / HTTP/1.1", "Host: a")
        open_ones = [await connect(port) for _ in range(2)]
        for reader, writer in open_ones:
            writer.write(asked)
            await reader.readuntil(b"\r\n\r\n")
        assert await converse(port, asked) == b""
        open_ones[0][1].close()
        await open_ones[0][1].wait_closed()
        answered = b""
        while not answered:  # once the server has heard of it
            answered = await converse(port, heads("GET / HTTP/1.1", "Host: a", "Connection: close"))
        assert statuses(answered) == [200]
        open_ones[1][1].close()


@pytest.mark.parametrize("protocol", PROTOCOLS)
async def test_the_application_is_told_the_clients_certificate(tmp_path: Path, protocol: str) -> None:
    async def tell(scope: Scope, _: Receive, send: Send) -> None:
        await answer(send, (certificate_of(scope) or "").encode())

    authority = certificates.authority("tests")
    certificates.issue(authority, "server", server=True, names=certificates.loopback_names()).write(tmp_path, "server")
    alpha = certificates.issue(authority, "alpha")
    alpha.write(tmp_path, "alpha")
    authority.write(tmp_path, "ca")
    files = [str(tmp_path / name) for name in ("server.crt", "server.key", "ca.crt")]
    port = free_port()
    served = Listener(tell)
    await served.start(f"https://127.0.0.1:{port}", server_context(files[0], files[1], files[2], PROTOCOLS))
    process = await asyncio.create_subprocess_exec(
        "curl",
        "-s",
        "--http2" if protocol == "h2" else "--http1.1",
        *("--cacert", files[2], "--cert", tmp_path / "alpha.crt", "--key", tmp_path / "alpha.key"),
        *("-w", "%{http_version}", f"https://127.0.0.1:{port}/"),
        stdout=asyncio.subprocess.PIPE,
    )
    printed, _ = await process.communicate()
    assert printed == alpha.certificate_pem + (b"2" if protocol == "h2" else b"1.1")
    context = ssl.create_default_context(cafile=files[2])
    with pytest.raises((ssl.SSLError, ConnectionError)):  # noqa: PT012  TLS 1.3 tells of it behind the handshake
        reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context)
        writer.write(heads("GET / HTTP/1.1", "Host: a"))
        assert not await reader.read()
        raise ConnectionError
    await served.stop()


@pytest.mark.parametrize("version", [1, 2])
async def test_what_is_being_answered_when_the_server_stops_is_answered(version: int) -> None:
    reached, go_on = asyncio.Event(), asyncio.Event()

    async def slow(_: Scope, __: Receive, send: Send) -> None:
        reached.set()
        await go_on.wait()
        await answer(send, b"done")

    port = free_port()
    served = Listener(slow)
    await served.start(f"http://127.0.0.1:{port}")
    async with contextlib.AsyncExitStack() as stack:
        if version == 2:
            client = await stack.enter_async_context(Http2Client.to(port))
            stream = client.ask(end=True)
            await client.flush()
            answering = asyncio.create_task(client.answered(stream))
        else:
            answering = asyncio.create_task(converse(port, heads("GET / HTTP/1.1", "Host: a")))  # type: ignore[arg-type]
        await reached.wait()
        stopping = asyncio.create_task(served.stop(SECONDS))
        await asyncio.sleep(0)
        go_on.set()
        assert b"done" in (await answering)[-5:]
        await stopping


async def test_idle_connections_do_not_keep_the_server_from_stopping() -> None:
    port = free_port()
    served = Listener(echo)
    await served.start(f"http://127.0.0.1:{port}")
    reader, writer = await connect(port)
    writer.write(heads("GET / HTTP/1.1", "Host: a"))
    await reader.readuntil(b"\r\n\r\n")
    async with asyncio.timeout(SECONDS / 2):
        await served.stop(SECONDS)
    writer.close()

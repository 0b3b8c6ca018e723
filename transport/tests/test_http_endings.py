"""Plain HTTP from clients that are slow, hostile or gone, from applications that fail, and while a server stops."""

import asyncio
import logging
from typing import Any

import h2.errors
import h2.events
import pytest
from conftest import BOUND
from plain import Client, Receive, Send, Served, answer, body_of, client_to, once, serving
from test_wire import wire_to

Scope = dict[str, Any]
MIB = 1 << 20


async def length(scope: Scope, receive: Receive, send: Send) -> None:
    await answer(send, b"%d" % len(await body_of(receive)))


async def still_serves(served: Served) -> None:
    async with client_to(served.port) as client:
        await client.ask()
        assert (await client.response()).body == b"0"


class Waiting:
    """An application that sends one part and waits for ever after, and what it has seen."""

    def __init__(self) -> None:
        self.begun, self.cancelled = asyncio.Event(), asyncio.Event()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"x", "more_body": True})
        self.begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            self.cancelled.set()


# Clients that go


async def test_an_application_is_cancelled_when_its_client_goes() -> None:
    application = Waiting()
    async with serving(application) as served:
        async with client_to(served.port) as client:
            await client.ask()
            await client.head()
            await once(application.begun)
        await once(application.cancelled)


async def test_an_application_is_cancelled_when_its_stream_is_reset() -> None:
    application = Waiting()
    async with serving(application) as served, wire_to(served.port) as wire:
        stream = wire.begin("Wait", kind="application/json")
        wire.http.end_stream(stream)
        await wire.flush()
        await once(application.begun)
        wire.http.reset_stream(stream)
        await wire.flush()
        await once(application.cancelled)


async def test_an_application_is_cancelled_when_its_client_goes_amid_its_request() -> None:
    begun, cancelled = asyncio.Event(), asyncio.Event()

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        begun.set()
        try:
            await body_of(receive)
        except asyncio.CancelledError:
            cancelled.set()
            raise

    async with serving(application) as served:
        async with client_to(served.port) as client:
            await client.send(b"POST / HTTP/1.1\r\nhost: t\r\ncontent-length: 10\r\n\r\nabc")
            await once(begun)
        await once(cancelled)


async def test_who_receives_and_is_shielded_hears_that_its_client_has_gone() -> None:
    begun, heard = asyncio.Event(), asyncio.Event()
    listening = set()

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        await body_of(receive)

        async def listen() -> None:
            if (await receive())["type"] == "http.disconnect":
                with pytest.raises(OSError, match="gone"):
                    await answer(send)
                heard.set()

        listening.add(asyncio.ensure_future(listen()))
        begun.set()
        await asyncio.Event().wait()

    async with serving(application) as served:
        async with client_to(served.port) as client:
            await client.ask()
            await once(begun)
        await once(heard)


async def test_who_receives_when_the_response_is_complete_hears_that_nothing_more_comes() -> None:
    heard = asyncio.Event()

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        await answer(send)
        assert (await receive())["type"] == "http.disconnect"
        heard.set()

    async with serving(application) as served, client_to(served.port) as client:
        await client.ask()
        await client.response()
        await once(heard)


async def test_an_application_may_answer_before_it_has_read_everything() -> None:
    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        await answer(send, b"no", 413)

    async with serving(application) as served, client_to(served.port) as client:
        await client.send(b"POST / HTTP/1.1\r\nhost: t\r\ncontent-length: 100000000\r\n\r\n", b"x" * 100_000)
        assert (await client.response()).status == 413
        assert await client.is_closed()


async def test_a_client_of_http_2_that_is_answered_early_may_end_its_request() -> None:
    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        await answer(send, b"no", 404)

    async with serving(application) as served, wire_to(served.port) as wire:
        stream = wire.begin("Early", kind="application/json")
        await wire.flush()
        assert (await wire.end_of(stream))[":status"] == "404"
        wire.http.send_data(stream, b"{}", end_stream=True)
        wire.http.ping(b"12345678")
        await wire.flush()
        # before the answer to what was sent behind it, no reset
        kinds = (h2.events.StreamReset, h2.events.PingAckReceived)
        assert isinstance(await wire.receive(lambda event: isinstance(event, kinds)), h2.events.PingAckReceived)


async def test_what_an_application_does_after_its_response_is_its_own() -> None:
    release, done = asyncio.Event(), asyncio.Event()

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        await answer(send)
        if scope["path"] == "/first":
            await once(release)
            done.set()

    async with serving(application) as served:
        async with client_to(served.port) as client:
            await client.ask(path="/first")
            assert (await client.response()).status == 200
            await client.ask(path="/second")
            assert (await client.response()).status == 200
        release.set()
        await once(done)


# Applications that fail


async def fails_at_once(scope: Scope, receive: Receive, send: Send) -> None:
    raise ZeroDivisionError("a secret")


async def fails_before_its_body(scope: Scope, receive: Receive, send: Send) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": []})
    raise ZeroDivisionError("a secret")


async def sends_what_no_header_is(scope: Scope, receive: Receive, send: Send) -> None:
    await answer(send, b"", 200, [(b"a", b"b\r\nc: d")])


async def sends_no_status(scope: Scope, receive: Receive, send: Send) -> None:
    await answer(send, b"", 101)


async def sends_too_much(scope: Scope, receive: Receive, send: Send) -> None:
    await answer(send, b"abc", 200, [(b"content-length", b"2")])


async def sends_out_of_turn(scope: Scope, receive: Receive, send: Send) -> None:
    await send({"type": "http.response.body", "body": b"x"})


FAILING = [
    fails_at_once,
    fails_before_its_body,
    sends_what_no_header_is,
    sends_no_status,
    sends_too_much,
    sends_out_of_turn,
]


@pytest.mark.parametrize("application", FAILING)
async def test_an_application_that_fails_is_an_internal_error_that_the_log_has(
    application: Any, caplog: pytest.LogCaptureFixture
) -> None:
    async with serving(application) as served, client_to(served.port) as client:
        await client.ask("GET", "/where")
        response = await client.response()
        await client.ask("GET", "/where")
        assert (await client.response()).status == 500
    assert response.status == 500
    name, _, identity = response.body.decode().strip().rpartition(" ")
    assert name == "Internal error"
    assert identity in caplog.text
    assert "GET /where" in caplog.text


async def test_an_application_that_does_not_answer_is_an_internal_error(caplog: pytest.LogCaptureFixture) -> None:
    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        return

    async with serving(application) as served, client_to(served.port) as client:
        await client.ask()
        assert (await client.response()).status == 500
    assert "has not ended its response" in caplog.text


async def fails_amid(scope: Scope, receive: Receive, send: Send) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"x", "more_body": True})
    raise ZeroDivisionError


async def ends_amid(scope: Scope, receive: Receive, send: Send) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"x", "more_body": True})


async def sends_too_little(scope: Scope, receive: Receive, send: Send) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
    await send({"type": "http.response.body", "body": b"x", "more_body": True})
    await send({"type": "http.response.body", "body": b""})


@pytest.mark.parametrize("application", [fails_amid, ends_amid, sends_too_little])
async def test_a_response_that_is_not_whole_does_not_look_so(application: Any) -> None:
    async with serving(application) as served:
        async with client_to(served.port) as client:
            await client.ask()
            with pytest.raises((asyncio.IncompleteReadError, ConnectionError)):
                await client.response()
        async with wire_to(served.port) as wire:
            stream = wire.begin("Fail", kind="application/json")
            wire.http.end_stream(stream)
            await wire.flush()
            reset = await wire.receive(lambda event: isinstance(event, h2.events.StreamReset | h2.events.StreamEnded))
            assert reset.error_code is h2.errors.ErrorCodes.INTERNAL_ERROR


async def test_a_part_behind_the_length_that_was_told_is_an_error_to_the_application_alone() -> None:
    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"1")]})
        await send({"type": "http.response.body", "body": b"x", "more_body": True})
        raise ZeroDivisionError

    async with serving(application) as served, client_to(served.port) as client:
        for _ in range(2):
            await client.ask()
            assert (await client.response()).body == b"x"


# Clients that are slow


@pytest.mark.parametrize("version", ["1.1", "2"])
async def test_a_client_that_does_not_read_stops_the_writer(version: str) -> None:
    written, stopped, cancelled = 0, asyncio.Event(), asyncio.Event()

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        nonlocal written
        await send({"type": "http.response.start", "status": 200, "headers": []})
        try:
            while True:
                sending = asyncio.ensure_future(
                    send({"type": "http.response.body", "body": b"x" * 50_000, "more_body": True})
                )
                await asyncio.wait([sending], timeout=1)
                if not sending.done():
                    stopped.set()
                await sending
                written += 50_000
        finally:
            cancelled.set()

    async with serving(application) as served:
        if version == "2":
            async with wire_to(served.port) as wire:
                wire.http.end_stream(wire.begin("Write", kind="application/json"))
                await wire.flush()
                await once(stopped)
            assert written < MIB
        else:
            async with client_to(served.port) as client:
                await client.ask()
                await once(stopped)
                stopped.clear()
                before = written
                assert before < 32 * MIB
                while written == before:
                    await client.reader.read(MIB)
        await once(cancelled)


async def test_an_application_that_does_not_read_stops_its_client() -> None:
    release = asyncio.Event()

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        await once(release)
        await length(scope, receive, send)

    async with serving(application) as served, client_to(served.port) as client:
        client.writer.transport.set_write_buffer_limits(high=0)
        sending = asyncio.ensure_future(client.ask("POST", "/", b"x" * (32 * MIB)))
        await asyncio.wait([sending], timeout=1)
        assert not sending.done()
        release.set()
        await sending
        assert (await client.response()).body == b"%d" % (32 * MIB)


@pytest.mark.parametrize("sent", [b"", b"GET / HT", b"GET / HTTP/1.1\r\nhost: t\r\n", b"PRI * HTT"])
async def test_a_client_that_never_finishes_its_head_is_left(sent: bytes) -> None:
    options = [("fetch_transport.http_idle_timeout_ms", 300), ("grpc.server_handshake_timeout_ms", 300)]
    async with serving(length, options=options) as served, client_to(served.port) as client:
        await client.send(sent)
        left = await asyncio.wait_for(client.reader.read(), BOUND)
        assert left == b"" or left.startswith(b"HTTP/1.1 408")


async def test_a_client_that_asks_nothing_more_is_left() -> None:
    options = [("fetch_transport.http_idle_timeout_ms", 300)]
    async with serving(length, options=options) as served, client_to(served.port) as client:
        await client.ask()
        await client.response()
        assert await client.is_closed()


# Clients that are hostile

HOSTILE = {
    "garbage": (b"\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03", b"400"),
    "a head that is too long": (b"GET / HTTP/1.1\r\na: " + b"x" * 20_000, b"431"),
    "a path that is too long": (b"GET /" + b"x" * 20_000, b"4"),
    "too many headers": (b"GET / HTTP/1.1\r\n" + b"a: b\r\n" * 200 + b"\r\n", b"431"),
    "a header without a name": (b"GET / HTTP/1.1\r\n: b\r\n\r\n", b"400"),
    "a header that is folded": (b"GET / HTTP/1.1\r\na: b\r\n c\r\n\r\n", b"400"),
    "two lengths": (b"POST / HTTP/1.1\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\n", b"400"),
    "a length that is none": (b"POST / HTTP/1.1\r\ncontent-length: +1\r\n\r\n", b"400"),
    "a coding that is none": (b"POST / HTTP/1.1\r\ntransfer-encoding: gzip\r\n\r\n", b"400"),
    "a chunk that is none": (b"POST / HTTP/1.1\r\nhost: t\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n", b"400"),
    "a connection to elsewhere": (b"CONNECT elsewhere:80 HTTP/1.1\r\nhost: elsewhere:80\r\n\r\n", b"405"),
}


@pytest.mark.parametrize("kind", HOSTILE)
async def test_what_is_not_http_is_refused_and_hurts_nobody(kind: str) -> None:
    sent, status = HOSTILE[kind]
    async with serving(length) as served:
        async with client_to(served.port) as client:
            await client.send(sent)
            said = await asyncio.wait_for(client.reader.read(), BOUND)
            assert said.startswith(b"HTTP/1.1 " + status)
        await still_serves(served)


async def test_a_request_with_a_length_and_chunks_ends_with_its_chunks_and_nothing_is_read_behind() -> None:
    paths = []

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        paths.append(scope["path"])
        await answer(send, await body_of(receive))

    async with serving(application) as served, client_to(served.port) as client:
        await client.send(
            b"POST /first HTTP/1.1\r\nhost: t\r\ncontent-length: 60\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
            b"GET /smuggled HTTP/1.1\r\nhost: t\r\n\r\n",
        )
        said = await asyncio.wait_for(client.reader.read(), BOUND)
    assert paths == ["/first"]
    assert said.count(b"HTTP/1.1 ") == 1


async def test_connections_beyond_what_a_client_may_hold_are_closed() -> None:
    options = [("fetch_transport.max_bytes_of_a_client", MIB)]
    async with serving(length, options=options) as served:
        clients: list[Client] = []
        for _ in range(20):
            clients.append(Client(*await asyncio.open_connection("127.0.0.1", served.port)))
            await clients[-1].send(b"GET / HTTP/1.1\r\n")
        closed = [asyncio.ensure_future(client.is_closed()) for client in clients]
        await asyncio.wait(closed, timeout=BOUND, return_when=asyncio.FIRST_COMPLETED)
        for each in closed:
            each.cancel()
        for client in clients:
            client.writer.close()
        await asyncio.gather(*closed, return_exceptions=True)


async def test_bodies_beyond_what_a_client_may_hold_are_refused_until_there_is_room() -> None:
    release, begun = asyncio.Event(), asyncio.Queue[None]()

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        begun.put_nowait(None)
        await once(release)
        await length(scope, receive, send)

    options = [("fetch_transport.max_bytes_of_a_client", 2 * MIB), ("fetch_transport.refusal", "too much of you")]
    async with serving(application, options=options) as served:
        # each leaves what it sends unread, and half a mebibyte is for requests
        clients, reading = [], []
        for _ in range(16):
            client = Client(*await asyncio.open_connection("127.0.0.1", served.port))
            clients.append(client)
            await client.ask("POST", "/", b"x" * 60_000)
            reading.append(asyncio.ensure_future(client.response()))
            beginning = asyncio.ensure_future(begun.get())
            await asyncio.wait((beginning, reading[-1]), timeout=BOUND, return_when=asyncio.FIRST_COMPLETED)
            beginning.cancel()
        release.set()
        responses = await asyncio.gather(*reading, return_exceptions=True)
        for client in clients:
            client.writer.close()
        answers = [(each.status, each.body) for each in responses if not isinstance(each, BaseException)]
        assert set(answers) == {(200, b"60000"), (429, b"too much of you\n")}
        async with client_to(served.port) as client:
            await client.ask("POST", "/", b"x" * 60_000)
            assert (await client.response()).body == b"60000"


async def test_answers_that_are_not_read_are_refused_beyond_what_a_client_may_hold() -> None:
    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        await answer(send, b"x" * (20 * MIB))

    options = [("fetch_transport.max_bytes_of_a_client", 32 * MIB)]
    async with serving(application, options=options) as served:
        clients = [Client(*await asyncio.open_connection("127.0.0.1", served.port, limit=4096)) for _ in range(6)]
        for client in clients:
            await client.ask()
        statuses = [(await client.head()).status for client in clients]
        for client in clients:
            client.writer.close()
    assert set(statuses) == {200, 429}


# A server that stops


async def test_a_server_that_stops_lets_responses_end() -> None:
    begun, release = asyncio.Event(), asyncio.Event()

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        begun.set()
        await once(release)
        await answer(send, b"x")

    async with serving(application) as served, client_to(served.port) as client:
        await client.ask()
        await once(begun)
        stopping = asyncio.ensure_future(served.server.stop(BOUND))
        await asyncio.sleep(0)
        release.set()
        assert (await client.response()).body == b"x"
        await asyncio.wait_for(stopping, BOUND)
        assert await client.is_closed()


@pytest.mark.parametrize("grace", [None, 0.2])
async def test_a_server_that_stops_cancels_what_does_not_end(grace: float | None) -> None:
    application = Waiting()
    async with serving(application) as served, client_to(served.port) as client, wire_to(served.port) as wire:
        await client.ask()
        await client.head()
        wire.http.end_stream(wire.begin("Wait", kind="application/json"))
        await wire.flush()
        await once(application.begun)
        await asyncio.wait_for(served.server.stop(grace), BOUND)
        assert application.cancelled.is_set()
        with pytest.raises((asyncio.IncompleteReadError, ConnectionError)):
            await client.rest()


async def test_idle_connections_do_not_hold_up_a_server_that_stops() -> None:
    async with serving(length) as served, client_to(served.port) as client:
        await client.ask()
        await client.response()
        await asyncio.wait_for(served.server.stop(10 * BOUND), BOUND)
        assert await client.is_closed()


async def test_an_application_that_was_cancelled_is_not_an_error_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    application = Waiting()
    with caplog.at_level(logging.WARNING):
        async with serving(application) as served:
            async with client_to(served.port) as client:
                await client.ask()
                await once(application.begun)
            await once(application.cancelled)
    assert caplog.text == ""

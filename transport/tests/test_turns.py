"""Clients take turns, and their connections: what one sends, however much, is not in others' way."""

import asyncio
import contextlib
import time
from pathlib import Path

import grpc
from certificates import Authority, Identity, context_of
from conftest import BOUND, Serve, handlers_of, path
from test_wire import framed, wire_to

import fetch_transport

Context = grpc.aio.ServicerContext


async def test_a_connection_with_many_calls_is_not_served_before_one_with_a_single_call(serve_native: Serve) -> None:
    served: list[bytes] = []

    async def note(request: bytes, context: Context) -> bytes:
        served.append(request)
        return b""

    running = await serve_native({"Note": grpc.unary_unary_rpc_method_handler(note)})
    async with wire_to(running.port) as busy, wire_to(running.port) as quiet:
        for _ in range(900):
            stream = busy.begin("Note")
            busy.http.send_data(stream, framed(b"busy"), end_stream=True)
        stream = quiet.begin("Note")
        quiet.http.send_data(stream, framed(b"quiet"), end_stream=True)
        busy.writer.write(busy.http.data_to_send())
        quiet.writer.write(quiet.http.data_to_send())
        # the loop, which is the server's, too, stands still while the transport takes it all
        time.sleep(1)  # noqa: ASYNC251
        await quiet.end_of(stream)
    assert served.index(b"quiet") < 200


async def test_a_client_with_many_connections_has_no_more_turns_than_one_with_a_single_connection(
    authority: Authority, server_identity: Identity, tmp_path: Path
) -> None:
    served: list[bytes] = []

    async def note(request: bytes, context: Context) -> bytes:
        served.append(request)
        return b""

    server = fetch_transport.server()
    server.add_generic_rpc_handlers(handlers_of({"Note": grpc.unary_unary_rpc_method_handler(note)}))
    pair = (server_identity.key, server_identity.certificate)
    credentials = fetch_transport.ssl_server_credentials([pair], authority.pem, True)
    port = server.add_secure_port("127.0.0.1:0", credentials)
    await server.start()
    contexts = [context_of(authority, authority.client(name), tmp_path, ["h2"]) for name in ("busy", "quiet")]
    async with contextlib.AsyncExitStack() as stack:
        busy = [await stack.enter_async_context(wire_to(port, contexts[0])) for _ in range(100)]
        quiet = await stack.enter_async_context(wire_to(port, contexts[1]))
        for wire, name in [*((wire, b"busy") for wire in busy), (quiet, b"quiet")]:
            for _ in range(10):
                last = wire.begin("Note")
                wire.http.send_data(last, framed(name), end_stream=True)
        for wire in (*busy, quiet):
            wire.writer.write(wire.http.data_to_send())
        # the loop, which is the server's, too, stands still while the transport takes it all
        time.sleep(1)  # noqa: ASYNC251
        await quiet.end_of(last)
    await server.stop(None)
    # what came before it was there to be taken turns with
    assert len(served) - 1 - served[::-1].index(b"quiet") < 500


async def test_all_calls_of_a_connection_are_served_in_their_order(serve_native: Serve) -> None:
    served: list[int] = []

    async def note(request: bytes, context: Context) -> bytes:
        served.append(int(request))
        return b""

    running = await serve_native({"Note": grpc.unary_unary_rpc_method_handler(note)})
    call = running.channel.unary_unary(path("Note"))
    await asyncio.gather(*[call(b"%d" % number, timeout=BOUND) for number in range(1000)])
    assert sorted(served) == list(range(1000))

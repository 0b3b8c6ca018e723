"""Connections take turns: what one of them sends, however much, is not in the way of others."""

import asyncio
import time

import grpc
from conftest import BOUND, Serve, path
from test_wire import framed, wire_to

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


async def test_all_calls_of_a_connection_are_served_in_their_order(serve_native: Serve) -> None:
    served: list[int] = []

    async def note(request: bytes, context: Context) -> bytes:
        served.append(int(request))
        return b""

    running = await serve_native({"Note": grpc.unary_unary_rpc_method_handler(note)})
    call = running.channel.unary_unary(path("Note"))
    await asyncio.gather(*[call(b"%d" % number, timeout=BOUND) for number in range(1000)])
    assert sorted(served) == list(range(1000))

"""gRPC's interoperability test service (package grpc.testing), as its description has it; the parts its cases use."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import grpc
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

Field = descriptor_pb2.FieldDescriptorProto

MESSAGES: dict[str, list[tuple[str, int, Any, str]]] = {
    "Payload": [("type", 1, Field.TYPE_INT32, ""), ("body", 2, Field.TYPE_BYTES, "")],
    "EchoStatus": [("code", 1, Field.TYPE_INT32, ""), ("message", 2, Field.TYPE_STRING, "")],
    "SimpleRequest": [
        ("response_size", 2, Field.TYPE_INT32, ""),
        ("payload", 3, Field.TYPE_MESSAGE, "Payload"),
        ("response_status", 7, Field.TYPE_MESSAGE, "EchoStatus"),
    ],
    "SimpleResponse": [("payload", 1, Field.TYPE_MESSAGE, "Payload")],
    "StreamingInputCallRequest": [("payload", 1, Field.TYPE_MESSAGE, "Payload")],
    "StreamingInputCallResponse": [("aggregated_payload_size", 1, Field.TYPE_INT32, "")],
    "ResponseParameters": [("size", 1, Field.TYPE_INT32, ""), ("interval_us", 2, Field.TYPE_INT32, "")],
    "StreamingOutputCallRequest": [
        ("response_parameters", 2, Field.TYPE_MESSAGE, "*ResponseParameters"),
        ("payload", 3, Field.TYPE_MESSAGE, "Payload"),
        ("response_status", 7, Field.TYPE_MESSAGE, "EchoStatus"),
    ],
}


def _classes() -> dict[str, Any]:
    file = descriptor_pb2.FileDescriptorProto(name="interop.proto", package="grpc.testing", syntax="proto3")
    for name, fields in MESSAGES.items():
        message = file.message_type.add(name=name)
        for field, number, kind, reference in fields:
            label = Field.LABEL_REPEATED if reference.startswith("*") else Field.LABEL_OPTIONAL
            added = message.field.add(name=field, number=number, type=kind, label=label)
            if reference:
                added.type_name = ".grpc.testing." + reference.lstrip("*")
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    find = pool.FindMessageTypeByName
    return {name: message_factory.GetMessageClass(find(f"grpc.testing.{name}")) for name in MESSAGES}


CLASSES = _classes()
INITIAL, TRAILING = "x-grpc-test-echo-initial", "x-grpc-test-echo-trailing-bin"


async def _echo_metadata(context: grpc.aio.ServicerContext) -> None:
    metadata = dict(context.invocation_metadata())
    if INITIAL in metadata:
        await context.send_initial_metadata(((INITIAL, metadata[INITIAL]),))
    if TRAILING in metadata:
        context.set_trailing_metadata(((TRAILING, metadata[TRAILING]),))


async def _echo_status(request: Any, context: grpc.aio.ServicerContext) -> None:
    if request.HasField("response_status"):
        code = next(code for code in grpc.StatusCode if code.value[0] == request.response_status.code)
        await context.abort(code, request.response_status.message)


async def empty_call(request: bytes, context: grpc.aio.ServicerContext) -> bytes:
    return request


async def unary_call(request: Any, context: grpc.aio.ServicerContext) -> Any:
    await _echo_metadata(context)
    await _echo_status(request, context)
    return CLASSES["SimpleResponse"](payload={"body": bytes(request.response_size)})


async def streaming_input_call(requests: AsyncIterator[Any], context: grpc.aio.ServicerContext) -> Any:
    size = 0
    async for request in requests:
        size += len(request.payload.body)
    return CLASSES["StreamingInputCallResponse"](aggregated_payload_size=size)


async def streaming_output_call(request: Any, context: grpc.aio.ServicerContext) -> AsyncIterator[Any]:
    for parameters in request.response_parameters:
        await asyncio.sleep(parameters.interval_us / 1e6)
        yield CLASSES["SimpleResponse"](payload={"body": bytes(parameters.size)})


async def full_duplex_call(requests: AsyncIterator[Any], context: grpc.aio.ServicerContext) -> AsyncIterator[Any]:
    await _echo_metadata(context)
    async for request in requests:
        await _echo_status(request, context)
        async for response in streaming_output_call(request, context):
            yield response


def handlers() -> tuple[grpc.GenericRpcHandler, ...]:
    def reads(name: str) -> dict[str, Any]:
        serializer = lambda message: message.SerializeToString()  # noqa: E731
        return {"request_deserializer": CLASSES[name].FromString, "response_serializer": serializer}

    output = reads("StreamingOutputCallRequest")
    methods = {
        "EmptyCall": grpc.unary_unary_rpc_method_handler(empty_call),
        "UnaryCall": grpc.unary_unary_rpc_method_handler(unary_call, **reads("SimpleRequest")),
        "StreamingInputCall": grpc.stream_unary_rpc_method_handler(
            streaming_input_call, **reads("StreamingInputCallRequest")
        ),
        "StreamingOutputCall": grpc.unary_stream_rpc_method_handler(streaming_output_call, **output),
        "FullDuplexCall": grpc.stream_stream_rpc_method_handler(full_duplex_call, **output),
    }
    return (grpc.method_handlers_generic_handler("grpc.testing.TestService", methods),)

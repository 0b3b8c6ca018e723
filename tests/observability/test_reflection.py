"""Tools find out which services there are."""

import pytest
from grpc_reflection.v1alpha import reflection_pb2

from tests.observability.conftest import Observed


@pytest.mark.parametrize("version", ["v1", "v1alpha"])
def test_reflection_lists_the_services_and_needs_no_tenant(observed: Observed, version: str) -> None:
    with observed.server.connect_as("not a tenant's name") as client:
        stream = client.open_stream(
            f"/grpc.reflection.{version}.ServerReflection/ServerReflectionInfo",
            reflection_pb2.ServerReflectionRequest,
            reflection_pb2.ServerReflectionResponse,
        )
        with stream:
            stream.send(reflection_pb2.ServerReflectionRequest(list_services=""))
            services = {service.name for service in stream.receive().list_services_response.service}
    assert {"etcdserverpb.KV", "etcdserverpb.Watch", "grpc.health.v1.Health"} <= services


def test_reflection_describes_a_service(observed: Observed) -> None:
    with observed.server.empty_keyspace() as client:
        stream = client.open_stream(
            "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
            reflection_pb2.ServerReflectionRequest,
            reflection_pb2.ServerReflectionResponse,
        )
        with stream:
            stream.send(reflection_pb2.ServerReflectionRequest(file_containing_symbol="etcdserverpb.KV"))
            assert stream.receive().file_descriptor_response.file_descriptor_proto

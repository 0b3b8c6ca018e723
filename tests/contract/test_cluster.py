"""Cluster and health: what clients ask to find their way."""

import grpc
import pytest
from grpc_health.v1 import health_pb2

from tests.endpoints.client import Client


def test_whoever_answers_is_a_member(client: Client) -> None:
    answer = client.member_list()
    assert answer.header.member_id in [member.ID for member in answer.members]


def test_each_member_has_a_name_and_a_client_url(client: Client) -> None:
    for member in client.member_list().members:
        assert member.name
        assert all(url.startswith(("http://", "https://")) for url in member.clientURLs)
        assert member.clientURLs
        assert not member.isLearner


def test_the_member_list_carries_no_revision(client: Client) -> None:
    client.put(b"a")
    assert client.member_list().header.revision == 0


def test_the_server_says_that_it_serves(client: Client) -> None:
    assert client.health().status == health_pb2.HealthCheckResponse.SERVING


def test_the_health_of_an_unknown_service_is_not_known(client: Client) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        client.health("no.such.Service")
    assert caught.value.code() == grpc.StatusCode.NOT_FOUND

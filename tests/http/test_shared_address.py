"""The native transport serves HTTP where it serves gRPC, as etcd does, when there is no URL for HTTP alone."""

import base64
import json
from collections.abc import Iterator

import pytest

from tests.endpoints.fetch import Fetch, FetchServer
from tests.http.web import FetchWeb, Web

pytest.importorskip("fetch_transport", reason="there is no native transport")

KEY, VALUE = (base64.b64encode(each).decode() for each in (b"key", b"value"))
CURL_VERSIONS = ("--http1.1", "--no-alpn", "--http2")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FetchServer]:
    """A daemon on the native transport with no address but the clients'."""
    with Fetch("embedded").start(tmp_path_factory.mktemp("shared"), ["--transport=native"]) as running:
        yield running


@pytest.fixture
def tenant(server: FetchServer) -> str:
    """Nobody has been this tenant."""
    return server.endpoint.new_tenant()


@pytest.fixture
def web(server: FetchServer, tenant: str) -> Web:
    """The clients' address as this tenant sees it."""
    return FetchWeb(server, f"https://{server.address}", "").as_tenant(tenant)


@pytest.mark.parametrize("version", CURL_VERSIONS)
def test_the_version_is_told_over_every_http(web: Web, version: str) -> None:
    assert "etcdserver" in json.loads(web.curl(version, f"{web.url}/version"))


@pytest.mark.parametrize("version", CURL_VERSIONS)
def test_the_gateway_and_grpc_have_the_same_keys(web: Web, server: FetchServer, tenant: str, version: str) -> None:
    with server.connect_as(tenant) as client:
        client.put(b"key", b"value")
        asked = json.dumps({"key": KEY}).encode()
        answered = json.loads(web.curl(version, "--data-binary", "@-", f"{web.url}/v3/kv/range", body=asked))
    assert [(each["key"], each["value"]) for each in answered["kvs"]] == [(KEY, VALUE)]


def test_the_gateway_refuses_an_unknown_path_over_every_http(web: Web) -> None:
    for version in CURL_VERSIONS:
        asked = ("-o", "/dev/null", "-w", "%{http_code}", version, "-d", "{}", f"{web.url}/v3/nothing")
        assert web.curl(*asked) == b"404"


def test_a_watch_is_told_while_it_goes_on(web: Web, server: FetchServer, tenant: str) -> None:
    with web.stream("/v3/watch", json.dumps({"create_request": {"key": KEY}})) as told:
        assert next(told)["result"]["created"] is True
        with server.connect_as(tenant) as client:
            client.put(b"key", b"value")
        (event,) = next(told)["result"]["events"]
    assert (event["kv"]["key"], event["kv"]["value"]) == (KEY, VALUE)


def test_a_large_value_goes_both_ways(web: Web) -> None:
    value = base64.b64encode(b"x" * 1_000_000).decode()
    web.post("/v3/kv/put", key=KEY, value=value)
    (found,) = web.post("/v3/kv/range", key=KEY)["kvs"]
    assert found["value"] == value

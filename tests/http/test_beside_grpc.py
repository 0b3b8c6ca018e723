"""HTTP on the addresses of gRPC: the native transport has it, unless there are others for HTTP alone."""

import base64
import importlib.util
import json
import os
from collections.abc import Iterator
from urllib.parse import urlsplit

import pytest

from tests.endpoints.fetch import Fetch, FetchServer
from tests.endpoints.process import free_port
from tests.http.web import FetchWeb, Web

VERSIONS = ("1.1", "2")


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FetchWeb]:
    """A daemon without addresses for HTTP alone."""
    if os.environ.get("FETCH_TRANSPORT") == "grpcio" or importlib.util.find_spec("fetch_transport") is None:
        pytest.skip("grpcio has no HTTP")
    metrics = f"http://127.0.0.1:{free_port()}"
    directory = tmp_path_factory.mktemp("beside")
    with Fetch("embedded").start(directory, [f"--listen-metrics-urls={metrics}"]) as server:
        yield FetchWeb(server, f"https://{server.address}", metrics)


@pytest.mark.parametrize("version", VERSIONS)
def test_pages_are_answered_beside_grpc(served: FetchWeb, version: str) -> None:
    tenant = served.server.endpoint.new_tenant()
    web = served.as_tenant(tenant)
    assert json.loads(web.curl(f"--http{version}", f"{web.url}/version"))["etcdserver"] == "3.7.3"
    assert f'tenant="{tenant}"'.encode() in web.curl(f"--http{version}", f"{web.url}/metrics")


@pytest.mark.parametrize("version", VERSIONS)
def test_the_gateway_is_beside_grpc(served: FetchWeb, version: str) -> None:
    tenant = served.server.endpoint.new_tenant()
    web = served.as_tenant(tenant)
    value = os.urandom(300_000)
    asked = json.dumps({"key": "YQ==", "value": base64.b64encode(value).decode()}).encode()
    web.curl(f"--http{version}", "--data-binary", "@-", f"{web.url}/v3/kv/put", body=asked)
    with served.server.connect_as(tenant) as client:
        assert client.get(b"a").value == value
    printed = web.curl(f"--http{version}", "-d", '{"key":"YQ=="}', f"{web.url}/v3/kv/range")
    assert base64.b64decode(json.loads(printed)["kvs"][0]["value"]) == value


def test_a_watch_streams_beside_grpc(served: FetchWeb) -> None:
    web = served.new_tenant()
    with web.stream("/v3/watch", json.dumps({"create_request": {"key": "YQ=="}})) as answers:
        assert next(answers)["result"]["created"] is True
        web.post("/v3/kv/put", key="YQ==")
        assert next(answers)["result"]["events"][0]["kv"]["key"] == "YQ=="


def test_a_certificate_is_needed_beside_grpc(served: FetchWeb) -> None:
    refused = Web(served.url).curl(
        "-k", "-o", "/dev/null", "-w", "%{http_code}", f"{served.url}/version", may_fail=True
    )
    assert refused == b"000"


def test_where_http_has_addresses_of_its_own_it_is_not_beside_grpc(fetch_http: FetchWeb) -> None:
    server: FetchServer = fetch_http.server
    tenant = fetch_http.new_tenant()
    beside = Web(f"https://{server.address}", tenant.authority, tenant.certificate)
    assert urlsplit(beside.url).port != urlsplit(tenant.url).port
    printed = beside.curl("-w", "%{http_code}", "-o", "/dev/null", f"{beside.url}/version", may_fail=True)
    assert printed != b"200"
    assert tenant.ask("/version").status == 200

"""A request over HTTP passes what a gRPC call passes: who it is, what it may hold, what is counted and traced of it."""

import base64
import json
import re

import pytest
from cryptography import x509

from fetch.tls import certificates
from tests.endpoints.fetch import Fetch
from tests.http.web import FetchWeb, Web, fetch_web


def encoded(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


def metrics(served: FetchWeb) -> dict[str, float]:
    lines = Web(served.metrics_url).ask("/metrics").body.decode().splitlines()
    return {name: float(value) for name, _, value in (line.rpartition(" ") for line in lines if line[0] != "#")}


def test_tenants_do_not_see_each_other(fetch_http: FetchWeb) -> None:
    alpha, beta = fetch_http.new_tenant(), fetch_http.new_tenant()
    alpha.post("/v3/kv/put", key=encoded("secret"), value=encoded("alpha's"))
    everything = {"key": "AA==", "range_end": "AA=="}
    assert "kvs" not in beta.post("/v3/kv/range", **everything)
    assert alpha.post("/v3/kv/range", **everything)["count"] == "1"
    assert beta.post("/v3/kv/range", **everything)["header"]["revision"] == "1"


def test_what_is_written_over_http_is_read_over_grpc(fetch_http: FetchWeb) -> None:
    tenant = fetch_http.server.endpoint.new_tenant()
    fetch_http.as_tenant(tenant).post("/v3/kv/put", key=encoded("a"), value=encoded("1"))
    with fetch_http.server.connect_as(tenant) as client:
        assert client.get(b"a").value == b"1"


@pytest.mark.parametrize("name", ["Grpc-Metadata-X", "Authorization", "X-Forwarded-For", "X-Client-Cert", "Host"])
def test_no_header_makes_anyone_somebody_else(fetch_http: FetchWeb, name: str) -> None:
    alpha, beta = fetch_http.server.endpoint.new_tenant(), fetch_http.server.endpoint.new_tenant()
    fetch_http.as_tenant(alpha).post("/v3/kv/put", key=encoded("a"))
    asked = json.dumps({"key": encoded("a")})
    assert "kvs" not in fetch_http.as_tenant(beta).ask("/v3/kv/range", asked, headers=[(name, alpha)]).json


def test_a_certificate_that_names_nobody_is_refused(fetch_http: FetchWeb) -> None:
    directory = fetch_http.server.directory
    nameless = certificates.issue(fetch_http.server.endpoint.authority, None, names=[x509.DNSName("somewhere")])
    nameless.write(directory, "nameless")
    web = Web(fetch_http.url, directory / "ca.crt", directory / "nameless")
    for text in ('{"key":"YQ=="}', "nonsense"):  # which is not looked at
        answered = web.ask("/v3/kv/range", text)
        assert (answered.status, answered.json["code"]) == (403, 7)
        assert "no principal" in answered.json["message"]
    assert web.ask("/health").status == 200


def test_a_name_that_every_cluster_has_is_a_tenant_where_it_is_listed(tmp_path_factory: pytest.TempPathFactory) -> None:
    name = "kube-apiserver-etcd-client"
    endpoint = Fetch("embedded")
    directory = tmp_path_factory.mktemp("listed")
    tenants = f"--tenants={name},{endpoint.tenant_of(directory)}"
    with fetch_web(endpoint, directory, [tenants]) as served:
        assert served.as_tenant(name).post("/v3/kv/put", key=encoded("a"))["header"]["revision"] == "2"


def test_calls_are_counted_with_those_over_grpc(fetch_http: FetchWeb) -> None:
    name = fetch_http.server.endpoint.new_tenant()
    web = fetch_http.as_tenant(name)
    web.post("/v3/kv/put", key=encoded("a"))
    web.post("/v3/kv/range")
    told = metrics(fetch_http)
    assert told[f'fetch_requests_total{{tenant="{name}",kind="put",code="OK"}}'] == 1
    assert told[f'fetch_requests_total{{tenant="{name}",kind="get",code="InvalidArgument"}}'] == 1


def test_interceptors_answer_over_http(tmp_path_factory: pytest.TempPathFactory) -> None:
    flags = ["--interceptors=+rate_limit,+read_only"]
    directory = tmp_path_factory.mktemp("chain")
    settings = directory / "fetch.toml"
    settings.write_text("[interceptor.rate_limit]\nrate = 0.001\nburst = 2\n[interceptor.read_only]\n")
    with fetch_web(Fetch("embedded"), directory, [*flags, f"--config={settings}"]) as served:
        web = served.new_tenant()
        assert web.ask("/v3/kv/range", '{"key":"YQ=="}').status == 200
        assert web.ask("/v3/kv/put", '{"key":"YQ=="}').json["code"] == 7
        refused = web.ask("/v3/kv/range", '{"key":"YQ=="}')
        assert (refused.status, refused.json["message"]) == (429, "etcdserver: too many requests")


def test_the_anonymous_tenant_is_everybody_on_http(tmp_path_factory: pytest.TempPathFactory) -> None:
    from tests.endpoints.process import free_port  # noqa: PLC0415

    url = f"http://127.0.0.1:{free_port()}"
    endpoint = Fetch("embedded")
    flags = [f"--listen-client-http-urls={url}", "--anonymous-tenant=nobody"]
    with endpoint.start(tmp_path_factory.mktemp("anonymous"), flags) as server:
        Web(url).post("/v3/kv/put", key=encoded("a"), value=encoded("1"))
        with server.connect_as("nobody") as client:
            assert client.get(b"a").value == b"1"
        printed = Web(url).curl("--http2-prior-knowledge", "-d", "{}", f"{url}/v3/kv/range")
        assert b"key is not provided" in printed


@pytest.mark.parametrize("version", ["1.1", "2"])
def test_curl_puts_and_watches(fetch_tenant: Web, version: str) -> None:
    protocol, url = f"--http{version}", fetch_tenant.url
    fetch_tenant.curl(protocol, "-d", json.dumps({"key": encoded("a"), "value": encoded("1")}), f"{url}/v3/kv/put")
    value = json.dumps({"create_request": {"key": encoded("a"), "start_revision": 2}})
    printed = fetch_tenant.curl(protocol, "-N", "-H", "Grpc-Timeout: 2S", "-d", value, f"{url}/v3/watch")
    created, event, *_ = printed.splitlines()
    assert json.loads(created)["result"]["created"] is True
    assert json.loads(event)["result"]["events"][0]["kv"]["value"] == encoded("1")


def test_an_answer_of_many_megabytes_comes_whole(fetch_tenant: Web) -> None:
    value = base64.b64encode(b"x" * 1_000_000).decode()
    for number in range(20):
        fetch_tenant.post("/v3/kv/put", key=encoded(f"large{number}"), value=value)
    answered = fetch_tenant.post("/v3/kv/range", key="AA==", range_end="AA==")
    assert [kv["value"] == value for kv in answered["kvs"]] == [True] * 20


def test_every_method_that_is_served_and_has_a_path_in_etcd_is_served(fetch_tenant: Web) -> None:
    from fetch.http.gateway.routes import PATHS  # noqa: PLC0415

    not_there = {
        path
        for path in PATHS
        if re.search("Method not found", fetch_tenant.ask(path, "{}", headers=[("Grpc-Timeout", "200m")]).body.decode())
    }
    assert not_there == set()

"""/metrics on the client addresses: each tenant's own and nobody else's; an administrator sees everything."""

import re

import pytest
from cryptography import x509

from fetch.tls import certificates
from tests.endpoints.fetch import Fetch
from tests.http.conftest import ADMINISTRATOR
from tests.http.web import FetchWeb, Web, fetch_web

A_TENANT = re.compile(r'tenant="([^"]*)"')


def told(web: Web) -> dict[str, float]:
    answered = web.ask("/metrics")
    assert (answered.status, answered.headers["content-type"].partition(";")[0]) == (200, "text/plain")
    lines = [line for line in answered.body.decode().splitlines() if not line.startswith("#")]
    return {name: float(value) for name, _, value in (line.rpartition(" ") for line in lines)}


def tenants(metrics: dict[str, float]) -> set[str]:
    return {named[1] for name in metrics if (named := A_TENANT.search(name))}


def test_a_tenant_sees_its_own_metrics_and_nobody_elses(fetch_http: FetchWeb) -> None:
    alpha, beta = (fetch_http.server.endpoint.new_tenant() for _ in range(2))
    for name in (alpha, beta):
        fetch_http.as_tenant(name).post("/v3/kv/put", key="YQ==", value="YQ==")
    metrics = told(fetch_http.as_tenant(alpha))
    assert tenants(metrics) == {alpha}
    assert metrics[f'fetch_requests_total{{tenant="{alpha}",kind="put",code="OK"}}'] == 1
    assert beta not in fetch_http.as_tenant(alpha).ask("/metrics").body.decode()


def test_of_the_daemon_a_tenant_sees_what_says_nothing_of_others(fetch_tenant: Web) -> None:
    metrics = told(fetch_tenant)
    of_all = {name.partition("{")[0] for name in metrics if "tenant=" not in name}
    assert of_all == {
        "etcd_cluster_version",
        "etcd_server_has_leader",
        "etcd_server_id",
        "etcd_server_is_leader",
        "etcd_server_version",
        "process_resident_memory_bytes",
    }
    assert metrics["process_resident_memory_bytes"] > 0


def test_what_a_tenant_stores_is_told_as_it_is_now(fetch_tenant: Web) -> None:
    def stored() -> float:
        return next(
            value for name, value in told(fetch_tenant).items() if name.startswith("etcd_mvcc_db_total_size_in_bytes{")
        )

    before = stored()
    fetch_tenant.post("/v3/kv/put", key="YQ==", value="AAAA" * 1000)
    assert stored() > before + 3000


def test_an_administrator_sees_everything(fetch_http: FetchWeb) -> None:
    names = [fetch_http.server.endpoint.new_tenant() for _ in range(2)]
    for name in names:
        fetch_http.as_tenant(name).post("/v3/kv/put", key="YQ==")
    scraped = {name.partition("{")[0] for name in told(Web(fetch_http.metrics_url))}
    metrics = told(fetch_http.as_tenant(ADMINISTRATOR))
    assert set(names) <= tenants(metrics)
    assert {name.partition("{")[0] for name in metrics} >= scraped


def test_who_has_no_tenant_sees_no_metrics(fetch_http: FetchWeb) -> None:
    directory = fetch_http.server.directory
    nameless = certificates.issue(fetch_http.server.endpoint.authority, None, names=[x509.DNSName("somewhere")])
    nameless.write(directory, "nobody")
    answered = Web(fetch_http.url, directory / "ca.crt", directory / "nobody").ask("/metrics")
    assert answered.status == 403
    assert answered.body.startswith(b"etcdserver: permission denied")


@pytest.mark.parametrize("version", ["1.1", "2"])
def test_curl_gets_metrics(fetch_tenant: Web, version: str) -> None:
    printed = fetch_tenant.curl(f"--http{version}", f"{fetch_tenant.url}/metrics")
    assert b'etcd_server_version{server_version="3.7.3"} 1\n' in printed


def test_tenants_beyond_those_with_a_name_of_their_own_see_nothing_of_each_other(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    flags = ["--metrics-tenants=1"]
    with fetch_web(Fetch("embedded"), tmp_path_factory.mktemp("few"), flags) as served:
        for _ in range(3):
            served.new_tenant().post("/v3/kv/put", key="YQ==")
        assert tenants(told(served.new_tenant())) == set()

"""What is served beside the gateway: fetch answers as etcd does, byte by byte."""

import pytest

from tests.http.web import Answered, Web


def told(answered: Answered) -> Answered:
    """Without what is another each time, and the length of nothing, which Go leaves out now and then."""
    headers = dict(answered.headers)
    del headers["date"]
    if not answered.body and answered.status == 307:
        headers.pop("content-length", None)
    return Answered(answered.status, headers, answered.body)


PATHS = (
    "/version",
    "/version?a=%zz",
    "/version/",
    "/health",
    "/health?serializable=true",
    "/livez",
    "/livez?verbose",
    "/livez/serializable_read",
    "/livez/unknown",
    "/readyz",
    "/readyz/data_corruption",
    "/readyz?exclude=serializable_read&exclude=linearizable_read&exclude=non_learner&verbose",
    "/",
    "/foo",
    "/v2/keys",
    "//version",
    "/a/../version?b=1",
    "/./health",
)


@pytest.mark.parametrize("method", ["GET", "HEAD", "POST", "DELETE", "OPTIONS", "BREW"])
@pytest.mark.parametrize("path", PATHS)
def test_a_path_is_answered_as_by_etcd(etcd_http: Web, fetch_tenant: Web, path: str, method: str) -> None:
    assert told(fetch_tenant.ask(path, method=method)) == told(etcd_http.ask(path, method=method))


@pytest.mark.parametrize("version", ["1.1", "2"])
def test_curl_is_answered(fetch_tenant: Web, version: str) -> None:
    printed = fetch_tenant.curl(f"--http{version}", "-w", " %{http_version}", f"{fetch_tenant.url}/version")
    assert printed == b'{"etcdserver":"3.7.3","etcdcluster":"3.7.0","storage":"3.7.0"} ' + version.encode()

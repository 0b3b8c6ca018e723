"""The metrics listener answers as etcd's."""

import json

from tests.observability.conftest import Observed


def test_health_is_etcds_json(observed: Observed) -> None:
    assert observed.get("/health")[::2] == (200, '{"health":"true","reason":""}')


def test_the_daemon_is_alive_and_ready(observed: Observed) -> None:
    assert [observed.get(path)[::2] for path in ("/livez", "/readyz")] == [(200, "ok\n"), (200, "ok\n")]


def test_the_version_is_that_of_the_etcd_whose_behaviour_is_served(observed: Observed) -> None:
    status, content_type, body = observed.get("/version")
    assert (status, content_type) == (200, "application/json")
    assert json.loads(body).keys() == {"etcdserver", "etcdcluster", "storage"}


def test_metrics_are_prometheus_text(observed: Observed) -> None:
    status, content_type, body = observed.get("/metrics")
    assert (status, content_type.partition(";")[0]) == (200, "text/plain")
    assert "# TYPE etcd_server_has_leader gauge\netcd_server_has_leader 1\n" in body


def test_another_path_is_not_found(observed: Observed) -> None:
    assert observed.get("/debug")[0] == 404

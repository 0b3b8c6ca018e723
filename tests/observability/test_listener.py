"""The metrics listener answers as etcd's. What is expected here was answered by etcd 3.7.3."""

import pytest

from tests.observability.conftest import Observed

TEXT = "text/plain; charset=utf-8"

ANSWERS = {
    "/health": (200, TEXT, '{"health":"true","reason":""}'),
    "/health?serializable=true": (200, TEXT, '{"health":"true","reason":""}'),
    "/health?exclude=NOSPACE": (200, TEXT, '{"health":"true","reason":""}'),
    "/livez": (200, TEXT, "ok\n"),
    "/livez?verbose": (200, TEXT, "[+]serializable_read ok\nok\n"),
    "/livez/serializable_read": (200, TEXT, "ok\n"),
    "/readyz": (200, TEXT, "ok\n"),
    "/readyz/data_corruption": (200, TEXT, "ok\n"),
    "/readyz?exclude=serializable_read&exclude=linearizable_read&exclude=unknown&verbose": (
        200,
        TEXT,
        "[+]data_corruption ok\n[+]non_learner ok\nok\n",
    ),
    "/readyz/unknown": (404, TEXT, "404 page not found\n"),
    "/version": (404, TEXT, "404 page not found\n"),
    "/debug": (404, TEXT, "404 page not found\n"),
}


@pytest.mark.parametrize("path", ANSWERS)
def test_a_path_is_answered_as_by_etcd(observed: Observed, path: str) -> None:
    assert observed.get(path) == ANSWERS[path]


def test_all_checks_of_readiness_are_told(observed: Observed) -> None:
    names = ("data_corruption", "linearizable_read", "non_learner", "serializable_read")
    *lines, last = observed.get("/readyz?verbose")[2].splitlines()
    assert (sorted(lines), last) == ([f"[+]{name} ok" for name in names], "ok")  # etcd's order is another each time


@pytest.mark.parametrize("method", ["HEAD", "POST"])
@pytest.mark.parametrize("path", ["/health", "/livez", "/readyz", "/readyz/data_corruption"])
def test_health_is_asked_with_get_alone(observed: Observed, method: str, path: str) -> None:
    status, headers, body = observed.ask(method, path)
    assert (status, headers["Allow"]) == (405, "GET")
    assert body == ("" if method == "HEAD" else "Method Not Allowed\n")


def test_the_head_of_the_metrics_comes_without_them(observed: Observed) -> None:
    status, headers, body = observed.ask("HEAD", "/metrics")
    assert (status, headers["Content-Type"].partition(";")[0], body) == (200, "text/plain", "")


def test_metrics_are_prometheus_text(observed: Observed) -> None:
    status, content_type, body = observed.get("/metrics")
    assert (status, content_type.partition(";")[0]) == (200, "text/plain")
    assert "# TYPE etcd_server_has_leader gauge\netcd_server_has_leader 1\n" in body


def test_health_checks_are_counted(observed: Observed) -> None:
    before = observed.metrics()["etcd_server_health_success"]
    observed.get("/health")
    assert observed.metrics()["etcd_server_health_success"] == before + 1

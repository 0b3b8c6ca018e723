"""Alert rules: each fires when there is something to look at, none otherwise, and all are about what is exported."""

import json
import re
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from fetch.observation.engines import Observation
from fetch.observation.instruments import Instruments
from tests import peers
from tests.observability.conftest import Observed

RULES = Path(__file__).parents[2] / "dashboards" / "alerts.yaml"
ALERTS = re.findall(r"- alert: (\w+)$", RULES.read_text(), re.MULTILINE)
METRIC = re.compile(r"\b((?:etcd|fetch|grpc|process)_\w+)")

OF = 'job="fetch-etcd",instance="daemon:2381"'
MINUTES = 130

TENANT = 'tenant="alpha"'
_ELSEWHERE = {"fetch_authorization_refused_total", "fetch_certificates_reloads_total"}
"""What is counted from its first time on, and has tests of its own."""

HEALTHY: Mapping[str, str] = {
    f"up{{{OF}}}": "1x130",
    f"process_start_time_seconds{{{OF}}}": "1700000000x130",
    f"etcd_server_has_leader{{{OF}}}": "1x130",
    f"etcd_server_proposals_failed_total{{{OF}}}": "3x130",
    f'etcd_disk_wal_fsync_duration_seconds_bucket{{{OF},le="0.004"}}': "0+60x130",
    f'etcd_disk_wal_fsync_duration_seconds_bucket{{{OF},le="8.192"}}': "0+60x130",
    f'etcd_disk_wal_fsync_duration_seconds_bucket{{{OF},le="+Inf"}}': "0+60x130",
    f"etcd_mvcc_db_total_size_in_bytes{{{OF},{TENANT}}}": "500000000x130",
    f"etcd_server_quota_backend_bytes{{{OF},{TENANT}}}": "2147483648x130",
    f"etcd_debugging_mvcc_current_revision{{{OF},{TENANT}}}": "0+100x130",
    f"etcd_debugging_mvcc_compact_revision{{{OF},{TENANT}}}": "0+90x130",
    f'fetch_requests_total{{{OF},{TENANT},kind="get",code="OK"}}': "0+600x130",
    f'fetch_requests_total{{{OF},{TENANT},kind="get",code="Unavailable"}}': "0+1x130",
    f'fetch_requests_total{{{OF},{TENANT},kind="get",code="ResourceExhausted"}}': "0+1x130",
    f'fetch_authorization_refused_total{{{OF},reason="expired"}}': "0+1x130",
    f'fetch_watch_lag_seconds_bucket{{{OF},{TENANT},le="0.004"}}': "0+60x130",
    f'fetch_watch_lag_seconds_bucket{{{OF},{TENANT},le="8.192"}}': "0+60x130",
    f'fetch_watch_lag_seconds_bucket{{{OF},{TENANT},le="+Inf"}}': "0+60x130",
    f'fetch_event_loop_lag_seconds_bucket{{{OF},le="0.004"}}': "0+60x130",
    f'fetch_event_loop_lag_seconds_bucket{{{OF},le="8.192"}}': "0+60x130",
    f'fetch_event_loop_lag_seconds_bucket{{{OF},le="+Inf"}}': "0+60x130",
    f'fetch_background_failures_total{{{OF},task="expiry of leases"}}': "2x130",
    f"process_open_fds{{{OF}}}": "500x130",
    f'fetch_certificate_expiry_timestamp_seconds{{{OF},file="server.crt",kind="certificate",subject="CN=a"}}': "8e6x130",
    f'fetch_certificates_reloads_total{{{OF},result="refused"}}': "1x130",
    f'fetch_certificates_reloads_total{{{OF},result="taken"}}': "0+1x130",
    f"process_max_fds{{{OF}}}": "524288x130",
}
"""A daemon and a tenant that are well, a value a minute in Prometheus' notation (start+step x times)."""

AILING: Mapping[str, Mapping[str, str]] = {
    "FetchDown": {f"up{{{OF}}}": "1x100 0x30"},
    "FetchRestarts": {f"process_start_time_seconds{{{OF}}}": "1700000000+240x130"},
    "FetchStoreUnavailable": {f"etcd_server_has_leader{{{OF}}}": "1x100 0x30"},
    "FetchWritesFail": {f"etcd_server_proposals_failed_total{{{OF}}}": "0+2x130"},
    "FetchCommitsSlow": {f'etcd_disk_wal_fsync_duration_seconds_bucket{{{OF},le="0.004"}}': "0+50x130"},
    "FetchTenantNearQuota": {f"etcd_mvcc_db_total_size_in_bytes{{{OF},{TENANT}}}": "1800000000x130"},
    "FetchTenantFull": {f"etcd_mvcc_db_total_size_in_bytes{{{OF},{TENANT}}}": "2147483000x130"},
    "FetchTenantNotCompacted": {f"etcd_debugging_mvcc_compact_revision{{{OF},{TENANT}}}": "-1x130"},
    "FetchTenantErrors": {f'fetch_requests_total{{{OF},{TENANT},kind="get",code="Unavailable"}}': "0+60x130"},
    "FetchTenantBounded": {f'fetch_requests_total{{{OF},{TENANT},kind="get",code="ResourceExhausted"}}': "0+120x130"},
    "FetchRefusals": {f'fetch_authorization_refused_total{{{OF},reason="expired"}}': "0+30x130"},
    "FetchWatchesLate": {f'fetch_watch_lag_seconds_bucket{{{OF},{TENANT},le="0.004"}}': "0+50x130"},
    "FetchEventLoopLate": {f'fetch_event_loop_lag_seconds_bucket{{{OF},le="0.004"}}': "0+50x130"},
    "FetchBackgroundFailures": {f'fetch_background_failures_total{{{OF},task="expiry of leases"}}': "0+1x130"},
    "FetchCertificateEnds": {
        f'fetch_certificate_expiry_timestamp_seconds{{{OF},file="server.crt",kind="certificate",subject="CN=a"}}': "1e6x130"
    },
    "FetchCertificateRefused": {f'fetch_certificates_reloads_total{{{OF},result="refused"}}': "0+1x130"},
    "FetchFewOpenFiles": {f"process_open_fds{{{OF}}}": "500000x130"},
}
"""What is otherwise when an alert has to fire."""


@pytest.fixture(scope="module")
def promtool() -> str:
    beside = shutil.which("promtool") or peers.find("promtool")
    return beside or pytest.skip("there is no promtool, which comes with Prometheus")


def only(alert: str) -> str:
    """The rules without all others: promtool takes its time for each."""
    head, *rules = re.split(r"^(?=      - alert: )", RULES.read_text(), flags=re.MULTILINE)
    return head + next(rule for rule in rules if rule.startswith(f"      - alert: {alert}\n"))


def evaluate(promtool: str, directory: Path, rules: str, series: Mapping[str, str], expression: str, value: int) -> str:
    """Has promtool run the rules over the series; what it complains of if the expression has another value then."""
    sample = [{"labels": "{}", "value": value}] if value else []
    test: dict[str, Any] = {
        "interval": "1m",
        "input_series": [{"series": name, "values": values} for name, values in series.items()],
        "promql_expr_test": [{"expr": expression, "eval_time": f"{MINUTES - 1}m", "exp_samples": sample}],
    }
    (directory / "rules.yaml").write_text(rules)
    written = {"rule_files": ["rules.yaml"], "evaluation_interval": "1m", "tests": [test]}
    (directory / "test.yaml").write_text(json.dumps(written))
    command = [promtool, "test", "rules", str(directory / "test.yaml")]
    ran = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    return ran.stdout + ran.stderr if ran.returncode else ""


def test_each_has_a_test() -> None:
    assert set(AILING) == set(ALERTS)


@pytest.mark.parametrize("alert", ALERTS)
def test_an_alert_fires_when_there_is_something_to_look_at(promtool: str, alert: str, tmp_path: Path) -> None:
    fires = f'count(ALERTS{{alertname="{alert}",alertstate="firing"}})'
    assert evaluate(promtool, tmp_path, only(alert), {**HEALTHY, **AILING[alert]}, fires, 1) == ""


def test_none_fires_when_all_is_well(promtool: str, tmp_path: Path) -> None:
    assert (
        evaluate(promtool, tmp_path, RULES.read_text(), HEALTHY, 'count(ALERTS{alertstate=~"firing|pending"})', 0) == ""
    )


def test_promtool_finds_nothing_wrong_with_the_rules(promtool: str) -> None:
    ran = subprocess.run([promtool, "check", "rules", RULES], capture_output=True, text=True, check=False, timeout=120)
    assert ran.returncode == 0, ran.stdout + ran.stderr


def test_they_are_about_what_is_exported(observed: Observed) -> None:
    with observed.server.empty_keyspace() as client:
        client.put(b"key", b"value")
    # what is counted only where something goes wrong, or is watched
    instruments = Instruments()
    Observation(instruments)
    there = {name.partition("{")[0] for name in observed.metrics()}
    there |= {f"{name.replace('.', '_')}{unit}" for name in instruments._all for unit in ("_total", "_seconds_bucket")}
    named = set(METRIC.findall(re.sub(r"^ *(?:#|summary|action).*$", "", RULES.read_text(), flags=re.MULTILINE)))
    assert named - there - _ELSEWHERE == set()

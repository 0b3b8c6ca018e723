"""What is counted and measured, under which names."""

import pytest

from fetch.api import rpc_pb2
from fetch.observation.instruments import OTHER, Instruments
from tests.observability.conftest import Observed

DASHBOARD = (
    "etcd_disk_backend_commit_duration_seconds_bucket",
    "etcd_disk_wal_fsync_duration_seconds_bucket",
    "etcd_mvcc_db_total_size_in_bytes",
    "etcd_network_client_grpc_received_bytes_total",
    "etcd_network_client_grpc_sent_bytes_total",
    "etcd_server_has_leader",
    "etcd_server_leader_changes_seen_total",
    "etcd_server_proposals_applied_total",
    "etcd_server_proposals_committed_total",
    "etcd_server_proposals_failed_total",
    "etcd_server_proposals_pending",
    "grpc_server_handled_total",
    "grpc_server_started_total",
    "process_resident_memory_bytes",
)
"""What etcd's dashboards draw (`contrib/mixin/dashboards`), but for traffic between peers, of which there are none."""

ALERTS = (
    "etcd_disk_backend_commit_duration_seconds_bucket",
    "etcd_disk_wal_fsync_duration_seconds_bucket",
    "etcd_mvcc_db_total_size_in_bytes",
    "etcd_mvcc_db_total_size_in_use_in_bytes",
    "etcd_server_has_leader",
    "etcd_server_leader_changes_seen_total",
    "etcd_server_proposals_failed_total",
    "etcd_server_quota_backend_bytes",
    "grpc_server_handled_total",
    "grpc_server_handling_seconds_bucket",
)
"""What etcd's alerts look at (`contrib/mixin/alerts`), with the same exception."""

ALSO = (
    "etcd_cluster_version",
    "etcd_debugging_lease_granted_total",
    "etcd_debugging_lease_renewed_total",
    "etcd_debugging_lease_revoked_total",
    "etcd_debugging_mvcc_compact_revision",
    "etcd_debugging_mvcc_current_revision",
    "etcd_debugging_mvcc_events_total",
    "etcd_debugging_mvcc_keys_total",
    "etcd_debugging_mvcc_slow_watcher_total",
    "etcd_debugging_mvcc_watcher_total",
    "etcd_mvcc_delete_total",
    "etcd_mvcc_put_total",
    "etcd_mvcc_range_total",
    "etcd_mvcc_txn_total",
    "etcd_server_apply_duration_seconds_bucket",
    "etcd_server_client_requests_total",
    "etcd_server_health_failures",
    "etcd_server_health_success",
    "etcd_server_id",
    "etcd_server_is_leader",
    "etcd_server_slow_apply_total",
    "etcd_server_version",
    "grpc_server_msg_received_total",
    "grpc_server_msg_sent_total",
    "process_cpu_seconds_total",
    "process_max_fds",
    "process_open_fds",
    "process_start_time_seconds",
    "os_fd_limit",
    "os_fd_used",
    "process_virtual_memory_bytes",
)


OWN = ("fetch_event_loop_lag_seconds_bucket",)
"""fetch's own, of the whole daemon."""


@pytest.fixture(scope="module")
def exported(observed: Observed) -> set[str]:
    """The names there are once somebody has put a key."""
    with observed.server.empty_keyspace() as client:
        client.put(b"key", b"value")
    return {name.partition("{")[0] for name in observed.metrics()}


@pytest.mark.parametrize("name", sorted({*DASHBOARD, *ALERTS, *ALSO, *OWN}))
def test_what_dashboards_and_alerts_ask_for_is_exported(exported: set[str], name: str) -> None:
    assert name in exported


def test_codes_are_spelled_as_in_etcds_queries(observed: Observed) -> None:
    with observed.server.empty_keyspace() as client:
        client.put(b"key", b"value")
        with pytest.raises(Exception, match="key is not provided"):
            client.put(b"", b"value")
    labels = 'grpc_type="unary",grpc_service="etcdserverpb.KV",grpc_method="Put"'
    metrics = observed.metrics()
    assert metrics[f'grpc_server_handled_total{{{labels},grpc_code="OK"}}'] >= 1
    assert metrics[f'grpc_server_handled_total{{{labels},grpc_code="InvalidArgument"}}'] >= 1


def test_a_tenants_calls_keys_bytes_and_commits_are_its_own(observed: Observed) -> None:
    tenant = observed.server.endpoint.new_tenant()
    with observed.server.connect_as(tenant) as client:
        client.put(b"a", b"1")
        client.put(b"b", b"2")
        client.range(b"a")
        metrics = observed.metrics()
        stored = client.call("/etcdserverpb.Maintenance/Status", rpc_pb2.StatusRequest(), rpc_pb2.StatusResponse)
    assert metrics[f'fetch_requests_total{{tenant="{tenant}",kind="put",code="OK"}}'] == 2
    assert metrics[f'fetch_request_duration_seconds_count{{tenant="{tenant}",kind="get"}}'] == 1
    assert metrics[f'fetch_keys{{tenant="{tenant}"}}'] == 2
    assert metrics[f'fetch_commit_writes_sum{{tenant="{tenant}"}}'] == 2
    assert metrics[f'etcd_mvcc_db_total_size_in_bytes{{tenant="{tenant}"}}'] <= stored.dbSize


def test_watchers_and_what_they_are_sent_are_counted(observed: Observed) -> None:
    tenant = observed.server.endpoint.new_tenant()
    with observed.server.connect_as(tenant) as client:
        stream = client.open_stream("/etcdserverpb.Watch/Watch", rpc_pb2.WatchRequest, rpc_pb2.WatchResponse)
        with stream:
            create = rpc_pb2.WatchCreateRequest(key=b"a")
            stream.send(rpc_pb2.WatchRequest(create_request=create))
            stream.receive()
            client.put(b"a", b"1")
            stream.receive()
            metrics = observed.metrics()
    assert metrics[f'fetch_watchers{{tenant="{tenant}"}}'] == 1
    assert metrics[f'fetch_events_sent_total{{tenant="{tenant}"}}'] == 1
    assert metrics[f'fetch_watch_lag_seconds_count{{tenant="{tenant}"}}'] == 1


def test_metrics_are_exported_by_otlp_too(observed: Observed) -> None:
    with observed.server.empty_keyspace() as client:
        client.put(b"key", b"value")
    wanted = {"grpc_server_handled_total", "fetch.request.duration", "fetch.commit.writes", "etcd_server_has_leader"}
    assert observed.receiver.wait_for(lambda receiver: wanted <= receiver.metric_names)


def test_tenants_beyond_the_bound_share_a_label() -> None:
    instruments = Instruments(most_tenants=2)
    assert [instruments.tenants.count(f"tenant-{number}") for number in range(4)] == [
        "tenant-0",
        "tenant-1",
        OTHER,
        OTHER,
    ]


def test_a_busy_tenant_takes_the_place_of_a_quiet_one(monkeypatch: pytest.MonkeyPatch) -> None:
    instruments = Instruments(most_tenants=1)
    calls = instruments.counter("calls", "Calls.", ("tenant",))
    calls.add((instruments.tenants.count("quiet"),))
    for _ in range(10):
        calls.add((instruments.tenants.count("busy"),))
    monkeypatch.setattr("fetch.observation.instruments._REBALANCE_SECONDS", 0)
    instruments.metrics()
    calls.add((instruments.tenants.count("busy"),))
    calls.add((instruments.tenants.count("quiet"),))
    assert calls.cells == {(OTHER,): 11, ("busy",): 1}


def test_changes_are_counted_as_etcd_counts_them(observed: Observed) -> None:
    names = [f"etcd_mvcc_{what}_total" for what in ("put", "delete", "txn", "range")]
    with observed.server.empty_keyspace() as client:
        before = observed.metrics()
        client.put(b"a")
        client.txn(
            success=[
                rpc_pb2.RequestOp(request_put=rpc_pb2.PutRequest(key=b"b")),
                rpc_pb2.RequestOp(request_put=rpc_pb2.PutRequest(key=b"c")),
            ]
        )
        client.delete_range(b"a", b"d")
        client.range(b"a", b"d")
        after = observed.metrics()
    # as of etcd 3.7.3, which counts operations: a delete of three keys is one, and a txn of one put is none
    assert [after[name] - before[name] for name in names] == [3, 1, 1, 1]


def test_leases_are_counted(observed: Observed) -> None:
    names = [f"etcd_debugging_lease_{what}_total" for what in ("granted", "renewed", "revoked", "ttl_count")]
    names[-1] = "etcd_debugging_lease_ttl_total_count"
    with observed.server.empty_keyspace() as client:
        before = observed.metrics()
        lease = client.lease_grant(60).ID
        with client.lease_keep_alive() as stream:
            stream.send(rpc_pb2.LeaseKeepAliveRequest(ID=lease))
            stream.receive()
        client.lease_revoke(lease)
        after = observed.metrics()
    assert [after[name] - before.get(name, 0) for name in names] == [1, 1, 1, 1]


def test_a_tenants_revisions_are_told(observed: Observed) -> None:
    tenant = observed.server.endpoint.new_tenant()
    with observed.server.connect_as(tenant) as client:
        client.put(b"a")
        revision = client.put(b"a").header.revision
        client.compact(revision, physical=True)
        metrics = observed.metrics()
    label = f'{{tenant="{tenant}"}}'
    assert metrics[f"etcd_debugging_mvcc_current_revision{label}"] == revision
    assert metrics[f"etcd_debugging_mvcc_compact_revision{label}"] == revision


@pytest.mark.parametrize(
    ("sent", "told"), [("3.7", "3.7"), ("x" * 1000, "unknown"), ("3.7.1-evil", "unknown"), (None, "unknown")]
)
def test_a_clients_version_is_a_label_only_if_it_is_one(observed: Observed, sent: str | None, told: str) -> None:
    name = f'etcd_server_client_requests_total{{type="unary",client_api_version="{told}"}}'
    with observed.server.empty_keyspace() as client:
        before = observed.metrics().get(name, 0)
        client.call(
            "/etcdserverpb.KV/Range",
            rpc_pb2.RangeRequest(key=b"a"),
            rpc_pb2.RangeResponse,
            metadata=[("client-api-version", sent)] if sent else [],
        )
        assert observed.metrics()[name] == before + 1

"""What the engines report and what can be read off them, as metrics and spans.

Two families: etcd's names, with its meaning where fetch has the same thing, and fetch's own by tenant. What etcd has
once for a cluster is here once for a tenant, since a tenant is a cluster: sizes and quota carry the label `tenant`, so
that etcd's alert on a full database fires for the tenant that is full. For tenants without a label of their own the
fullest of them counts.
"""

import functools
import operator
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from opentelemetry import trace

from fetch import errors
from fetch.api.rpc_pb2 import AlarmType
from fetch.engine.batch import Committed, Delivered, Leased
from fetch.engine.engine import StoredEngine
from fetch.engine.layout import NEVER
from fetch.engine.protocol import StorageEngine
from fetch.engine.tenants import Tenants
from fetch.observation import exposition
from fetch.observation.instruments import COUNTS, OTHER, Instruments, Labels
from fetch.observation.process import observe_process
from fetch.observation.refusals import Refusals
from fetch.observation.telemetry import is_tracing
from fetch.stores.protocol import Store, StoreUnavailable

_TENANT = ("tenant",)
FOR_ALL = frozenset(
    {
        "etcd_cluster_version",
        "etcd_server_has_leader",
        "etcd_server_id",
        "etcd_server_is_leader",
        "etcd_server_version",
        "process_resident_memory_bytes",
    }
)
"""What of the daemon a tenant may know: who answers, whether it can, and the one figure that etcdctl asks of it (`check
datascale`), which tells no more of others than the time that calls take. All else is an administrator's."""
_TTL_SECONDS = tuple(float(2**exponent) for exponent in range(24))
_OF_ENGINE = Callable[[StoredEngine], float]


@dataclass(slots=True)
class _Usage:
    """What was last heard of a tenant."""

    stored_bytes: int
    keys: int
    revision: int
    compacted: int


class Observation:
    """Takes reports from the engines, and reads their state when somebody collects."""

    def __init__(self, instruments: Instruments) -> None:
        self.instruments = instruments
        self._names = instruments.tenants
        self._tracer = trace.get_tracer("fetch")
        self._traces = is_tracing()
        self._usage: dict[str, _Usage] = {}
        self._has_leader = True
        self._size = 0
        counter, histogram = instruments.counter, instruments.histogram
        self._fsync = histogram("etcd_disk_wal_fsync_duration_seconds", "Group commits: evaluated, written, on disk.")
        self._backend = histogram("etcd_disk_backend_commit_duration_seconds", "The same, under etcd's other name.")
        self._failed = counter("etcd_server_proposals_failed_total", "Writes whose transaction failed.")
        self._failed.add((), 0)
        self._events = counter("etcd_debugging_mvcc_events_total", "Events that watches were given.")
        self._events.add((), 0)
        self._puts = counter("etcd_mvcc_put_total", "Keys put.")
        self._deletes = counter("etcd_mvcc_delete_total", "Deletes of a key or of a range.")
        self._txns = counter("etcd_mvcc_txn_total", "Writes of more than one operation.")
        for total in (self._puts, self._deletes, self._txns):
            total.add((), 0)
        self._leases = {
            how: counter(f"etcd_debugging_lease_{how}_total", f"Leases {how}.")
            for how in ("granted", "renewed", "revoked")
        }
        for leases in self._leases.values():
            leases.add((), 0)
        self._ttls = histogram(
            "etcd_debugging_lease_ttl_total", "Times to live of the leases granted, in seconds.", bounds=_TTL_SECONDS
        )
        self.refusals = Refusals(instruments)
        self._durable = 0
        self._sent = counter("fetch.events.sent", "Events that watches were given.", _TENANT)
        self._lag = histogram("fetch.watch.lag", "From a commit until a watch is given it.", _TENANT, "s")
        self._commits = histogram("fetch.commit.duration", "Group commits, with repeated evaluation.", _TENANT, "s")
        self._writes = histogram("fetch.commit.writes", "Writes in one group commit.", _TENANT, bounds=COUNTS)
        self._conflicts = counter("fetch.commit.conflicts", "Evaluations that a conflict made void.", _TENANT)
        self._failures = counter("fetch.background.failures", "Failures of what runs in the background.", ("task",))
        self._observe_store()
        observe_process(instruments)

    def report(self, tenant: str, what: Committed | Delivered | Leased) -> None:
        """See `Report` of the engine."""
        if isinstance(what, Leased):
            self._leases[what.how].add((), what.leases)
            if what.ttl:
                self._ttls.record((), what.ttl)
            return
        label = (self._names.label(tenant),)
        if isinstance(what, Delivered):
            self._events.add((), what.events)
            self._sent.add(label, what.events)
            if what.lag is not None:
                self._lag.record(label, what.lag)
            return
        self._fsync.record((), what.seconds)
        self._backend.record((), what.seconds)
        self._commits.record(label, what.seconds)
        self._writes.record(label, what.writes)
        self._conflicts.add(label, max(what.attempts - 1, 0))
        if what.failed:
            self._failed.add((), what.writes)
        else:
            self._durable += what.writes
            for member, alarm in what.raised:
                self.refusals.report("alarm", tenant=tenant, alarm=_name_of(alarm), member=f"{member:x}")
            self._puts.add((), what.puts)
            self._deletes.add((), what.deletes)
            self._txns.add((), what.txns)
            self._leases["revoked"].add((), what.revoked)
            before = self._usage.get(tenant)
            compacted = NEVER if before is None else before.compacted
            self._usage[tenant] = _Usage(what.stored_bytes, what.keys, what.revision, compacted)
        if self._traces:
            for caller in what.callers:
                caller.run(self._trace_commit, what)

    def failed(self, task: str) -> None:
        """Counts a failure of what runs in the background, see `background.Failed`."""
        self._failures.add((task,))

    async def sample(self, tenants: Tenants, store: Store) -> None:
        """Reads what only the store knows: its size, and what the tenants with a label of their own have stored."""
        try:
            self._size = await store.size()
            for engine in tenants.engines():
                if engine.tenant not in self._usage or self._names.label(engine.tenant) != OTHER:
                    try:
                        status = await engine.status()
                    except (errors.Loading, errors.TenantClosed):
                        continue
                    self._usage[engine.tenant] = _Usage(
                        status.stored_bytes, status.keys, status.revision, status.compacted
                    )
            self._has_leader = True
        except StoreUnavailable:
            self._has_leader = False

    async def sample_of(self, engine: StorageEngine) -> None:
        """Reads of the store what one tenant has stored."""
        status = await engine.status()
        self._usage[engine.tenant] = _Usage(status.stored_bytes, status.keys, status.revision, status.compacted)

    def text_of(self, tenant: str) -> bytes:
        """What a tenant may know of its own, for Prometheus, and of the daemon what says nothing of others' doings."""
        return exposition.render(self.instruments.metrics_of(tenant, FOR_ALL))

    def identify(self, version: str, member: int) -> None:
        """Declares who answers: the version of etcd whose behaviour is served, and the ID of its member."""
        cluster = version.rpartition(".")[0]
        for name, label, value in (
            ("etcd_server_version", "server_version", version),
            ("etcd_cluster_version", "cluster_version", cluster),
            ("etcd_server_id", "server_id", f"{member:x}"),
        ):
            self.instruments.observe(name, f"1, for the label {label}.", functools.partial(_one, value), (label,))

    def watch_over(self, tenants: Tenants, quota: int) -> None:
        """Declares what is read off the tenants' engines. `quota` in bytes for each, 0 for none."""

        def total(name: str, description: str, read: _OF_ENGINE) -> None:
            self.instruments.observe(name, description, lambda: [((), sum(map(read, tenants.engines())))])

        def by_tenant(name: str, description: str, read: _OF_ENGINE, combine: "_Combine") -> None:
            self.instruments.observe(
                name,
                description,
                lambda: self._labelled(((engine.tenant, read(engine)) for engine in tenants.engines()), combine),
                _TENANT,
            )

        total("etcd_debugging_mvcc_watcher_total", "Watches.", lambda engine: engine.watches.watchers)
        total(
            "etcd_debugging_mvcc_slow_watcher_total",
            "Watches that read from the log: they start in the past, or could not keep up.",
            lambda engine: engine.watches.behind,
        )
        total("etcd_server_proposals_pending", "Writes that wait for a batch.", lambda engine: engine.waiting_writes)
        total("fetch.tenants", "Tenants that are open.", lambda _: 1)
        by_tenant("fetch.watchers", "Watches.", lambda engine: engine.watches.watchers, operator.add)
        by_tenant("fetch.watchers.behind", "Watches behind.", lambda engine: engine.watches.behind, operator.add)
        by_tenant("etcd_server_quota_backend_bytes", "What a tenant may store; 0: no bound.", lambda _: quota, max)

    def _observe_store(self) -> None:
        observe = self.instruments.observe
        for name in ("etcd_server_proposals_committed_total", "etcd_server_proposals_applied_total"):
            observe(name, "Writes that are durable.", lambda: [((), self._durable)])
        observe("etcd_server_has_leader", "1 while the store answers.", lambda: [((), float(self._has_leader))])
        observe("etcd_server_is_leader", "1: every daemon serves writes.", lambda: [((), 1.0)])
        observe("etcd_server_leader_changes_seen_total", "0: nobody leads.", lambda: [((), 0.0)], monotonic=True)
        observe(
            "fetch.store.size", "What the whole store takes up on its disks.", lambda: [((), self._size)], unit="By"
        )

        def by_tenant(name: str, description: str, read: Callable[[_Usage], float]) -> None:
            def values() -> Iterable[tuple[Labels, float]]:
                return self._labelled(((tenant, read(usage)) for tenant, usage in list(self._usage.items())), max)

            observe(name, description, values, _TENANT)

        for name in ("etcd_mvcc_db_total_size_in_bytes", "etcd_mvcc_db_total_size_in_use_in_bytes"):
            by_tenant(name, "What a tenant has stored. Freed space is reused.", lambda usage: usage.stored_bytes)
        by_tenant("fetch.keys", "Keys of a tenant.", lambda usage: usage.keys)
        by_tenant("etcd_debugging_mvcc_current_revision", "A tenant's revision.", lambda usage: usage.revision)
        by_tenant(
            "etcd_debugging_mvcc_compact_revision",
            "The revision that a tenant was last compacted at; -1: never.",
            lambda usage: usage.compacted,
        )
        observe(
            "etcd_debugging_mvcc_keys_total",
            "Keys of all tenants.",
            lambda: [((), sum(usage.keys for usage in list(self._usage.values())))],
        )

    def _labelled(self, values: Iterable[tuple[str, float]], combine: "_Combine") -> Iterable[tuple[Labels, float]]:
        combined: dict[Labels, float] = {}
        for tenant, value in values:
            label = (self._names.label(tenant),)
            combined[label] = combine(combined[label], value) if label in combined else value
        return combined.items()

    def _trace_commit(self, committed: Committed) -> None:
        """A span in the trace of one of the calls that the batch answers; runs in that call's context."""
        if not trace.get_current_span().is_recording():
            return
        attributes = {
            "fetch.commit.writes": committed.writes,
            "fetch.commit.retries": committed.attempts - 1,
            "fetch.revision": committed.revision,
        }
        span = self._tracer.start_span("commit", attributes=attributes, start_time=committed.started)
        if committed.failed:
            span.set_status(trace.StatusCode.ERROR)
        span.end(committed.started + int(committed.seconds * 1e9))


_Combine = Callable[[float, float], float]


def _one(value: str) -> Iterable[tuple[Labels, float]]:
    return [((value,), 1)]


def _name_of(alarm: int) -> str:
    """What etcd calls a type of alarm; its number where it is made up."""
    return AlarmType.Name(alarm) if alarm in AlarmType.values() else str(alarm)

"""Settings of an etcd, so that what starts an etcd starts fetch: flags and `ETCD_` variables of its unit file.

Those that fetch has, it reads under etcd's variables, too. Of the others some do nothing here, which a line at start
says with the reason. Some would do nothing and must do something, since they keep somebody out or are where somebody is
served: those are accepted as long as they say what fetch does anyway, and refused otherwise. The names are those of
etcd 3.7 (`server/embed/config.go`, `AddFlags`) and of older ones whose unit files still have them.
"""

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fetch.config import peers
from fetch.config.setting import SettingsError, key_of

PREFIX = "ETCD_"
EXPERIMENTAL = "experimental-"
"""What begins so is an experiment of etcd's, whatever its name."""

SHARED = (
    "listen_client_urls",
    "listen_client_http_urls",
    "advertise_client_urls",
    "listen_metrics_urls",
    "cert_file",
    "key_file",
    "trusted_ca_file",
    "client_crl_file",
    "host_whitelist",
    "tls_min_version",
    "tls_max_version",
    "cipher_suites",
    "grpc_keepalive_min_time",
    "grpc_keepalive_interval",
    "grpc_keepalive_timeout",
    "name",
    *peers.NAMES,
    "data_dir",
    "quota_backend_bytes",
    "auto_compaction_mode",
    "auto_compaction_retention",
    "max_request_bytes",
    "max_concurrent_streams",
    "max_txn_ops",
    "watch_progress_notify_interval",
    "warning_unary_request_duration",
    "log_format",
    "log_level",
)
"""Fields of `Settings` that etcd has under the same name."""

RENAMED: Mapping[str, str] = {
    "experimental-watch-progress-notify-interval": "watch_progress_notify_interval",
    "experimental-warning-unary-request-duration": "warning_unary_request_duration",
}
"""Fields of `Settings` under names that etcd has given up."""

_EXPERIMENTS = "etcd's experiments are of its own parts"
_KEPT = "of_etcd"

IDLE: Mapping[str, tuple[str, ...]] = {
    "daemons form no cluster, they share a store": (
        "initial-cluster",
        "initial-cluster-state",
        "initial-cluster-token",
        "force-new-cluster",
        "strict-reconfig-check",
        "max-learners",
        "downgrade-check-time",
        "corrupt-check-time",
        "compact-hash-check-time",
        "discovery",
        "discovery-cacert",
        "discovery-cert",
        "discovery-dial-timeout",
        "discovery-endpoints",
        "discovery-fallback",
        "discovery-insecure-skip-tls-verify",
        "discovery-insecure-transport",
        "discovery-keepalive-time",
        "discovery-keepalive-timeout",
        "discovery-key",
        "discovery-password",
        "discovery-proxy",
        "discovery-request-timeout",
        "discovery-srv",
        "discovery-srv-name",
        "discovery-token",
        "discovery-user",
        "peer-skip-client-san-verification",
    ),
    "there is no Raft and no log of it": (
        "heartbeat-interval",
        "election-timeout",
        "initial-election-tick-advance",
        "pre-vote",
        "raft-read-timeout",
        "raft-write-timeout",
        "snapshot-count",
        "snapshot-catchup-entries",
        "max-snapshots",
        "max-wals",
        "wal-dir",
    ),
    "the store is not bbolt, and has every write on disk before it is acknowledged": (
        "backend-batch-interval",
        "backend-batch-limit",
        "backend-bbolt-freelist-type",
        "bootstrap-defrag-threshold-megabytes",
        "memory-mlock",
        "unsafe-no-fsync",
    ),
    "what compaction leaves behind is cleared in steps of fetch's own": (
        "compaction-batch-limit",
        "compaction-sleep-interval",
    ),
    "certificates are how clients are told apart, users and roles are not served": (
        "auth-token",
        "auth-token-ttl",
        "bcrypt-cost",
    ),
    "the gateway from HTTP is in the daemon itself, and is no client of it": ("client-cert-file", "client-key-file"),
    "no certificates are made at start (`fetch certs` makes some)": ("self-signed-cert-validity",),
    "the transports have their own for this": (
        "socket-reuse-address",
        "socket-reuse-port",
    ),
    "logs go to stderr": ("enable-log-rotation", "log-outputs", "log-rotation-config-json", "logger", "v"),
    "all metrics are served, and OpenTelemetry's own OTEL_ variables say where traces go": (
        "distributed-tracing-address",
        "distributed-tracing-instance-id",
        "distributed-tracing-sampling-rate",
        "distributed-tracing-service-name",
        "enable-distributed-tracing",
        "enable-pprof",
        "metrics",
    ),
    "--warning-unary-request-duration says what is logged as slow": ("warning-apply-duration",),
    "there is nothing of etcd's v2": ("v2-deprecation",),
    _EXPERIMENTS: ("feature-gates",),
}
"""What does nothing here, by the reason."""


@dataclass(frozen=True, slots=True)
class Held:
    """What is accepted only where it says what fetch does anyway: in one of these texts."""

    accepted: tuple[str, ...]
    refusal: str


HELD: Mapping[str, Held] = {
    "client-cert-auth": Held(
        ("true", "t", "1"), "https:// listeners always require a client's certificate: it names the tenant"
    ),
    "cors": Held(("", "*"), "pages of any origin may ask, for which a browser sends no certificate"),
    "enable-grpc-gateway": Held(("true", "t", "1"), "where HTTP is served, the gateway is: it may do what gRPC may"),
    "auto-tls": Held(("false", "f", "0"), "no certificates are made at start: `fetch certs` makes some to try"),
    "client-cert-allowed-hostname": Held(("",), "--tenants says who may come in"),
    "peer-client-cert-auth": Held(("true", "t", "1"), "daemons always require each other's certificates"),
    "peer-auto-tls": Held(("false", "f", "0"), "no certificates are made at start: daemons must know each other's"),
    "peer-crl-file": Held(("",), "revocation lists of daemons are not read, and whom it revokes would be let in"),
    "peer-client-cert-file": Held(("",), "a daemon has one certificate among daemons: --peer-cert-file"),
    "peer-client-key-file": Held(("",), "a daemon has one certificate among daemons: --peer-key-file"),
    "config-file": Held(("",), "an etcd's file of settings is not read: --config names one of fetch's"),
}
"""What is refused unless it says what fetch does. None of this may be given and silently not be done."""


def variable_of(name: str) -> str:
    """The variable of a field, as etcd has it."""
    return PREFIX + name.upper()


def flags() -> list[str]:
    """Etcd's flags that fetch does not have and accepts, experiments not among them."""
    return [f"--{key}" for key in sorted({*(key for keys in IDLE.values() for key in keys), *HELD, *RENAMED})]


def add_to(parser: argparse.ArgumentParser) -> None:
    """Adds etcd's flags that fetch does not have. As in Go, one without a value is true."""
    for flag in flags():
        parser.add_argument(flag, action=_Keep, nargs="?", const="true", help=argparse.SUPPRESS)


def given(options: argparse.Namespace) -> dict[str, str]:
    """Etcd's flags that were given, by their names without hyphens before them."""
    return getattr(options, _KEPT, {})


def take_experiments(arguments: Sequence[str], options: argparse.Namespace) -> list[str]:
    """Keeps experiments of etcd's among the arguments that nobody knows; returns those that nobody knows still."""
    unknown: list[str] = []
    waiting = list(arguments)
    while waiting:
        argument = waiting.pop(0)
        if not argument.startswith("--" + EXPERIMENTAL):
            unknown.append(argument)
            continue
        flag, equals, value = argument.partition("=")
        if not equals:
            value = waiting.pop(0) if waiting and not waiting[0].startswith("-") else "true"
        _keep(options, flag, value)
    return unknown


def shared(environment: Mapping[str, str]) -> dict[str, tuple[str, str]]:
    """Etcd's variables of fetch's settings, by field name: which variable it is, and its text."""
    fields = {key_of(field): field for field in SHARED} | dict(RENAMED)
    return {fields[key]: (variable, text) for variable, key, text in _variables(environment) if key in fields}


def check(given: Mapping[str, str], environment: Mapping[str, str]) -> str:
    """Looks at what there is of etcd's. Returns a line that says what does nothing here, and why; empty for nothing.

    :raises SettingsError: one asks for what fetch does not do, and must not be taken to do
    """
    sources = [*((f"--{key}", key, text) for key, text in given.items()), *_variables(environment)]
    for source, key, text in sources:
        if key in HELD and text.lower() not in map(str.lower, HELD[key].accepted):
            raise SettingsError(f"{source}: {HELD[key].refusal}")
    because = []
    for reason, keys in IDLE.items():
        if idle := [source for source, key, _ in sources if key in keys or (reason == _EXPERIMENTS and _is_one(key))]:
            because.append(f"{', '.join(idle)} ({reason})")
    return f"settings of etcd that do nothing here: {'; '.join(because)}" if because else ""


def _variables(environment: Mapping[str, str]) -> list[tuple[str, str, str]]:
    """Etcd's variables: each with its flag's name and its text. An empty one is none, as in etcd."""
    return [
        (variable, key_of(variable.removeprefix(PREFIX).lower()), text)
        for variable, text in environment.items()
        if variable.startswith(PREFIX) and text
    ]


def _is_one(key: str) -> bool:
    """Whether this is an experiment of etcd's."""
    return key.startswith(EXPERIMENTAL) and key not in RENAMED


def _keep(options: argparse.Namespace, flag: str, value: str) -> None:
    setattr(options, _KEPT, given(options) | {flag.removeprefix("--"): value})


class _Keep(argparse.Action):
    def __call__(
        self,
        parser: argparse.ArgumentParser,  # noqa: ARG002  argparse's signature
        namespace: argparse.Namespace,
        values: Any,
        option_string: str | None = None,
    ) -> None:
        _keep(namespace, str(option_string), values)

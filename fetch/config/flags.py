"""Settings as flags of a command, grouped as an operator looks for them."""

import argparse
from collections.abc import Mapping
from pathlib import Path

from fetch.config import etcd, peers
from fetch.config.setting import Setting, flag_of, variable_of
from fetch.config.settings import declared

GROUPS: Mapping[str, tuple[str, ...]] = {
    "addresses": ("listen_client_urls", "listen_client_http_urls", "advertise_client_urls", "listen_metrics_urls"),
    "daemons on one FoundationDB": ("name", *peers.NAMES),
    "certificates": (
        "cert_file",
        "key_file",
        "trusted_ca_file",
        "client_crl_file",
        "tls_min_version",
        "tls_max_version",
        "cipher_suites",
    ),
    "connections": ("host_whitelist", "grpc_keepalive_min_time", "grpc_keepalive_interval", "grpc_keepalive_timeout"),
    "tenants": ("principal", "tenants", "unknown_tenants", "admin_principals", "anonymous_tenant"),
    "storage": (
        "data_dir",
        "fdb_cluster_file",
        "quota_backend_bytes",
        "auto_compaction_mode",
        "auto_compaction_retention",
    ),
    "requests": (
        "max_request_bytes",
        "max_response_bytes",
        "max_concurrent_streams",
        "max_txn_ops",
        "watch_progress_notify_interval",
    ),
    "chains": ("interceptors", "transaction_interceptors"),
    "processes": ("transport", "workers"),
    "what is told": ("log_format", "log_level", "warning_unary_request_duration", "metrics_tenants"),
}
"""The settings by what they are about. A test asserts that each is in one of them."""

PRECEDENCE = (
    "A flag wins over its variable, a variable over the file, the file over the default. In the file, which is TOML, "
    "--max-txn-ops is a line max-txn-ops = 256, and a table [interceptor.NAME] holds what one interceptor is told. "
    "Lists are separated by commas, or are TOML lists. Durations are written as 500ms, 30s, 10m or 1h30m. "
    "What starts an etcd starts fetch: etcd's flags are accepted, and those that do nothing here are told at start; "
    "its variables (ETCD_DATA_DIR) come behind the file."
)


def add_to(parser: argparse.ArgumentParser) -> None:
    """Adds all settings, and the file that may hold them.

    `parser` must leave out what is not given (`argument_default=argparse.SUPPRESS`), for `given` to tell.
    """
    parser.add_argument("--config", type=Path, metavar="FILE", help="a TOML file of settings")
    settings = declared()
    for title, names in GROUPS.items():
        group = parser.add_argument_group(title)
        for name in names:
            setting = settings[name]
            group.add_argument(flag_of(name), dest=name, metavar=setting.reader.form, help=_help(name, setting))
    parser.usage = f"{parser.prog} [--config FILE] [--SETTING VALUE]…"
    parser.epilog = PRECEDENCE
    etcd.add_to(parser)
    parser.set_defaults(flags=("--config", *map(flag_of, settings), *etcd.flags()))


def given(options: argparse.Namespace) -> dict[str, str]:
    """The flags that were given, by field name. One that etcd has renamed counts where its new name is not given."""
    renamed = {etcd.RENAMED[key]: text for key, text in etcd.given(options).items() if key in etcd.RENAMED}
    return renamed | {name: getattr(options, name) for name in declared() if hasattr(options, name)}


def _help(name: str, setting: Setting) -> str:
    default = f"default: {setting.told_default}; " if setting.told_default else ""
    return f"{setting.description} ({default}{variable_of(name)})"

"""Settings: from flags, the environment and a TOML file, in this order of precedence.

A flag `--max-txn-ops` is `FETCH_MAX_TXN_OPS` in the environment and `max-txn-ops` in the file. Names are etcd's where
etcd has the setting. A table `[interceptor.NAME]` of the file holds the settings of one interceptor.
"""

import ipaddress
import os
import re
import ssl
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from fetch.chain_setting import OPERATION_CHAIN, REQUEST_CHAIN, Chain, resolve
from fetch.tenants.names import validate_tenant_name

_DURATION = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h)")
_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}
_PRINCIPALS = ("cn", "san-uri", "san-dns")
_TRANSPORTS = ("auto", "grpcio", "native")
_LEVELS = ("debug", "info", "warning", "error")


class SettingsError(Exception):
    """A setting that is wrong: one sentence that says which and why."""


@dataclass(frozen=True, slots=True)
class Setting:
    """How a setting is given: what is said of it, and how its text is read."""

    description: str
    parse: Callable[[str], Any]


def _text(value: str) -> str:
    return value


def _list(value: str) -> tuple[str, ...]:
    return tuple(item.strip() for item in value.split(",") if item.strip())


def _number(value: str) -> int:
    try:
        return int(value)
    except ValueError as error:
        raise SettingsError(f"{value!r} is not a whole number") from error


def _duration(value: str) -> float:
    parts = _DURATION.findall(value)
    if not parts or "".join(number + unit for number, unit in parts) != value:
        raise SettingsError(f"{value!r} is not a duration such as 500ms, 30s, 10m or 1h30m")
    return sum(float(number) * _SECONDS[unit] for number, unit in parts)


def _one_of(*choices: str) -> Callable[[str], str]:
    def parse(value: str) -> str:
        if value not in choices:
            raise SettingsError(f"{value!r} is none of {', '.join(choices)}")
        return value

    return parse


def _setting(default: Any, description: str, parse: Callable[[str], Any] = _text) -> Any:
    return field(default=default, metadata={"setting": Setting(description, parse)})


@dataclass(frozen=True, slots=True)
class Settings:
    """Everything that an operator can set. Sizes in bytes, durations in seconds."""

    listen_client_urls: tuple[str, ...] = _setting(("https://127.0.0.1:2379",), "URLs to serve etcd clients on", _list)
    advertise_client_urls: tuple[str, ...] = _setting(
        (), "URLs that MemberList tells; by default those listened on", _list
    )
    cert_file: str | None = _setting(None, "the server's certificate, PEM")
    key_file: str | None = _setting(None, "the server's private key, PEM")
    trusted_ca_file: str | None = _setting(None, "the authority that signs the clients' certificates, PEM")
    data_dir: str = _setting("./data", "directory of the embedded store")
    fdb_cluster_file: str | None = _setting(None, "FoundationDB's cluster file; instead of the embedded store")
    listen_metrics_urls: tuple[str, ...] = _setting((), "http:// URLs to serve metrics and health on", _list)
    max_request_bytes: int = _setting(1536 * 1024, "the largest request that is served", _number)
    max_response_bytes: int = _setting(512 << 20, "the largest answer to a range or a read-only transaction", _number)
    max_concurrent_streams: int = _setting(1000, "calls and streams at once on one connection", _number)
    max_txn_ops: int = _setting(128, "the most operations in one transaction", _number)
    quota_backend_bytes: int = _setting(0, "what a tenant may store; 0: etcd's 2 GiB, negative: no bound", _number)
    watch_progress_notify_interval: float = _setting(600.0, "between two progress notices of a watch", _duration)
    anonymous_tenant: str | None = _setting(None, "the tenant of all callers on http:// listeners")
    principal: str = _setting("cn", "what of the client's certificate names the tenant", _one_of(*_PRINCIPALS))
    tenants: tuple[str, ...] | None = _setting(
        None, "the only tenants there may be; by default any, made at first use", _list
    )
    interceptors: tuple[str, ...] = _setting(
        REQUEST_CHAIN.names, "the request chain, outermost first, or changes to it: +NAME, -NAME", _list
    )
    transaction_interceptors: tuple[str, ...] = _setting(
        OPERATION_CHAIN.names, "the operation chain, outermost first, or changes to it: +NAME, -NAME", _list
    )
    transport: str = _setting(
        "auto", "the gRPC server: grpcio's, the native one, or auto: native if installed", _one_of(*_TRANSPORTS)
    )
    metrics_tenants: int = _setting(100, "how many tenants, the busiest, have metrics of their own", _number)
    warning_unary_request_duration: float = _setting(0.3, "a call that takes longer is logged", _duration)
    workers: int = _setting(1, "processes that share the listeners and the store", _number)
    log_format: str = _setting("console", "how lines are logged: console or json", _one_of("console", "json"))
    log_level: str = _setting("info", "the least level that is logged", _one_of(*_LEVELS))
    interceptor_settings: Mapping[str, Mapping[str, object]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Checks what settings must be to each other.

        :raises SettingsError:
        """
        for setting in ("listen_client_urls", "advertise_client_urls", "listen_metrics_urls"):
            for url in getattr(self, setting):
                _check_url(setting, url)
        if not self.listen_client_urls:
            raise SettingsError("--listen-client-urls: there must be at least one URL")
        if not self.advertise_client_urls:
            for url in self.listen_client_urls:
                if _is_unspecified(urlsplit(url).hostname or ""):
                    raise SettingsError(
                        f"--advertise-client-urls is required when --listen-client-urls is {url}: "
                        "nobody can connect to that address"
                    )
            object.__setattr__(self, "advertise_client_urls", self.listen_client_urls)
        for url in self.listen_metrics_urls:
            if not url.startswith("http://"):
                raise SettingsError(f"--listen-metrics-urls: {url} is not an http:// URL")
        if self.anonymous_tenant is not None:
            _check_tenant("anonymous_tenant", self.anonymous_tenant)
        for name in self.tenants or ():
            _check_tenant("tenants", name)
        if any(url.startswith("http://") for url in self.listen_client_urls) and self.anonymous_tenant is None:
            raise SettingsError("an http:// listener needs --anonymous-tenant NAME: whose tenant its callers are")
        self._resolve_chain("interceptors", REQUEST_CHAIN)
        self._resolve_chain("transaction_interceptors", OPERATION_CHAIN)
        if any(url.startswith("https://") for url in self.listen_client_urls):
            if "authorization" not in self.interceptors:
                raise SettingsError(
                    "--interceptors leaves out authorization, without which an https:// listener serves nobody: "
                    "to add to the chain, say +NAME"
                )
            self._check_certificates()
        for name in (
            "max_request_bytes",
            "max_response_bytes",
            "max_concurrent_streams",
            "max_txn_ops",
            "workers",
            "metrics_tenants",
        ):
            if getattr(self, name) <= 0:
                raise SettingsError(f"{_flag(name)} must be positive")
        if self.workers > (processors := os.cpu_count() or 1):
            raise SettingsError(f"--workers: {self.workers} are more than the {processors} processors of this machine")
        if self.watch_progress_notify_interval < 0.1:
            raise SettingsError("--watch-progress-notify-interval must be at least 100ms")

    def _resolve_chain(self, setting: str, chain: Chain) -> None:
        try:
            object.__setattr__(self, setting, resolve(getattr(self, setting), chain))
        except ValueError as error:
            raise SettingsError(f"{_flag(setting)}: {error}") from error

    def _check_certificates(self) -> None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        for name in ("cert_file", "key_file", "trusted_ca_file"):
            path = getattr(self, name)
            if path is None:
                raise SettingsError(f"an https:// listener needs {_flag(name)} (`fetch certs` makes some to try)")
            try:
                Path(path).read_bytes()
            except OSError as error:
                raise SettingsError(f"{_flag(name)}: cannot read {path}: {error.strerror}") from error
        try:
            # without a password of its own OpenSSL would ask the terminal for that of an encrypted key
            context.load_cert_chain(str(self.cert_file), str(self.key_file), password="")
        except ssl.SSLError as error:
            raise SettingsError(f"--cert-file and --key-file are not a certificate and its key: {error}") from error
        try:
            context.load_verify_locations(str(self.trusted_ca_file))
        except ssl.SSLError as error:
            raise SettingsError(f"--trusted-ca-file is not a certificate: {error}") from error


def declared() -> dict[str, Setting]:
    """All settings that flags, environment and file can give, by their field names."""
    return {item.name: item.metadata["setting"] for item in fields(Settings) if "setting" in item.metadata}


def load(flags: Mapping[str, str], environment: Mapping[str, str], file: Path | None) -> Settings:
    """Settings from their sources. `flags` by field name.

    :raises SettingsError: the first that is wrong
    """
    values: dict[str, Any] = {}
    known = declared()
    tables: Mapping[str, Mapping[str, object]] = {}
    if file is not None:
        given, tables = _read(file)
        by_flag = {_flag(name): name for name in known}
        for key, value in given.items():
            name = by_flag.get(f"--{key}")
            if name is None:
                raise SettingsError(f"{file}: there is no setting {key!r}")
            source = f"{file}: {key}"
            values[name] = _parse(known[name], _as_text(value, source), source)
    for name, setting in known.items():
        variable = "FETCH_" + name.upper()
        if variable in environment:
            values[name] = _parse(setting, environment[variable], variable)
        if name in flags:
            values[name] = _parse(setting, flags[name], _flag(name))
    if values.get("fdb_cluster_file") and values.get("data_dir"):
        raise SettingsError("--fdb-cluster-file and --data-dir exclude each other")
    return Settings(**values, interceptor_settings=tables)


def connection_hint(settings: Settings) -> str:
    """How etcdctl and kube-apiserver connect to what these settings serve, to be copied."""
    url = settings.advertise_client_urls[0]
    if settings.trusted_ca_file is None or url.startswith("http://"):
        return f"  etcdctl --endpoints {url} endpoint status\n  kube-apiserver --etcd-servers {url} …"
    authority = Path(settings.trusted_ca_file)
    tenant = authority.parent / "alpha"
    certificate, key = (
        (f"{tenant}.crt", f"{tenant}.key") if Path(f"{tenant}.crt").exists() else ("TENANT.crt", "TENANT.key")
    )
    return (
        f"  etcdctl --endpoints {url} --cacert {authority} --cert {certificate} --key {key} endpoint status\n"
        f"  kube-apiserver --etcd-servers {url} --etcd-cafile {authority} --etcd-certfile {certificate}"
        f" --etcd-keyfile {key} …"
    )


def _read(file: Path) -> tuple[Mapping[str, Any], Mapping[str, Mapping[str, object]]]:
    try:
        given = tomllib.loads(file.read_text())
    except OSError as error:
        raise SettingsError(f"--config: cannot read {file}: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SettingsError(f"--config: {file} is not TOML: {error}") from error
    tables = given.pop("interceptor", {})
    if not isinstance(tables, dict) or not all(isinstance(table, dict) for table in tables.values()):
        raise SettingsError(f"{file}: [interceptor.NAME] must be a table")
    return given, tables


def _as_text(value: object, source: str) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    if isinstance(value, list) and all(isinstance(item, str) for item in value):
        return ",".join(value)
    raise SettingsError(f"{source} must be a text, a whole number or a list of texts")


def _parse(setting: Setting, text: str, source: str) -> Any:
    try:
        return setting.parse(text)
    except SettingsError as error:
        raise SettingsError(f"{source}: {error}") from error


def _flag(name: str) -> str:
    return "--" + name.replace("_", "-")


def _check_url(setting: str, url: str) -> None:
    try:
        parts = urlsplit(url)
        valid = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port is not None
    except ValueError:
        valid = False
    if not valid or parts.path not in ("", "/"):
        raise SettingsError(f"{_flag(setting)}: {url!r} is not a URL such as https://127.0.0.1:2379")


def _is_unspecified(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_unspecified
    except ValueError:
        return False  # a name


def _check_tenant(setting: str, name: str) -> None:
    try:
        validate_tenant_name(name)
    except ValueError as error:
        raise SettingsError(f"{_flag(setting)}: {error}") from error

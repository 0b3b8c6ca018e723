"""All settings, and what they must be to each other. Names are etcd's where etcd has the setting."""

import ipaddress
import os
import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from urllib.parse import urlsplit

from fetch.config import peers
from fetch.config.chains import OPERATION_CHAIN, REQUEST_CHAIN, Chain, resolve
from fetch.config.setting import (
    BYTES,
    CHAIN,
    DIRECTORY,
    DURATION,
    FILE,
    NAME,
    NAMES,
    NUMBER,
    RETENTION,
    URLS,
    Setting,
    SettingsError,
    flag_of,
    one_of,
    setting,
)
from fetch.tenants.names import validate_tenant_name

_PRINCIPALS = ("cn", "san-uri", "san-dns")
_COMPACTIONS = ("periodic", "revision")
_TLS_VERSIONS = ("TLS1.2", "TLS1.3")
_TRANSPORTS = ("auto", "grpcio", "native")
_LEVELS = ("debug", "info", "warning", "error")
_ETCDS_LEVELS = {"warn": "warning", "panic": "error", "fatal": "error"}


@dataclass(frozen=True, slots=True)
class Settings:
    """Everything that an operator can set. Sizes in bytes, durations in seconds."""

    listen_client_urls: tuple[str, ...] = setting(("https://127.0.0.1:2379",), "where etcd clients are served", URLS)
    listen_client_http_urls: tuple[str, ...] = setting(
        (),
        "where HTTP is served to clients, and then not where gRPC is",
        URLS,
        "the native transport serves it beside gRPC",
    )
    advertise_client_urls: tuple[str, ...] = setting(
        (), "what MemberList tells; required where 0.0.0.0 or [::] is listened on", URLS, "those listened on"
    )
    cert_file: str | None = setting(None, "the server's certificate, PEM", FILE)
    key_file: str | None = setting(None, "the server's private key, PEM", FILE)
    trusted_ca_file: str | None = setting(
        None, "the authority of the clients' certificates, which are required on https://, PEM", FILE
    )
    client_crl_file: str | None = setting(
        None, "what the authorities of the clients' certificates have revoked, PEM or DER", FILE
    )
    name: str = setting("fetch", "what MemberList calls this daemon", NAME)
    listen_peer_urls: tuple[str, ...] = setting(
        (), "where the other daemons on one FoundationDB reach this one, https://", URLS
    )
    initial_advertise_peer_urls: tuple[str, ...] = setting(
        (), "what it tells them; required where 0.0.0.0 or [::] is listened on", URLS, "those listened on"
    )
    peer_cert_file: str | None = setting(None, "this daemon's certificate among daemons, PEM", FILE)
    peer_key_file: str | None = setting(None, "its private key, PEM", FILE)
    peer_trusted_ca_file: str | None = setting(None, "the authority of daemons' certificates, PEM", FILE)
    peer_cert_allowed_cn: tuple[str, ...] = setting(
        (), "the common names that daemons' certificates have", NAMES, "any that the authority has signed"
    )
    peer_cert_allowed_hostname: tuple[str, ...] = setting(
        (), "the DNS names that they have", NAMES, "any that the authority has signed"
    )
    tls_min_version: str = setting("TLS1.2", "the oldest version of TLS that is served", one_of(*_TLS_VERSIONS))
    tls_max_version: str = setting(
        "TLS1.3", "the newest version of TLS that is served", one_of(*_TLS_VERSIONS, also={"": "TLS1.3"})
    )
    cipher_suites: tuple[str, ...] = setting(
        (), "the cipher suites of TLS 1.2 that are served, by Go's names; not by grpcio", CHAIN, "all"
    )
    grpc_keepalive_min_time: float = setting(
        5.0, "how often clients may ping, on grpcio: the native transport answers all pings; 0 is no bound", DURATION
    )
    grpc_keepalive_interval: float = setting(7200.0, "silence after which a connection is pinged; 0 is never", DURATION)
    grpc_keepalive_timeout: float = setting(
        20.0, "how long the answer to a ping may take before the connection is closed; 0 is no ping", DURATION
    )
    data_dir: str = setting("./data", "directory of the embedded store", DIRECTORY)
    fdb_cluster_file: str | None = setting(None, "FoundationDB's cluster file, instead of a data-dir", FILE)
    listen_metrics_urls: tuple[str, ...] = setting((), "http:// URLs for metrics and health", URLS)
    max_request_bytes: int = setting(1536 * 1024, "the largest request that is served", BYTES)
    max_response_bytes: int = setting(512 << 20, "the largest answer to a range or a transaction", BYTES)
    max_concurrent_streams: int = setting(1000, "calls and streams at once on one connection", NUMBER)
    max_txn_ops: int = setting(128, "the most operations in one transaction", NUMBER)
    quota_backend_bytes: int = setting(0, "what one tenant may store; 0 is etcd's 2 GiB, negative is no bound", BYTES)
    auto_compaction_mode: str = setting(
        "periodic", "whether auto-compaction-retention is a time or a number of revisions", one_of(*_COMPACTIONS)
    )
    auto_compaction_retention: str = setting(
        "0", "what every tenant keeps of its past: 10m, hours as 24, or revisions; 0: all, until compacted", RETENTION
    )
    watch_progress_notify_interval: float = setting(
        600.0, "between progress notices of a watch that asked for them; at least 100ms", DURATION
    )
    host_whitelist: tuple[str, ...] = setting(
        ("*",), "the hosts that requests over HTTP without TLS may name; * is any", CHAIN
    )
    anonymous_tenant: str | None = setting(None, "the tenant of everyone on http:// listeners, which need it", NAME)
    principal: str = setting("cn", "what of the client's certificate names the tenant", one_of(*_PRINCIPALS))
    tenants: tuple[str, ...] | None = setting(
        None, "the only tenants there may be", NAMES, "any, each made at its first use"
    )
    unknown_tenants: str = setting(
        "create",
        "a principal that is no tenant yet: let in, which makes it one, or left to an administrator",
        one_of("create", "refuse"),
    )
    admin_principals: tuple[str, ...] = setting(
        (), "the principals that look after tenants, and are let in whatever tenants there may be", NAMES, "nobody"
    )
    interceptors: tuple[str, ...] = setting(
        REQUEST_CHAIN.names, "the request chain, outermost first, or changes to it: +NAME, -NAME", CHAIN
    )
    transaction_interceptors: tuple[str, ...] = setting(
        OPERATION_CHAIN.names, "the operation chain, outermost first, or changes to it: +NAME, -NAME", CHAIN
    )
    transport: str = setting(
        "auto", "the gRPC server; auto is the native one where it is installed", one_of(*_TRANSPORTS)
    )
    metrics_tenants: int = setting(100, "how many tenants, the busiest, have metrics of their own", NUMBER)
    warning_unary_request_duration: float = setting(0.3, "a call that takes longer is logged", DURATION)
    workers: int = setting(
        1, "processes that share the listeners and the store, at most one for each processor", NUMBER
    )
    log_format: str = setting("console", "how lines are logged: for people or for machines", one_of("console", "json"))
    log_level: str = setting("info", "the least level that is logged", one_of(*_LEVELS, also=_ETCDS_LEVELS))
    interceptor_settings: Mapping[str, Mapping[str, object]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Checks what settings must be to each other.

        :raises SettingsError:
        """
        for name in (
            "listen_client_urls",
            "listen_client_http_urls",
            "advertise_client_urls",
            "listen_metrics_urls",
            "listen_peer_urls",
            "initial_advertise_peer_urls",
        ):
            for url in getattr(self, name):
                _check_url(name, url)
        if not self.listen_client_urls:
            raise SettingsError("--listen-client-urls: there must be at least one URL")
        addresses = {urlsplit(url).netloc for url in self.listen_client_urls}
        for url in self.listen_client_http_urls:
            if urlsplit(url).netloc in addresses:
                raise SettingsError(f"--listen-client-http-urls: {url} is among --listen-client-urls, too")
        self._advertise("advertise_client_urls", "listen_client_urls")
        self._advertise("initial_advertise_peer_urls", "listen_peer_urls")
        for url in self.listen_metrics_urls:
            if not url.startswith("http://"):
                raise SettingsError(f"--listen-metrics-urls: {url} is not an http:// URL")
        if self.anonymous_tenant is not None:
            _check_tenant("anonymous_tenant", self.anonymous_tenant)
        for tenant in self.tenants or ():
            _check_tenant("tenants", tenant)
        for administrator in self.admin_principals:
            _check_tenant("admin_principals", administrator)
        if self.anonymous_tenant in self.admin_principals:
            raise SettingsError(
                f"--anonymous-tenant: {self.anonymous_tenant} is among --admin-principals, "
                "so everybody on http:// listeners would be an administrator"
            )
        clients_urls = (*self.listen_client_urls, *self.listen_client_http_urls)
        if any(url.startswith("http://") for url in clients_urls) and self.anonymous_tenant is None:
            raise SettingsError("an http:// listener needs --anonymous-tenant NAME: whose tenant its callers are")
        self._resolve_chain("interceptors", REQUEST_CHAIN)
        self._resolve_chain("transaction_interceptors", OPERATION_CHAIN)
        if any(url.startswith("https://") for url in clients_urls):
            if "authorization" not in self.interceptors:
                raise SettingsError(
                    "--interceptors leaves out authorization, without which an https:// listener serves nobody: "
                    "to add to the chain, say +NAME"
                )
            self._check_certificates("cert_file", "key_file", "trusted_ca_file", "an https:// listener")
        if self.has_peers:
            self._check_peers()
        for name in (
            "max_request_bytes",
            "max_response_bytes",
            "max_concurrent_streams",
            "max_txn_ops",
            "workers",
            "metrics_tenants",
        ):
            if getattr(self, name) <= 0:
                raise SettingsError(f"{flag_of(name)} must be positive")
        if self.workers > (processors := os.cpu_count() or 1):
            raise SettingsError(f"--workers: {self.workers} are more than the {processors} processors of this machine")
        self.retained()
        if self.tls_min_version > self.tls_max_version:
            raise SettingsError(f"--tls-min-version {self.tls_min_version} is above --tls-max-version")
        if self.cipher_suites and self.tls_min_version == "TLS1.3":
            raise SettingsError("--cipher-suites: those of TLS 1.3 cannot be chosen, and nothing else is served")
        if self.watch_progress_notify_interval < 0.1:
            raise SettingsError("--watch-progress-notify-interval must be at least 100ms")

    def retained(self) -> tuple[float, int]:
        """The seconds and the revisions of the past that are kept, of which one is 0; both where nothing is compacted
        without being asked for.

        :raises SettingsError:
        """
        text = self.auto_compaction_retention
        if self.auto_compaction_mode == "revision":
            if not text.isdecimal():
                raise SettingsError(
                    f"--auto-compaction-retention: {text!r} is not a number of revisions, "
                    "as --auto-compaction-mode revision needs it"
                )
            return 0.0, int(text)
        try:
            seconds = 3600.0 * int(text) if text.isdecimal() else float(DURATION.parse(text))
        except SettingsError as error:
            raise SettingsError(f"--auto-compaction-retention: {error}, or a number of hours") from error
        if 0 < seconds < 1:
            raise SettingsError("--auto-compaction-retention must be at least 1s")
        return seconds, 0

    def _advertise(self, name: str, listened: str) -> None:
        """What is not told to be advertised is what is listened on."""
        if getattr(self, name):
            return
        for url in getattr(self, listened):
            if _is_unspecified(urlsplit(url).hostname or ""):
                raise SettingsError(
                    f"{flag_of(name)} is required when {flag_of(listened)} is {url}: nobody can connect to that address"
                )
        object.__setattr__(self, name, getattr(self, listened))

    @property
    def has_peers(self) -> bool:
        """Whether this daemon and others send each other writes."""
        return bool(self.listen_peer_urls) and self.fdb_cluster_file is not None

    @property
    def idle_peers(self) -> str:
        """A line that says which settings of peers do nothing, and why; empty for none."""
        given = [flag_of(name) for name in peers.NAMES if getattr(self, name)]
        if not given or self.has_peers:
            return ""
        why = "--listen-peer-urls is not given" if self.fdb_cluster_file else "an embedded store is one daemon's"
        return f"settings of peers do nothing here, since {why}: {', '.join(given)}"

    def _check_peers(self) -> None:
        peers.check_urls(self.listen_peer_urls)
        self._check_certificates("peer_cert_file", "peer_key_file", "peer_trusted_ca_file", "--listen-peer-urls")
        if self.trusted_ca_file is not None:
            self.check_authorities(
                Path(str(self.peer_trusted_ca_file)).read_bytes(), Path(self.trusted_ca_file).read_bytes()
            )

    def check_authorities(self, of_peers: bytes, of_clients: bytes) -> None:
        """Looks at authorities (PEM) that daemons and clients are to have.

        :raises SettingsError: a tenant's certificate might pass for a daemon's
        """
        peers.check_authorities(
            of_peers,
            of_clients,
            allowed_cn=self.peer_cert_allowed_cn,
            allowed_hostname=self.peer_cert_allowed_hostname,
            principal=self.principal,
            tenants=self.tenants,
        )

    def _resolve_chain(self, name: str, chain: Chain) -> None:
        try:
            object.__setattr__(self, name, resolve(getattr(self, name), chain))
        except ValueError as error:
            raise SettingsError(f"{flag_of(name)}: {error}") from error

    def _check_certificates(self, certificate: str, key: str, authority: str, needed: str) -> None:
        """Looks at the files that settings of these names tell; `needed` is by what."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        for name in (certificate, key, authority):
            path = getattr(self, name)
            if path is None:
                raise SettingsError(f"{needed} needs {flag_of(name)} (`fetch certs` makes some to try)")
            try:
                Path(path).read_bytes()
            except OSError as error:
                raise SettingsError(f"{flag_of(name)}: cannot read {path}: {error.strerror}") from error
        try:
            # without a password of its own OpenSSL would ask the terminal for that of an encrypted key
            context.load_cert_chain(getattr(self, certificate), getattr(self, key), password="")
        except ssl.SSLError as error:
            raise SettingsError(
                f"{flag_of(certificate)} and {flag_of(key)} are not a certificate and its key: {error}"
            ) from error
        try:
            context.load_verify_locations(getattr(self, authority))
        except ssl.SSLError as error:
            raise SettingsError(f"{flag_of(authority)} is not a certificate: {error}") from error


def declared() -> dict[str, Setting]:
    """All settings that flags, environment and file can give, by their field names."""
    return {item.name: item.metadata["setting"] for item in fields(Settings) if "setting" in item.metadata}


def _check_url(name: str, url: str) -> None:
    try:
        parts = urlsplit(url)
        valid = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port is not None
    except ValueError:
        valid = False
    if not valid or parts.path not in ("", "/"):
        raise SettingsError(f"{flag_of(name)}: {url!r} is not a URL such as https://127.0.0.1:2379")


def _is_unspecified(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_unspecified
    except ValueError:
        return False  # a name


def _check_tenant(name: str, tenant: str) -> None:
    try:
        validate_tenant_name(tenant)
    except ValueError as error:
        raise SettingsError(f"{flag_of(name)}: {error}") from error

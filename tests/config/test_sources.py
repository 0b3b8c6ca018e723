"""Where settings come from, and which source wins."""

from pathlib import Path

import pytest

from fetch import config

NO_ENVIRONMENT: dict[str, str] = {}


def test_defaults_are_etcds(tls: dict[str, str]) -> None:
    settings = config.load(tls, NO_ENVIRONMENT, None)
    assert settings.listen_client_urls == ("https://127.0.0.1:2379",)
    assert settings.max_request_bytes == 1572864
    assert settings.max_txn_ops == 128
    assert settings.quota_backend_bytes == 0
    assert settings.watch_progress_notify_interval == 600


def test_authorization_stands_first_by_default(tls: dict[str, str]) -> None:
    settings = config.load(tls, NO_ENVIRONMENT, None)
    assert settings.interceptors[0] == "authorization"


def test_what_is_listened_on_is_advertised_by_default(tls: dict[str, str]) -> None:
    settings = config.load({**tls, "listen_client_urls": "https://127.0.0.1:1"}, NO_ENVIRONMENT, None)
    assert settings.advertise_client_urls == ("https://127.0.0.1:1",)


def test_any_tenant_may_be_by_default(tls: dict[str, str]) -> None:
    assert config.load(tls, NO_ENVIRONMENT, None).tenants is None


@pytest.mark.parametrize(
    ("flag", "variable", "file", "expected"),
    [
        ("1", "2", "3", 1),
        (None, "2", "3", 2),
        (None, None, "3", 3),
        (None, None, None, 128),
        ("1", None, "3", 1),
    ],
)
def test_flags_win_over_the_environment_over_the_file_over_defaults(
    tls: dict[str, str], tmp_path: Path, flag: str | None, variable: str | None, file: str | None, expected: int
) -> None:
    path = tmp_path / "fetch.toml"
    path.write_text("" if file is None else f"max-txn-ops = {file}\n")
    flags = tls if flag is None else {**tls, "max_txn_ops": flag}
    environment = NO_ENVIRONMENT if variable is None else {"FETCH_MAX_TXN_OPS": variable}
    assert config.load(flags, environment, path).max_txn_ops == expected


def test_the_environment_gives_every_setting(tls: dict[str, str]) -> None:
    environment = {f"FETCH_{name.upper()}": value for name, value in tls.items()}
    assert config.load({}, environment, None) == config.load(tls, NO_ENVIRONMENT, None)


def test_a_list_in_the_file_is_as_good_as_commas(tls: dict[str, str], tmp_path: Path) -> None:
    path = tmp_path / "fetch.toml"
    path.write_text('tenants = ["alpha", "beta"]\n')
    assert config.load(tls, NO_ENVIRONMENT, path) == config.load(
        {**tls, "tenants": "alpha, beta"}, NO_ENVIRONMENT, None
    )


def test_a_table_of_the_file_is_handed_to_its_interceptor(tls: dict[str, str], tmp_path: Path) -> None:
    path = tmp_path / "fetch.toml"
    path.write_text("interceptors = ['+limits']\n[interceptor.limits]\nrate = 2.5\n")
    assert config.load(tls, NO_ENVIRONMENT, path).interceptor_settings == {"limits": {"rate": 2.5}}


@pytest.mark.parametrize(
    ("text", "seconds"), [("500ms", 0.5), ("30s", 30), ("10m", 600), ("1h30m", 5400), ("1.5h", 5400)]
)
def test_durations_are_written_as_in_go(tls: dict[str, str], text: str, seconds: float) -> None:
    settings = config.load({**tls, "watch_progress_notify_interval": text}, NO_ENVIRONMENT, None)
    assert settings.watch_progress_notify_interval == seconds


def test_an_http_listener_needs_no_certificates_but_a_tenant() -> None:
    flags = {"listen_client_urls": "http://127.0.0.1:2379", "anonymous_tenant": "dev"}
    assert config.load(flags, NO_ENVIRONMENT, None).anonymous_tenant == "dev"


def test_the_hint_names_the_tenant_beside_the_authority(tls: dict[str, str], certs: Path) -> None:
    hint = config.connection_hint(config.load(tls, NO_ENVIRONMENT, None))
    assert f"--cacert {certs}/ca.crt --cert {certs}/alpha.crt --key {certs}/alpha.key" in hint
    assert f"--etcd-cafile {certs}/ca.crt --etcd-certfile {certs}/alpha.crt --etcd-keyfile {certs}/alpha.key" in hint


def test_the_hint_leaves_the_tenant_open_where_there_is_none(tls: dict[str, str], certs: Path, tmp_path: Path) -> None:
    authority = tmp_path / "ca.crt"
    authority.write_bytes((certs / "ca.crt").read_bytes())
    hint = config.connection_hint(config.load({**tls, "trusted_ca_file": str(authority)}, NO_ENVIRONMENT, None))
    assert "--cert TENANT.crt --key TENANT.key" in hint
